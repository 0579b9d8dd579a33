//! The sockets of the TFTP server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Code, ReadRequest, Refusal, Step, Transfer};
use crate::loader;

/// Transfers at the same time; firmware that finds none free asks again.
const TRANSFERS: usize = 128;
/// How long to wait for an acknowledgement before the packet goes out again.
const RESEND: Duration = Duration::from_millis(500);
const RESENDS: u32 = 10;

/// Serves the boot loaders of a directory on one interface.
pub struct Server {
    pub interface: String,
    pub address: Ipv4Addr,
    pub directory: PathBuf,
}

impl Server {
    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn run(self, shutdown: Shutdown) -> io::Result<()> {
        let socket = crate::socket::udp(&self.interface, 69)?;
        let (server, slots) = (Arc::new(self), Arc::new(Semaphore::new(TRANSFERS)));
        let mut buffer = vec![0; 2048];
        loop {
            let (length, client) = tokio::select! {
                () = shutdown.wait() => return Ok(()),
                received = socket.recv_from(&mut buffer) => received?,
            };
            let Some(request) = ReadRequest::parse(&buffer[..length]) else { continue };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!(%client, "too many TFTP transfers; this one has to ask again");
                continue;
            };
            let server = server.clone();
            tokio::spawn(async move {
                if let Err(error) = server.transfer(request, client).await {
                    tracing::warn!(%client, %error, "a TFTP transfer failed");
                }
                drop(slot);
            });
        }
    }

    async fn transfer(
        &self,
        request: Result<ReadRequest, Refusal>,
        client: SocketAddr,
    ) -> io::Result<()> {
        // each transfer has its own port (RFC 1350 section 4)
        let socket = UdpSocket::bind((self.address, 0)).await?;
        socket.connect(client).await?;
        let loaded = match request {
            Ok(request) => load(&self.directory, &request.file).await.map(|data| (request, data)),
            Err(refusal) => Err(refusal),
        };
        match loaded {
            Ok((request, data)) => send(&socket, &request, &data, client).await,
            Err(refusal) => {
                tracing::info!(%client, reason = refusal.text, "TFTP request refused");
                socket.send(&refusal.packet()).await.map(|_| ())
            }
        }
    }
}

async fn load(directory: &Path, file: &str) -> Result<Vec<u8>, Refusal> {
    let absent = Refusal { code: Code::NotFound, text: "no such boot loader" };
    let path = loader::path(directory, file).ok_or(absent.clone())?;
    tokio::fs::read(&path).await.map_err(|error| {
        tracing::error!(path = %path.display(), %error, "a boot loader cannot be read; is the package ipxe installed?");
        absent
    })
}

async fn send(
    socket: &UdpSocket,
    request: &ReadRequest,
    data: &[u8],
    client: SocketAddr,
) -> io::Result<()> {
    let mut transfer = Transfer::new(request, data);
    let mut packet = transfer.current();
    loop {
        match exchange(socket, &mut transfer, &packet).await? {
            Step::Send(next) => packet = next,
            Step::Wait => {}
            Step::Done => {
                metrics::counter!("boot_tftp_files_total", "file" => request.file.clone())
                    .increment(1);
                tracing::info!(%client, file = request.file, bytes = data.len(), "boot loader sent by TFTP");
                return Ok(());
            }
            Step::Aborted(reason) => {
                tracing::debug!(%client, file = request.file, reason, "the client ended a TFTP transfer");
                return Ok(());
            }
        }
    }
}

/// Sends a packet until the client says something about it.
async fn exchange(
    socket: &UdpSocket,
    transfer: &mut Transfer<'_>,
    packet: &[u8],
) -> io::Result<Step> {
    for _ in 0..=RESENDS {
        socket.send(packet).await?;
        if let Ok(step) = timeout(RESEND, next(socket, transfer)).await {
            return step;
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped answering"))
}

/// The first packet of the client that means something.
async fn next(socket: &UdpSocket, transfer: &mut Transfer<'_>) -> io::Result<Step> {
    let mut buffer = [0; 1024];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match transfer.take(&buffer[..length]) {
            Step::Wait => {}
            step => return Ok(step),
        }
    }
}
