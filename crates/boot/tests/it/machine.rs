//! A machine made of a veth pair: speaks DHCP and HTTP by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::world::{World, add, delete, inside, run};

/// Kinds of DHCP messages.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// A machine at a port of the boot network.
pub(crate) struct Machine {
    namespace: String,
    mac: [u8; 6],
}

impl Drop for Machine {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}

impl Machine {
    /// Plugs the n-th machine into the bridge port `swpN`.
    pub(crate) fn new(world: &World, n: u8) -> Self {
        let (namespace, mac) = (format!("{}-m{n}", world.server), [0x52, 0x54, 0, 0, 1, n]);
        add(&namespace);
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        world.ip(&format!(
            "link add swp{n} type veth peer name eth0 address {text} netns {namespace}"
        ));
        world.ip(&format!("link set swp{n} master boot up"));
        let machine = Self { namespace, mac };
        machine.ip("link set eth0 up");
        machine
    }

    /// `ip addr` of the machine.
    pub(crate) fn addresses(&self) -> String {
        self.ip("addr show dev eth0")
    }

    /// `ip` in the machine.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.namespace))
    }

    /// Gets an address by DHCP and uses it; returns it with the options of the acknowledgement.
    pub(crate) fn dhcp(&self, uuid: u8, options: &[(u8, &[u8])]) -> (Ipv4Addr, Vec<(u8, Vec<u8>)>) {
        inside(&self.namespace, || {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.bind_device(Some(b"eth0")).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into()).unwrap();
            let socket = std::net::UdpSocket::from(socket);
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let ask = |kind: u8, wanted: u8, more: &[(u8, &[u8])]| {
                let packet = self.packet(kind, uuid, &[options, more].concat());
                for _ in 0..240 {
                    socket.send_to(&packet, (Ipv4Addr::BROADCAST, 67)).unwrap();
                    let mut answer = [0; 2048];
                    while let Ok(length) = socket.recv(&mut answer) {
                        if answer[28..34] != self.mac {
                            continue;
                        }
                        // One that was asked twice may offer twice.
                        let (address, options) = read(&answer[..length]);
                        if options.contains(&(53, vec![wanted])) {
                            return (address, options);
                        }
                    }
                }
                panic!("nobody answers {}", self.namespace);
            };
            let (offered, offer) = ask(DISCOVER, OFFER, &[]);
            let server = offer.iter().find(|(code, _)| *code == 54).unwrap().1.clone();
            let (address, ack) = ask(REQUEST, ACK, &[(50, &offered.octets()), (54, &server)]);
            assert_eq!(address, offered);
            self.use_address(address);
            (address, ack)
        })
    }

    /// Uses an address, given or not.
    pub(crate) fn use_address(&self, address: Ipv4Addr) {
        self.ip("addr flush dev eth0 scope global");
        self.ip(&format!("addr replace {address}/24 dev eth0"));
    }

    /// Status and body of a GET to the boot service.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        inside(&self.namespace, || {
            let url = if path.starts_with('/') {
                format!("http://10.0.1.1{path}")
            } else {
                path.to_owned()
            };
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(120)))
                .build()
                .into();
            let mut response =
                agent.get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
            (
                response.status().as_u16(),
                response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap(),
            )
        })
    }

    pub(crate) fn text(&self, path: &str) -> (u16, String) {
        let (status, body) = self.get(path);
        (status, String::from_utf8(body).unwrap())
    }

    fn packet(&self, kind: u8, uuid: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; 236];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[10] = 0x80;
        packet[28..34].copy_from_slice(&self.mac);
        packet.extend([99, 130, 83, 99, 53, 1, kind]);
        let mut id = [uuid; 17];
        id[0] = 0;
        for (code, data) in [&[(97, &id[..])], options].concat() {
            packet.extend([code, data.len() as u8]);
            packet.extend(data);
        }
        packet.push(255);
        packet
    }
}

fn read(answer: &[u8]) -> (Ipv4Addr, Vec<(u8, Vec<u8>)>) {
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&answer[16..20]).unwrap());
    let (mut rest, mut options) = (&answer[240..], Vec::new());
    while rest[0] != 255 {
        let length = usize::from(rest[1]);
        options.push((rest[0], rest[2..2 + length].to_vec()));
        rest = &rest[2 + length..];
    }
    (address, options)
}
