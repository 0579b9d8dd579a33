//! Who gets a neighbour asks for it instead of waiting until it speaks.

use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{SockaddrIn6, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fake::{Fake, nic};
use crate::running::{Running, eventually};
use crate::world::World;

const SOLICITATION: u8 = 133;

/// Hears what routers are told on an interface. The kernel drops what has a wrong sum.
fn router(interface: &str) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
    let index = if_nametoindex(interface).unwrap();
    socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), index).unwrap();
    socket.bind_device(Some(interface.as_bytes())).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Whether one of the messages that wait is a question for routers by an agent: kernels ask, too, but with an address.
fn is_asked(router: &Socket) -> Option<()> {
    let mut message = [0; 256];
    while let Ok((length, from)) = recvfrom::<SockaddrIn6>(router.as_raw_fd(), &mut message) {
        let is_ours = from.is_some_and(|from| from.ip().is_unspecified());
        if length > 0 && message[0] == SOLICITATION && is_ours {
            return Some(());
        }
    }
    None
}

#[test]
fn neighbours_are_asked_to_speak() {
    let Some(world) = World::with_vrfs() else { return };
    let exit = world.within("exit", async || router("leaf"));
    let machine = world.within("m1", async || router("lan0"));
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let since = fake.say(1, vec![nic("swp1", None, &[]), nic("swp2", None, &[])], &[]);
        let agent = Running::start(world.config(&url));
        fake.applied(1, since).await;
        eventually("question at the uplink", || is_asked(&exit)).await;

        assert_eq!(is_asked(&machine), None, "nobody is asked in the boot network");
        let filter = &["10.128.0.0/22"];
        let since =
            fake.say(2, vec![nic("swp1", Some("vrf7"), filter), nic("swp2", None, &[])], &[]);
        fake.applied(2, since).await;
        eventually("question in the network of the tenant", || is_asked(&machine)).await;
        agent.stop().await;
    });
}
