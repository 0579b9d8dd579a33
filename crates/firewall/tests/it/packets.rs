//! Real packets through the real packet filter.

use std::time::Instant;

use firewall::agent::{Enforcer, Round};
use firewall::config::Config;
use serde_json::json;

use crate::row::{IN, MID, OUT, Row, config, program, tcp, wish};

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
    assert!(row.is_shut(IN, "203.0.113.100:443"));

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
    assert_eq!(row.connect(IN, "[2001:db8::100]:443").expect("IPv6 passes").1, "fd00:7::2");
    let (mut ended, _) =
        row.connect(IN, "203.0.113.100:8005").expect("the middle of a range passes");
    assert!(row.passes(IN, "203.0.113.100:8000") && row.passes(IN, "203.0.113.100:8010"));
    assert!(row.is_shut(IN, "203.0.113.100:8011"));
    // a static address inside, reached from outside
    assert_eq!(row.connect(OUT, "203.0.113.50:22").expect("22 passes").1, "203.0.113.100");
    assert!(row.is_shut(OUT, "203.0.113.50:23"));
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
    assert!(kept.echoes() && ended.is_cut());
    assert!(row.is_shut(IN, "203.0.113.100:8005"));

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
        assert!(row.is_shut(IN, "203.0.113.100:8080"), "{by_hand}");
        assert!(!row.round(&mut enforcer, Some(&only)).news, "{by_hand}");
    }
    // a chain of another kind where ours should be
    row.nft("flush ruleset");
    row.nft("add table inet metal");
    row.nft("add chain inet metal forward { type filter hook input priority 5 ; policy accept ; }");
    assert_eq!(row.round(&mut enforcer, Some(&only)).report.error, "");
    assert!(kept.echoes() && row.is_shut(IN, "203.0.113.100:8080"));

    // a reboot without the control plane
    drop(enforcer);
    row.nft("flush ruleset");
    let mut enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    assert!(row.passes(IN, "203.0.113.100:443") && row.is_shut(IN, "203.0.113.100:8080"));
    assert_eq!(row.round(&mut enforcer, None).report.generation, 1);
    // and one with a damaged disk
    drop(enforcer);
    for name in ["desired", "desired.previous"] {
        std::fs::write(folder.path().join(name), "damaged").unwrap();
    }
    let _enforcer = row.at(MID, || Enforcer::start(&config(folder.path())));
    assert!(row.is_shut(IN, "203.0.113.100:443"));
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
    assert!(row.is_shut(IN, "203.0.113.100:443"));
    program(&nft, "exec nft \"$@\"");
    let only = wish(1, json!([tcp(json!([443]), "0.0.0.0/0")]), json!([]));
    assert_eq!(row.round(&mut enforcer, Some(&only)).report.error, "");
    assert!(row.passes(IN, "203.0.113.100:443"));
}

#[test]
fn a_disk_that_takes_nothing_stops_nobody() {
    let Some(row) = Row::new("disk") else { return };
    let folder = tempfile::tempdir().unwrap();
    row.serve(OUT, "203.0.113.100:443");
    let config = config(folder.path());
    let in_the_way = config.state_dir.join("desired.next");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let mut enforcer = row.at(MID, || Enforcer::start(&config));
    let only = wish(1, json!([tcp(json!([443]), "0.0.0.0/0")]), json!([]));
    let report = row.round(&mut enforcer, Some(&only)).report;
    assert!(report.error.contains("hold until the next start only"), "{}", report.error);
    assert!(row.passes(IN, "203.0.113.100:443"));
    std::fs::remove_dir(in_the_way).unwrap();
    assert_eq!(row.round(&mut enforcer, Some(&only)).report.error, "");
    // and the next start knows it
    drop(enforcer);
    row.nft("delete table inet metal");
    row.at(MID, || Enforcer::start(&config));
    assert!(row.passes(IN, "203.0.113.100:443"));
}
