//! A web server with files that are there and files that are not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};

/// Answers every request in a thread that ends with the process.
pub(crate) struct Files(SocketAddr);

impl Files {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
                let request = lines.next().and_then(Result::ok).unwrap_or_default();
                while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                let status = if request.contains("/there") { "200 OK" } else { "404 Not Found" };
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // who asked may be gone
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self(address)
    }

    /// URL of a file that is there.
    pub(crate) fn there(&self) -> String {
        format!("http://{}/there.tar.zst", self.0)
    }

    /// URL of a file that is not.
    pub(crate) fn missing(&self) -> String {
        format!("http://{}/missing", self.0)
    }

    /// URL of a server that is not.
    pub(crate) fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        format!("http://{address}/there")
    }
}
