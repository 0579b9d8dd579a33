//! Conversations on a real network.

use crate::machine::Machine;
use crate::world::{self, World, inside, possible};

const IPXE: [(u8, &[u8]); 3] =
    [(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0]), (77, b"iPXE")];
const INSTALLER: [(u8, &[u8]); 1] = [(60, b"metal-installer")];

fn uuid(byte: u8) -> String {
    uuid::Uuid::from_bytes([byte; 16]).to_string()
}

fn world() -> World {
    let kernel: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    World::new([("vmlinuz", kernel), ("initrd.img", b"initrd".to_vec())], "console=ttyS0 panic=1")
}

/// The URLs in a boot script.
fn urls(script: &str) -> Vec<String> {
    script
        .split_whitespace()
        .filter(|word| word.starts_with("http://"))
        .map(str::to_owned)
        .collect()
}

fn eventually(what: &str, is: impl Fn() -> bool) {
    world::eventually(what, || is().then_some(()).ok_or_else(String::new));
}

#[test]
fn from_power_on_to_the_configuration() {
    if !possible() {
        return;
    }
    let world = world();
    world.start();
    let machine = Machine::new(&world, 1);
    let (address, options) = machine.dhcp(7, &IPXE);
    assert_eq!(address.to_string(), "10.0.1.100");
    let option = |code| options.iter().find(|(c, _)| *c == code).map(|(_, data)| data.clone());
    assert_eq!(option(67).unwrap(), b"http://10.0.1.1/boot.ipxe");
    eventually("the control plane is asked about the new name", || {
        world.fake.was_asked(&format!("claim {} 52:54:00:00:01:01 leaf01 swp1", uuid(7)))
    });

    let (status, script) = machine.text("/boot.ipxe");
    assert_eq!(status, 200);
    let boots = "boot kernel initrd=initrd0 console=ttyS0 panic=1 || goto again\n";
    assert!(script.contains(boots), "{script}");
    assert!(world.fake.was_asked("boot Bearer secret-of-the-boot-service"));
    assert!(!script.contains("secret"), "{script}");
    let urls = urls(&script);
    let (status, kernel) = machine.get(&urls[0]);
    assert_eq!((status, kernel.len()), (200, 3_000_000));
    assert_eq!(machine.get(&urls[1]), (200, b"initrd".to_vec()));
    eventually("the boot is recorded", || world.fake.was_asked(&format!("dhcp {} lab", uuid(7))));

    let (address, options) = machine.dhcp(7, &INSTALLER);
    assert_eq!(address.to_string(), "10.0.1.100", "the same address");
    let url = options.into_iter().find(|(code, _)| *code == 224).unwrap().1;
    let (status, config) = machine.text(&String::from_utf8(url).unwrap());
    assert_eq!(status, 200, "{config}");
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let want = serde_json::json!({
        "version": 1, "uuid": uuid(7), "partition": "lab", "api_url": "http://10.255.0.1:8080",
        "token": format!("token-of-{}", uuid(7)), "ntp_servers": ["ntp.example"], "ca_cert": null,
    });
    assert_eq!(config, want);
    assert_eq!(machine.text("/config?uuid=00000000-0000-0000-0000-000000000001").0, 403);
    assert!(!world.log().contains("token-of"), "no secret in the log");
    // the kernel makes an address from our router advertisement; iPXE would wait 15 s without
    eventually("an IPv6 address", || machine.addresses().contains("inet6 fd99::1:"));

    let metrics = inside(&world.server, || {
        ureq::get("http://127.0.0.1:9100/metrics")
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    });
    assert!(metrics.contains("boot_configs_total{result=\"ok\"} 1"), "{metrics}");
    world.stop();
}

#[test]
fn nobody_gets_the_configuration_of_another_machine() {
    if !possible() {
        return;
    }
    let world = world();
    world.start();
    let (honest, liar) = (Machine::new(&world, 1), Machine::new(&world, 2));
    let (address, _) = honest.dhcp(7, &INSTALLER);
    let (own, _) = liar.dhcp(7, &INSTALLER);
    assert_ne!(address, own);
    let (status, text) = liar.text("/config");
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("is claimed by 52:54:00:00:01:01 already"), "{text}");
    let (_, script) = liar.text("/boot.ipxe");
    assert!(
        script.contains("claimed by 52:54:00:00:01:01 already") && script.contains("dhcp ||"),
        "{script}"
    );
    assert_eq!(honest.text("/config").0, 200, "the honest one is not disturbed");

    // an address that nobody was given, and one that was given to somebody else
    liar.use_address("10.0.1.50".parse().unwrap());
    let (status, text) = liar.text("/config");
    assert_eq!(
        (status, text.as_str()),
        (403, "no machine of this network has the address 10.0.1.50; get one by DHCP first\n")
    );
    honest.ip("link set eth0 down");
    liar.use_address(address);
    let (status, text) = liar.text("/config");
    assert_eq!(status, 403, "{text}");
    assert!(
        text.contains("was given to 52:54:00:00:01:01, but 52:54:00:00:01:02 uses it"),
        "{text}"
    );

    // the control plane knows better
    *world.fake.refused.lock().unwrap() = Some(uuid(9));
    let other = Machine::new(&world, 3);
    other.dhcp(9, &INSTALLER);
    let (status, text) = other.text("/config");
    assert_eq!(status, 403);
    assert!(text.contains("another network card holds this identity"), "{text}");

    // the second card of a machine that registered
    let second = Machine::new(&world, 4);
    second.dhcp(7, &INSTALLER);
    assert_eq!(second.text("/config").0, 403);
    world.fake.cards.lock().unwrap().push("52:54:00:00:01:04".to_owned());
    second.dhcp(7, &INSTALLER);
    eventually("the second card speaks for the machine too", || second.text("/config").0 == 200);
    let asked = world.fake.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("token")).count(), 2, "{asked:?}");
}

#[test]
fn machines_boot_while_the_control_plane_is_away() {
    if !possible() {
        return;
    }
    let world = world();
    world.start();
    let machine = Machine::new(&world, 1);
    machine.dhcp(7, &INSTALLER);
    assert_eq!(machine.text("/config").0, 200);
    let (_, before) = machine.text("/boot.ipxe");
    world.logged("fetched");
    eventually("kernel and initrd are fetched", || world.log().matches("fetched").count() == 2);
    world.stop();
    world.control_plane_down();
    world.start();
    let (_, script) = machine.text("/boot.ipxe");
    assert_eq!(script, before, "after a restart, without asking");
    for url in urls(&script) {
        assert_eq!(machine.get(&url).0, 200);
    }
    let (status, text) = machine.text("/config");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("the control plane does not answer"), "{text}");
    // one that was never seen boots what the partition boots
    let new = Machine::new(&world, 2);
    new.dhcp(9, &IPXE);
    assert_eq!(new.text("/boot.ipxe").1, before);

    world.control_plane_up();
    eventually("the configuration comes again", || machine.text("/config").0 == 200);
    assert!(world.log().contains("asking again every few seconds"));
    world.logged("the control plane answers again");
}

#[test]
fn a_bridge_that_is_made_anew_is_served_again() {
    if !possible() {
        return;
    }
    let world = world();
    world.start();
    world.ip("link delete boot");
    world.logged("waiting for the boot interface");
    world.make_bridge();
    eventually("it serves again", || world.log().matches("serving").count() == 2);
    let machine = Machine::new(&world, 1);
    machine.dhcp(7, &INSTALLER);
    assert_eq!(machine.text("/config").0, 200);
}
