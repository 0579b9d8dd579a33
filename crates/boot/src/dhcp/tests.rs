//! Conversations with the server, and what is on the wire.

use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::testing::Packet;
use super::*;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const POOL: Pool =
    Pool { first: Ipv4Addr::new(10, 0, 1, 100), last: Ipv4Addr::new(10, 0, 1, 101), own: OWN };
const FIRST: Ipv4Addr = POOL.first;

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        server: OWN,
        prefix_length: 24,
        router: Some(OWN),
        dns_servers: Vec::new(),
        ntp_servers: vec![Ipv4Addr::new(192, 0, 2, 1)],
        http_port: 80,
    }
}

fn say(packet: Packet, door: Door, now: u64, state: &mut State, mode: Mode) -> Outcome {
    answer(&Request::parse(&packet.bytes()).unwrap(), door, "swp1", now, state, &settings(mode))
}

fn dhcp(packet: Packet, now: u64, state: &mut State) -> Outcome {
    say(packet, Door::Dhcp, now, state, Mode::Dhcp(POOL))
}

/// Fields and options of an answer, read by hand and not by the library that wrote them.
fn text(outcome: &Outcome) -> String {
    let Some(Reply { bytes, to }) = &outcome.reply else { return format!("{:?}\n", outcome.done) };
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    let mut text = format!("{:?} to {to:?}, {} bytes\n", outcome.done, bytes.len());
    assert_eq!(bytes[..4], [2, 1, 6, 0]);
    assert_eq!(bytes[4..8], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(bytes[236..240], [99, 130, 83, 99]);
    let broadcast = if bytes[10] & 0x80 > 0 { " broadcast" } else { "" };
    writeln!(
        text,
        "ciaddr {} yiaddr {} siaddr {}{broadcast}",
        address(12),
        address(16),
        address(20)
    )
    .unwrap();
    let file: Vec<u8> = bytes[108..236].iter().copied().take_while(|byte| *byte != 0).collect();
    writeln!(text, "file {:?}", String::from_utf8(file).unwrap()).unwrap();
    let (mut options, mut lines) = (&bytes[240..], Vec::new());
    while options[0] != 255 {
        let (code, length) = (options[0], usize::from(options[1]));
        let data = &options[2..2 + length];
        let readable = data.len() > 4 && data.iter().all(|byte| (32..127).contains(byte));
        let value = if readable {
            format!("{:?}", String::from_utf8_lossy(data))
        } else {
            format!("{data:?}")
        };
        lines.push((code, value));
        options = &options[2 + length..];
    }
    lines.sort();
    for (code, value) in lines {
        writeln!(text, "  {code} {value}").unwrap();
    }
    text
}

fn check(outcome: &Outcome, expected: Expect) {
    expected.assert_eq(&text(outcome));
}

fn ipxe(packet: Packet) -> Packet {
    packet
        .option(60, b"PXEClient:Arch:00000:UNDI:002001")
        .option(93, &[0, 0])
        .option(77, b"iPXE")
        .uuid(7)
}

fn efi(packet: Packet) -> Packet {
    packet.option(60, b"PXEClient:Arch:00007:UNDI:003000").option(93, &[0, 7]).uuid(7)
}

fn bios(packet: Packet) -> Packet {
    packet.option(60, b"PXEClient:Arch:00000:UNDI:002001").option(93, &[0, 0])
}

fn http_boot(packet: Packet) -> Packet {
    packet.option(60, b"HTTPClient:Arch:00016:UNDI:003001").option(93, &[0, 16])
}

#[test]
fn ipxe_gets_an_address_and_the_script() {
    let mut state = State::default();
    let offer = dhcp(ipxe(Packet::discover()), 0, &mut state);
    check(
        &offer,
        expect![[r#"
        Offer(10.0.1.100) to Broadcast, 337 bytes
        ciaddr 0.0.0.0 yiaddr 10.0.1.100 siaddr 10.0.1.1
        file "http://10.0.1.1/boot.ipxe"
          1 [255, 255, 255, 0]
          3 [10, 0, 1, 1]
          42 [192, 0, 2, 1]
          51 [0, 0, 2, 88]
          53 [2]
          54 [10, 0, 1, 1]
          58 [0, 0, 1, 44]
          59 [0, 0, 2, 13]
          67 "http://10.0.1.1/boot.ipxe"
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
          175 [176, 1, 1]
    "#]],
    );
    let ack = dhcp(ipxe(Packet::request()).address(50, FIRST).address(54, OWN), 1, &mut state);
    assert_eq!(ack.done, Done::Ack(FIRST));
    assert_eq!(holder(&state, Mode::Dhcp(POOL), FIRST, None, 2), Some(super::testing::MAC));
    let asked = ack.ask.unwrap();
    assert_eq!((asked.mac, asked.port.as_str()), (super::testing::MAC, "swp1"));
}

#[test]
fn firmware_gets_a_loader_for_its_kind() {
    let offer = |packet| dhcp(packet, 0, &mut State::default());
    check(
        &offer(bios(Packet::discover())),
        expect![[r#"
        Offer(10.0.1.100) to Broadcast, 301 bytes
        ciaddr 0.0.0.0 yiaddr 10.0.1.100 siaddr 10.0.1.1
        file "undionly.kpxe"
          1 [255, 255, 255, 0]
          3 [10, 0, 1, 1]
          42 [192, 0, 2, 1]
          51 [0, 0, 2, 88]
          53 [2]
          54 [10, 0, 1, 1]
          58 [0, 0, 1, 44]
          59 [0, 0, 2, 13]
          67 "undionly.kpxe"
    "#]],
    );
    check(
        &offer(efi(Packet::discover())),
        expect![[r#"
        Offer(10.0.1.100) to Broadcast, 318 bytes
        ciaddr 0.0.0.0 yiaddr 10.0.1.100 siaddr 10.0.1.1
        file "snponly.efi"
          1 [255, 255, 255, 0]
          3 [10, 0, 1, 1]
          42 [192, 0, 2, 1]
          51 [0, 0, 2, 88]
          53 [2]
          54 [10, 0, 1, 1]
          58 [0, 0, 1, 44]
          59 [0, 0, 2, 13]
          67 "snponly.efi"
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
    "#]],
    );
    check(
        &offer(http_boot(Packet::discover())),
        expect![[r#"
            Offer(10.0.1.100) to Broadcast, 327 bytes
            ciaddr 0.0.0.0 yiaddr 10.0.1.100 siaddr 10.0.1.1
            file "http://10.0.1.1/snponly.efi"
              1 [255, 255, 255, 0]
              3 [10, 0, 1, 1]
              42 [192, 0, 2, 1]
              51 [0, 0, 2, 88]
              53 [2]
              54 [10, 0, 1, 1]
              58 [0, 0, 1, 44]
              59 [0, 0, 2, 13]
              60 "HTTPClient"
              67 "http://10.0.1.1/snponly.efi"
        "#]],
    );
    let arm =
        Packet::discover().option(60, b"PXEClient:Arch:00011:UNDI:003000").option(93, &[0, 11]);
    assert!(text(&offer(arm)).contains("file \"\""), "an address, and nothing to boot");
}

#[test]
fn the_installer_gets_the_url_of_its_configuration() {
    let installer = |packet: Packet| packet.option(60, b"metal-installer").uuid(7);
    let mut state = State::default();
    dhcp(installer(Packet::discover()), 0, &mut state);
    let ack = dhcp(installer(Packet::request()).address(50, FIRST).address(54, OWN), 0, &mut state);
    check(
        &ack,
        expect![[r#"
        Ack(10.0.1.100) to Broadcast, 329 bytes
        ciaddr 0.0.0.0 yiaddr 10.0.1.100 siaddr 0.0.0.0
        file ""
          1 [255, 255, 255, 0]
          3 [10, 0, 1, 1]
          42 [192, 0, 2, 1]
          51 [0, 0, 2, 88]
          53 [5]
          54 [10, 0, 1, 1]
          58 [0, 0, 1, 44]
          59 [0, 0, 2, 13]
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
          224 "http://10.0.1.1/config"
    "#]],
    );
    // it renews: straight to its address
    let renewed = dhcp(installer(Packet::request()).ciaddr(FIRST), 300, &mut state);
    assert_eq!(
        (renewed.done, renewed.reply.unwrap().to),
        (Done::Ack(FIRST), Destination::Client(FIRST))
    );
    assert_eq!(holder(&state, Mode::Dhcp(POOL), FIRST, None, 899), Some(super::testing::MAC));
    assert_eq!(holder(&state, Mode::Dhcp(POOL), FIRST, None, 900), None);
}

#[test]
fn what_is_refused() {
    let mut state = State::default();
    let foreign = dhcp(Packet::request().address(50, Ipv4Addr::new(192, 168, 0, 9)), 0, &mut state);
    check(
        &foreign,
        expect![[r#"
        Nak(192.168.0.9) to Broadcast, 309 bytes
        ciaddr 0.0.0.0 yiaddr 0.0.0.0 siaddr 0.0.0.0 broadcast
        file ""
          53 [6]
          54 [10, 0, 1, 1]
          56 "the address belongs to another machine or another network"
    "#]],
    );
    dhcp(Packet::discover(), 0, &mut state);
    dhcp(Packet::discover().from(2), 0, &mut state);
    assert_eq!(dhcp(Packet::discover().from(3), 0, &mut state).done, Done::Exhausted);
    assert_eq!(
        dhcp(Packet::request().from(3).address(50, FIRST), 0, &mut state).done,
        Done::Nak(FIRST)
    );
    // who takes another server's offer leaves its address to others
    let other = Packet::request().address(50, FIRST).address(54, Ipv4Addr::new(10, 0, 1, 2));
    assert!(matches!(dhcp(other, 0, &mut state).done, Done::Ignored(_)));
    assert_eq!(dhcp(Packet::discover().from(3), 0, &mut state).done, Done::Offer(FIRST));
    let mut relayed = Request::parse(&Packet::discover().bytes()).unwrap();
    relayed.giaddr = OWN;
    let outcome = answer(&relayed, Door::Dhcp, "", 0, &mut state, &settings(Mode::Dhcp(POOL)));
    assert!(matches!(outcome.done, Done::Ignored(_)));
}

#[test]
fn goodbye_and_decline() {
    let mut state = State::default();
    dhcp(Packet::discover(), 0, &mut state);
    dhcp(Packet::request().address(50, FIRST).uuid(7), 0, &mut state);
    assert!(matches!(
        dhcp(Packet::of(7).from(2).ciaddr(FIRST), 1, &mut state).done,
        Done::Ignored(_)
    ));
    assert_eq!(holder(&state, Mode::Dhcp(POOL), FIRST, None, 1), Some(super::testing::MAC));
    assert_eq!(dhcp(Packet::of(7).ciaddr(FIRST), 1, &mut state).done, Done::Release(FIRST));
    assert_eq!(holder(&state, Mode::Dhcp(POOL), FIRST, None, 1), None);
    assert!(state.identities.claim(super::testing::MAC, 1).is_none());
    dhcp(Packet::discover(), 2, &mut state);
    assert_eq!(dhcp(Packet::of(4).address(50, FIRST), 2, &mut state).done, Done::Decline(FIRST));
    assert_eq!(dhcp(Packet::discover(), 2, &mut state).done, Done::Offer(POOL.last));
}

#[test]
fn beside_a_foreign_server() {
    let mut state = State::default();
    let mut proxy = |packet, door| say(packet, door, 0, &mut state, Mode::Proxy);
    check(
        &proxy(efi(Packet::discover()), Door::Dhcp),
        expect![[r#"
        ProxyOffer to Broadcast, 300 bytes
        ciaddr 0.0.0.0 yiaddr 0.0.0.0 siaddr 10.0.1.1 broadcast
        file "snponly.efi"
          53 [2]
          54 [10, 0, 1, 1]
          60 "PXEClient"
          67 "snponly.efi"
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
    "#]],
    );
    check(
        &proxy(efi(Packet::request()).ciaddr(FIRST), Door::Pxe),
        expect![[r#"
        ProxyAck to Sender, 300 bytes
        ciaddr 10.0.1.100 yiaddr 0.0.0.0 siaddr 10.0.1.1 broadcast
        file "snponly.efi"
          53 [5]
          54 [10, 0, 1, 1]
          60 "PXEClient"
          67 "snponly.efi"
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
    "#]],
    );
    check(
        &proxy(ipxe(Packet::discover()), Door::Dhcp),
        expect![[r#"
        ProxyOffer to Broadcast, 318 bytes
        ciaddr 0.0.0.0 yiaddr 0.0.0.0 siaddr 10.0.1.1 broadcast
        file "http://10.0.1.1/boot.ipxe"
          43 [6, 1, 8, 255]
          53 [2]
          54 [10, 0, 1, 1]
          60 "PXEClient"
          67 "http://10.0.1.1/boot.ipxe"
          97 [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]
          175 [176, 1, 1]
    "#]],
    );
    check(
        &proxy(http_boot(Packet::discover()), Door::Dhcp),
        expect![[r#"
            ProxyOffer to Broadcast, 300 bytes
            ciaddr 0.0.0.0 yiaddr 0.0.0.0 siaddr 10.0.1.1 broadcast
            file "http://10.0.1.1/snponly.efi"
              53 [2]
              54 [10, 0, 1, 1]
              60 "HTTPClient"
              67 "http://10.0.1.1/snponly.efi"
        "#]],
    );
    let quiet = proxy(Packet::discover().option(60, b"metal-installer").uuid(7), Door::Dhcp);
    assert_eq!(quiet.reply, None);
    assert!(matches!(proxy(efi(Packet::request()), Door::Dhcp).done, Done::Ignored(_)));
    // whoever is on the wire at an address has it: leases are somebody else's business
    assert_eq!(
        holder(&state, Mode::Proxy, FIRST, Some(super::testing::MAC), 0),
        Some(super::testing::MAC)
    );
    assert!(
        state.identities.claim(super::testing::MAC, 0).is_some(),
        "its name is noted all the same"
    );
}

proptest! {
    /// Nothing that a client can say makes the server panic, promise what is outside of the pool, or send what cannot be read.
    #[test]
    fn any_conversation(
        packets in proptest::collection::vec(
            (prop_oneof![Just(1u8), Just(3), Just(4), Just(7), Just(8)], 0u8..6, proptest::collection::vec(any::<u8>(), 0..80), 95u8..110, any::<bool>()),
            0..40,
        ),
        foreign in any::<bool>(),
    ) {
        let mode = if foreign { Mode::Proxy } else { Mode::Dhcp(POOL) };
        let mut state = State::default();
        for (now, (kind, mac, noise, last, pxe)) in packets.into_iter().enumerate() {
            let packet = Packet::of(kind).from(mac).address(50, Ipv4Addr::new(10, 0, 1, last)).uuid(mac / 2 + 1);
            let packet = if pxe { efi(packet) } else { packet };
            let mut bytes = packet.bytes();
            bytes.pop();
            bytes.extend(noise);
            let Ok(request) = Request::parse(&bytes) else { continue };
            let door = if pxe { Door::Pxe } else { Door::Dhcp };
            let outcome = answer(&request, door, "", now as u64 * 20, &mut state, &settings(mode));
            if let Done::Offer(address) | Done::Ack(address) = outcome.done {
                prop_assert!(POOL.contains(address));
            }
            if outcome.reply.is_some() {
                text(&outcome);
            }
        }
    }
}
