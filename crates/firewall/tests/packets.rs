//! Real packets through the real packet filter: a machine, a firewall and the outside as network namespaces.
//!
//! Needs root and `nft`; where these are missing the tests say that they were not run.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use firewall::agent::{Enforcer, Round};
use firewall::config::Config;
use firewall::wish::Wish;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

/// How long a packet may take; dropped ones take as long.
const PATIENCE: Duration = Duration::from_millis(700);

/// Three namespaces in a row, removed at the end.
struct Row {
    names: [String; 3],
}

const IN: usize = 0;
const MID: usize = 1;
const OUT: usize = 2;

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output();
    done.is_ok_and(|done| {
        if !done.status.success() {
            eprintln!("{line}: {}", String::from_utf8_lossy(&done.stderr));
        }
        done.status.success()
    })
}

impl Row {
    fn new(test: &str) -> Option<Self> {
        let names = ["in", "mid", "out"].map(|place| format!("firewall-{test}-{place}"));
        for name in &names {
            // left over by a test that was killed
            Command::new("ip").args(["netns", "del", name]).output().ok();
            if !run(&format!("ip netns add {name}")) {
                eprintln!("not run: network namespaces need root and iproute2");
                return None;
            }
        }
        let row = Self { names };
        let [machine, firewall, outside] = &row.names;
        for line in [
            format!("ip -n {machine} link add lan0 type veth peer name vlan1 netns {firewall}"),
            format!("ip -n {outside} link add lan0 type veth peer name vlan2 netns {firewall}"),
            format!("ip -n {machine} addr add 10.0.0.2/22 dev lan0"),
            format!("ip -n {machine} addr add fd00:7::2/64 dev lan0 nodad"),
            format!("ip -n {machine} addr add 203.0.113.50/32 dev lo"),
            format!("ip -n {firewall} addr add 10.0.0.1/22 dev vlan1"),
            format!("ip -n {firewall} addr add fd00:7::1/64 dev vlan1 nodad"),
            format!("ip -n {firewall} addr add 203.0.113.1/24 dev vlan2"),
            format!("ip -n {firewall} addr add 2001:db8::1/64 dev vlan2 nodad"),
            format!("ip -n {outside} addr add 203.0.113.100/24 dev lan0"),
            format!("ip -n {outside} addr add 2001:db8::100/64 dev lan0 nodad"),
        ] {
            assert!(run(&line), "{line}");
        }
        for (place, device) in
            [(machine, "lan0"), (firewall, "vlan1"), (firewall, "vlan2"), (outside, "lan0")]
        {
            assert!(
                run(&format!("ip -n {place} link set lo up"))
                    && run(&format!("ip -n {place} link set {device} up"))
            );
        }
        for line in [
            format!("ip -n {machine} route add default via 10.0.0.1"),
            format!("ip -n {machine} route add default via fd00:7::1"),
            format!("ip -n {firewall} route add 203.0.113.50/32 via 10.0.0.2"),
            format!("ip -n {outside} route add 203.0.113.50/32 via 203.0.113.1"),
            format!("ip -n {outside} route add 10.0.0.0/22 via 203.0.113.1"),
            format!("ip -n {outside} route add fd00:7::/64 via 2001:db8::1"),
            format!(
                "ip netns exec {firewall} sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
            ),
        ] {
            assert!(run(&line), "{line}");
        }
        Some(row)
    }

    /// Does something in one of the namespaces.
    fn at<T: Send>(&self, place: usize, action: impl FnOnce() -> T + Send) -> T {
        let path = format!("/var/run/netns/{}", self.names[place]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            thread.join().unwrap()
        })
    }

    /// A server that says who called, then repeats each line; after `later` it waits before it does.
    fn serve(&self, place: usize, address: &str) {
        let listener = self.at(place, || TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let peer = stream.peer_addr().unwrap().ip();
                    writeln!(stream, "{peer}").unwrap();
                    let lines = BufReader::new(stream.try_clone().unwrap());
                    for line in lines.lines() {
                        let Ok(line) = line else { return };
                        if line == "later" {
                            std::thread::sleep(Duration::from_millis(400));
                        }
                        if writeln!(stream, "{line}").is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// A connection, and from where it comes for the server.
    fn connect(&self, place: usize, to: &str) -> Option<(Talk, String)> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.at(place, || TcpStream::connect_timeout(&to, PATIENCE)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Talk { reader: BufReader::new(stream.try_clone().unwrap()), stream };
        let peer = talk.hear()?;
        Some((talk, peer))
    }

    fn passes(&self, place: usize, to: &str) -> bool {
        self.connect(place, to).is_some()
    }

    fn nft(&self, line: &str) {
        assert!(run(&format!("ip netns exec {} nft {line}", self.names[MID])), "{line}");
    }

    fn round(&self, enforcer: &mut Enforcer, wish: Option<&Wish>) -> Round {
        self.at(MID, || enforcer.round(wish))
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for name in &self.names {
            run(&format!("ip netns del {name}"));
        }
    }
}

/// An open connection.
struct Talk {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Talk {
    fn say(&mut self, line: &str) {
        writeln!(self.stream, "{line}").unwrap();
    }

    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        (!line.is_empty()).then(|| line.trim().to_owned())
    }

    fn echoes(&mut self) -> bool {
        self.say("hello");
        self.hear().as_deref() == Some("hello")
    }
}

fn config(folder: &std::path::Path) -> Config {
    let text = format!(
        "machine = \"m\"\napi_url = \"http://127.0.0.1:1\"\ntoken_file = \"t\"\nstate_dir = \"{}\"",
        folder.display()
    );
    toml::from_str(&text).unwrap()
}

fn tcp(ports: Value, to: &str) -> Value {
    json!({"protocol": "IP_PROTOCOL_TCP", "ports": ports, "to": [to]})
}

fn wish(generation: u64, egress: Value, ingress: Value) -> Wish {
    serde_json::from_value(json!({
        "allocation": "a", "generation": generation.to_string(), "project": "p", "rules": {"egress": egress, "ingress": ingress},
        "networks": [
            {"network": "private", "networkType": "NETWORK_TYPE_CHILD", "project": "p", "vrf": "1",
                "prefixes": ["10.0.0.0/22", "fd00:7::/64"], "ips": ["10.0.0.1", "fd00:7::1"]},
            {"network": "internet", "networkType": "NETWORK_TYPE_EXTERNAL", "vrf": "2", "prefixes": ["203.0.113.0/24"], "ips": ["203.0.113.1"],
                "destinationPrefixes": ["0.0.0.0/0"], "natType": "NAT_TYPE_IPV4_MASQUERADE"},
        ],
    }))
    .unwrap()
}

fn packets(round: &Round, name: &str) -> u64 {
    let counters = round.report.rules.iter().chain(&round.report.drops);
    counters.filter(|counter| counter.name == name).map(|counter| counter.packets).sum()
}

#[test]
fn rules_let_pass_what_they_say_and_change_under_open_connections() {
    let Some(row) = Row::new("rules") else { return };
    let folder = tempfile::tempdir().unwrap();
    for port in [443, 8000, 8005, 8010, 8011] {
        row.serve(OUT, &format!("203.0.113.100:{port}"));
    }
    row.serve(OUT, "[2001:db8::100]:443");
    row.serve(IN, "203.0.113.50:22");
    row.serve(IN, "203.0.113.50:23");

    // nothing is known: nothing passes
    let mut enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    assert!(!row.passes(IN, "203.0.113.100:443"));

    let world = "0.0.0.0/0";
    let web = tcp(json!([443]), world);
    let six = tcp(json!([443]), "::/0");
    let range =
        tcp(json!([8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010, 20]), world);
    let ssh = json!([{"protocol": "IP_PROTOCOL_TCP", "ports": [22], "from": ["203.0.113.0/24"]}]);
    let first = wish(1, json!([web, range, six]), ssh.clone());
    let round = row.round(&mut enforcer, Some(&first));
    assert_eq!((round.report.error.as_str(), round.report.generation, round.news), ("", 1, true));

    // the outside sees the firewall's address; IPv6 is not translated
    let (mut kept, peer) = row.connect(IN, "203.0.113.100:443").expect("443 passes");
    assert_eq!(peer, "203.0.113.1");
    // neighbours are not known yet, and a lost first packet is sent again after a second
    let six_to = (0..10).find_map(|_| row.connect(IN, "[2001:db8::100]:443"));
    assert_eq!(six_to.expect("IPv6 passes").1, "fd00:7::2");
    let (mut ended, _) =
        row.connect(IN, "203.0.113.100:8005").expect("the middle of a range passes");
    assert!(row.passes(IN, "203.0.113.100:8000") && row.passes(IN, "203.0.113.100:8010"));
    assert!(!row.passes(IN, "203.0.113.100:8011"));
    // a static address inside, reached from outside
    assert_eq!(row.connect(OUT, "203.0.113.50:22").expect("22 passes").1, "203.0.113.100");
    assert!(!row.passes(OUT, "203.0.113.50:23"));
    assert!(kept.echoes() && ended.echoes());
    // what a round finds as it should be is no news
    let round = row.round(&mut enforcer, Some(&first));
    assert!(!round.news);
    let before = packets(&round, "egress tcp to 0.0.0.0/0 port 443");
    assert!(before >= 8, "both directions count: {before}");
    assert!(packets(&round, "no rule allows it") >= 2);

    // a rule goes: its connections end, others go on, although the server speaks first
    kept.say("later");
    let second = wish(2, json!([six, web]), ssh.clone());
    let started = Instant::now();
    let round = row.round(&mut enforcer, Some(&second));
    eprintln!("a change of rules takes {:?}", started.elapsed());
    assert_eq!((round.report.error.as_str(), round.report.generation), ("", 2));
    assert!(packets(&round, "egress tcp to 0.0.0.0/0 port 443") >= before, "counters go on");
    assert_eq!(kept.hear().as_deref(), Some("later"));
    assert!(kept.echoes() && !ended.echoes());
    assert!(!row.passes(IN, "203.0.113.100:8005"));

    // what cannot be applied changes nothing
    let third = wish(3, json!([tcp(json!([443]), "nonsense")]), json!([]));
    let round = row.round(&mut enforcer, Some(&third));
    assert_eq!(round.report.generation, 2);
    assert!(round.report.error.contains("nonsense"), "{}", round.report.error);
    assert!(kept.echoes() && row.passes(IN, "203.0.113.100:443"));
    // and the past does not come back
    assert_eq!(row.round(&mut enforcer, Some(&first)).report.generation, 2);
}

#[test]
fn what_somebody_changes_by_hand_is_taken_back() {
    let Some(row) = Row::new("drift") else { return };
    let folder = tempfile::tempdir().unwrap();
    for port in [443, 8080] {
        row.serve(OUT, &format!("203.0.113.100:{port}"));
    }
    let mut enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    let only = wish(1, json!([tcp(json!([443]), "0.0.0.0/0")]), json!([]));
    row.round(&mut enforcer, Some(&only));
    let (mut kept, _) = row.connect(IN, "203.0.113.100:443").expect("443 passes");
    for by_hand in [
        "insert rule inet metal forward accept",
        "flush chain inet metal forward",
        "add chain inet metal extra",
        "flush ruleset",
    ] {
        row.nft(by_hand);
        let round = row.round(&mut enforcer, Some(&only));
        assert_eq!((round.report.error.as_str(), round.news), ("", true), "{by_hand}");
        assert!(kept.echoes() && row.passes(IN, "203.0.113.100:443"), "{by_hand}");
        assert!(!row.passes(IN, "203.0.113.100:8080"), "{by_hand}");
        assert!(!row.round(&mut enforcer, Some(&only)).news, "{by_hand}");
    }
    // a chain of another kind where ours should be
    row.nft("flush ruleset");
    row.nft("add table inet metal");
    row.nft("add chain inet metal forward { type filter hook input priority 5 ; policy accept ; }");
    assert_eq!(row.round(&mut enforcer, Some(&only)).report.error, "");
    assert!(kept.echoes() && !row.passes(IN, "203.0.113.100:8080"));

    // a reboot without the control plane
    drop(enforcer);
    row.nft("flush ruleset");
    let mut enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    assert!(row.passes(IN, "203.0.113.100:443") && !row.passes(IN, "203.0.113.100:8080"));
    assert_eq!(row.round(&mut enforcer, None).report.generation, 1);
    // and one with a damaged disk
    drop(enforcer);
    for name in ["desired", "desired.previous"] {
        std::fs::write(folder.path().join(name), "damaged").unwrap();
    }
    let _enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    assert!(!row.passes(IN, "203.0.113.100:443"));
}

#[test]
fn without_a_filter_nothing_is_forwarded() {
    let Some(row) = Row::new("shut") else { return };
    let folder = tempfile::tempdir().unwrap();
    row.serve(OUT, "203.0.113.100:443");
    assert!(row.passes(OUT, "203.0.113.100:443") && row.passes(IN, "203.0.113.100:443"));
    // a program that is not there, a moment later it is
    let nft = folder.path().join("nft");
    let config = Config { nft: nft.clone(), ..config(folder.path()) };
    let mut enforcer = row.at(MID, || Enforcer::start(&config));
    assert!(!row.passes(IN, "203.0.113.100:443"));
    std::fs::write(&nft, "#!/bin/sh\nexec nft \"$@\"\n").unwrap();
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let only = wish(1, json!([tcp(json!([443]), "0.0.0.0/0")]), json!([]));
    assert_eq!(row.round(&mut enforcer, Some(&only)).report.error, "");
    assert!(row.passes(IN, "203.0.113.100:443"));
}
