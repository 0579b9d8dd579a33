//! A real guest: what it is asked, what it keeps, and that it goes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::{Card, Guest, Image, Link, Spec, kernel};

fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab-cache")
}

#[test]
fn a_guest_answers_and_keeps_its_disk() {
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        eprintln!("not run: this needs QEMU");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let begin = Instant::now();
    let (kernel, _) = kernel::kernel(&cache()).expect("kernel");
    let disk = folder.path().join("disk");
    Image::new()
        .module("vrf")
        .start("echo started >/run/started")
        .build(&kernel, &disk)
        .expect("disk");
    let built = begin.elapsed();
    let wire = |name: &str| folder.path().join(name);
    let spec = Spec {
        name: "box".into(),
        folder: folder.path().join("run"),
        kernel: kernel.image(),
        disk,
        memory_mb: 160,
        cards: vec![Card {
            name: "up0".into(),
            mac: "52:54:00:67:00:01".into(),
            link: Link::Socket { local: wire("a"), remote: wire("b") },
        }],
    };
    let begin = Instant::now();
    let guest = Guest::start(&spec).expect("guest");
    let booted = begin.elapsed();
    let begin = Instant::now();
    assert_eq!(guest.ok(&["cat", "/run/started"]).expect("start"), "started\n");
    eprintln!("disk {built:.1?}, boot {booted:.1?}, one command {:.0?}", begin.elapsed());

    assert!(guest.ok(&["ip", "link", "show", "up0"]).expect("card").contains("52:54:00:67:00:01"));
    guest.ok(&["ip", "link", "add", "vrf7", "type", "vrf", "table", "1007"]).expect("vrf");

    let failed = guest.run(&["sh", "-c", "echo it\\'s no good >&2; exit 3"]).expect("answer");
    assert_eq!((failed.status, &failed.stderr[..]), (3, "it's no good\n"));
    assert_eq!(guest.run(&["no-such-program"]).expect("answer").status, 127);
    let begin = Instant::now();
    let slow = guest.run_for(&["sleep", "1000"], Duration::from_secs(1)).expect("answer");
    assert_eq!(slow.status, 124);
    assert!(begin.elapsed() < Duration::from_secs(500), "it was waited for");

    // Several at once, and more than there are ways.
    std::thread::scope(|scope| {
        for number in 0..6 {
            let guest = &guest;
            scope.spawn(move || {
                let said = guest.ok(&["sh", "-c", &format!("sleep 0.2; echo {number}")]);
                assert_eq!(said.expect("answer"), format!("{number}\n"));
            });
        }
    });

    let text: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    guest.write("/var/lib/kept/file", &text, 0o640).expect("written");
    let said = guest.ok(&["stat", "-c", "%s %a", "/var/lib/kept/file"]).expect("there");
    assert_eq!(said, "100000 640\n");
    let long = guest.ok(&["sh", "-c", "ls -lR /usr/lib; ls -lR /sys/class"]).expect("long");
    assert!(long.len() > 10_000);

    let pid = guest.spawn(&["sleep", "1000"], "/var/log/sleep.log").expect("spawned");
    guest.ok(&["sh", "-c", &format!("kill {pid}")]).expect("it runs");

    let begin = Instant::now();
    guest.reboot().expect("reboot");
    eprintln!("reboot {:.1?}", begin.elapsed());
    assert_eq!(guest.run(&["ip", "link", "show", "vrf7"]).expect("answer").status, 1);
    guest.ok(&["stat", "/var/lib/kept/file"]).expect("kept");
    guest.stop();
    spec.channel().wait(Duration::from_millis(100)).expect_err("it is gone");
}
