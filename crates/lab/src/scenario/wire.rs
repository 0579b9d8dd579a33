//! TCP between namespaces: who listens, who comes, and lines that stay open.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns;

/// How long somebody may take to answer.
const ANSWER: i64 = 400;

/// Listens on ports of a namespace, echoes, and remembers who came.
pub(super) struct Ear {
    came: Arc<Mutex<BTreeMap<u16, Vec<IpAddr>>>>,
}

impl Ear {
    pub(super) fn open(namespace: &str, ports: &[u16]) -> Result<Self> {
        let came = Arc::new(Mutex::new(BTreeMap::new()));
        for port in ports.iter().copied() {
            let listener = netns::within(namespace, || {
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                    .with_context(|| format!("cannot listen on port {port} in {namespace}"))
            })?;
            let came = Arc::clone(&came);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let Ok(peer) = stream.peer_addr() else { continue };
                    let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
                    came.entry(port).or_insert_with(Vec::new).push(peer.ip().to_canonical());
                    thread::spawn(move || echo(stream));
                }
            });
        }
        Ok(Self { came })
    }

    /// Who came last to a port.
    pub(super) fn last(&self, port: u16) -> Option<IpAddr> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).get(&port)?.last().copied()
    }

    /// How many came to a port.
    pub(super) fn count(&self, port: u16) -> usize {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).get(&port).map_or(0, Vec::len)
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A connection that somebody has opened.
pub(super) struct Line {
    stream: TcpStream,
}

impl Line {
    /// From an address of a namespace to somewhere; `None` when nobody answers or there is no way.
    pub(super) fn open(namespace: &str, from: IpAddr, to: SocketAddr) -> Result<Option<Self>> {
        netns::within(namespace, || {
            let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // the limit for sending is the limit for connecting, too
            setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(0, ANSWER * 1000))?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))
                .with_context(|| format!("{from} is no address of {namespace}"))?;
            match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
                Ok(()) => {}
                Err(
                    Errno::EINPROGRESS
                    | Errno::EAGAIN
                    | Errno::ETIMEDOUT
                    | Errno::ECONNREFUSED
                    | Errno::EHOSTUNREACH
                    | Errno::ENETUNREACH
                    | Errno::EACCES
                    | Errno::EPERM,
                ) => {
                    // as long as a packet would have been waited for
                    thread::sleep(Duration::from_millis(50));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            Ok(Some(Self { stream }))
        })
    }

    /// Whether what is said comes back.
    pub(super) fn echoes(&mut self) -> Result<bool> {
        let said = *b"is somebody there?";
        let mut heard = [0; 18];
        let exchanged =
            self.stream.write_all(&said).and_then(|()| self.stream.read_exact(&mut heard));
        match exchanged {
            Ok(()) => Ok(said == heard),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock
                        | ErrorKind::TimedOut
                        | ErrorKind::ConnectionReset
                        | ErrorKind::BrokenPipe
                        | ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_who_answers() {
        let (listener, _) = (TcpListener::bind("127.0.0.1:0").expect("port"), ());
        let address = listener.local_addr().expect("address");
        let mut line = Line { stream: TcpStream::connect(address).expect("connect") };
        let (answering, _) = listener.accept().expect("accept");
        let answering = thread::spawn(move || echo(answering));
        assert!(line.echoes().expect("echo"));
        line.stream.shutdown(std::net::Shutdown::Both).expect("shutdown");
        answering.join().expect("ended");
        assert!(!line.echoes().expect("no echo"));
    }
}
