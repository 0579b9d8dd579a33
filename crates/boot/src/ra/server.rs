//! The socket that advertises: when somebody asks, and now and then. Always to everybody, which spares firmware the answer to a
//! question about its address.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use daemon::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::{ALL_NODES, Advertisement, is_solicitation};
use crate::socket::Interface;

/// The all-routers multicast address (RFC 4291 section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Shorter than the 15 seconds that iPXE waits, for the case that a solicitation or its answer is lost.
const PERIOD: Duration = Duration::from_secs(5);
/// Seconds for which machines use addresses of the prefix: a few lost advertisements do not matter.
const PREFIX_LIFETIME: u32 = 1800;

/// Advertises on one interface.
pub struct Server {
    pub interface: String,
    /// The /64 to configure addresses from.
    pub prefix: Option<Ipv6Addr>,
}

impl Server {
    /// Advertises until `shutdown`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub async fn run(self, shutdown: Shutdown) -> io::Result<()> {
        let index = Interface::find(&self.interface)?.index;
        let socket = socket(&self.interface, index)?;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = sleep_until(next) => next = Instant::now() + PERIOD,
                asked = solicitation(&socket) => asked?,
            }
            // looked up each time: the link-local address comes and goes with the link
            let interface = Interface::find(&self.interface)?;
            if let Some((bytes, to)) = self.advertisement(&interface)
                && let Err(error) = socket.send_to(&bytes, to).await
            {
                // without a link there is nobody to hear it
                tracing::debug!(interface = self.interface, %error, "router advertisement not sent");
            }
        }
    }

    fn advertisement(&self, interface: &Interface) -> Option<(Vec<u8>, SocketAddrV6)> {
        let advertisement = Advertisement {
            source: interface.link_local?,
            destination: ALL_NODES,
            mac: interface.mac?.0,
            prefix: self.prefix,
            prefix_lifetime: PREFIX_LIFETIME,
        };
        metrics::counter!("boot_router_advertisements_total").increment(1);
        Some((advertisement.to_bytes(), SocketAddrV6::new(ALL_NODES, 0, 0, interface.index)))
    }
}

/// A raw socket in the clothes of a UDP socket: sending, receiving and addresses work the same.
fn socket(interface: &str, index: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    // or our own kernel would take addresses from what we say
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    UdpSocket::from_std(socket.into())
}

/// Waits for a solicitation.
async fn solicitation(socket: &UdpSocket) -> io::Result<()> {
    // only the first bytes matter
    let mut buffer = [0; 256];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).await?;
        if is_solicitation(&buffer[..length]) {
            return Ok(());
        }
    }
}
