//! The sockets of the DHCP server and the ProxyDHCP server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use daemon::Shutdown;

use super::{Destination, Door};
use crate::machines::Machines;
use crate::socket::{send_from, udp};
use crate::wire::Wire;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const PXE_PORT: u16 = 4011;

/// Answers on one port of one interface until `shutdown`.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(
    machines: Arc<Machines>,
    interface: &str,
    door: Door,
    wire: Wire,
    shutdown: Shutdown,
) -> io::Result<()> {
    let port = match door {
        Door::Dhcp => SERVER_PORT,
        Door::Pxe => PXE_PORT,
    };
    let socket = udp(interface, port)?;
    let own = machines.settings().server;
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            () = shutdown.wait() => return Ok(()),
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, sender) = match received {
            Ok((length, SocketAddr::V4(sender))) => (length, sender),
            Ok(_) => continue,
            // the link went down under us; it may come back
            Err(error) => {
                tracing::warn!(%error, port, "receiving failed");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(reply) = machines.receive(&buffer[..length], door, wire) else { continue };
        let to = match reply.to {
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Client(address) => SocketAddrV4::new(address, CLIENT_PORT),
            Destination::Sender => sender,
        };
        if let Err(error) = send_from(&socket, own, to, &reply.bytes).await {
            tracing::warn!(%error, %to, "a DHCP answer was not sent");
        }
    }
}
