//! A machine, a firewall and the outside as network namespaces in a row.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firewall::agent::{Enforcer, Round};
use firewall::config::Config;
use firewall::wish::Wish;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

/// What has not passed by then never will, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is looked whether something passes that should not.
const GLANCE: Duration = Duration::from_millis(700);

/// Three namespaces in a row, removed at the end.
pub(crate) struct Row {
    pub(crate) names: [String; 3],
}

pub(crate) const IN: usize = 0;
pub(crate) const MID: usize = 1;
pub(crate) const OUT: usize = 2;

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

/// A program made of shell commands. Another process writes it: one that is forked here meanwhile would keep it open for
/// writing for a moment, and what is written to does not start.
pub(crate) fn program(path: &Path, commands: &str) {
    let write = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\""];
    let done = Command::new("sh").args(write).arg(path).arg(commands).status();
    assert!(done.unwrap().success(), "{}", path.display());
}

impl Row {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let run_of = std::process::id();
        let names = ["in", "mid", "out"].map(|place| format!("firewall-{run_of}-{test}-{place}"));
        for name in &names {
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
    pub(crate) fn at<T: Send>(&self, place: usize, action: impl FnOnce() -> T + Send) -> T {
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
    pub(crate) fn serve(&self, place: usize, address: &str) {
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
    pub(crate) fn connect(&self, place: usize, to: &str) -> Option<(Talk, String)> {
        let begin = Instant::now();
        loop {
            let talk = self.connect_once(place, to);
            if talk.is_some() || begin.elapsed() > PATIENCE {
                return talk;
            }
        }
    }

    fn connect_once(&self, place: usize, to: &str) -> Option<(Talk, String)> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.at(place, || TcpStream::connect_timeout(&to, GLANCE)).ok()?;
        let mut talk = Talk { reader: BufReader::new(stream.try_clone().unwrap()), stream };
        let peer = talk.hear_within(PATIENCE)?;
        Some((talk, peer))
    }

    pub(crate) fn passes(&self, place: usize, to: &str) -> bool {
        self.connect(place, to).is_some()
    }

    /// Whether nothing passes now.
    pub(crate) fn is_shut(&self, place: usize, to: &str) -> bool {
        self.connect_once(place, to).is_none()
    }

    pub(crate) fn nft(&self, line: &str) {
        assert!(run(&format!("ip netns exec {} nft {line}", self.names[MID])), "{line}");
    }

    pub(crate) fn round(&self, enforcer: &mut Enforcer, wish: Option<&Wish>) -> Round {
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
pub(crate) struct Talk {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Talk {
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.stream, "{line}").unwrap();
    }

    pub(crate) fn hear(&mut self) -> Option<String> {
        self.hear_within(PATIENCE)
    }

    fn hear_within(&mut self, patience: Duration) -> Option<String> {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        (!line.is_empty()).then(|| line.trim().to_owned())
    }

    pub(crate) fn echoes(&mut self) -> bool {
        self.say("hello");
        self.hear().as_deref() == Some("hello")
    }

    /// Whether what is said now does not come back.
    pub(crate) fn is_cut(&mut self) -> bool {
        self.say("hello");
        self.hear_within(GLANCE).is_none()
    }
}

pub(crate) fn config(folder: &Path) -> Config {
    let text = format!(
        "machine = \"m\"\napi_url = \"http://127.0.0.1:1\"\ntoken_file = \"t\"\nstate_dir = \"{}\"",
        folder.display()
    );
    toml::from_str(&text).unwrap()
}

pub(crate) fn tcp(ports: Value, to: &str) -> Value {
    json!({"protocol": "IP_PROTOCOL_TCP", "ports": ports, "to": [to]})
}

pub(crate) fn wish(generation: u64, egress: Value, ingress: Value) -> Wish {
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
