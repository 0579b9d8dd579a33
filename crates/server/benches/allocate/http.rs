//! The thinnest client: HTTP/1.1 with JSON on one connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connection");
        stream.set_nodelay(true).expect("no delay");
        Self(stream)
    }

    /// Calls a method that must work and returns what it answers.
    pub(crate) async fn call(&mut self, token: &str, method: &str, request: &Value) -> Vec<u8> {
        let body = request.to_string();
        let head = format!(
            "POST /metalstack.{method} HTTP/1.1\r\nHost: metal\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
        let mut answer = Vec::with_capacity(16 * 1024);
        loop {
            if let Some((head, body)) = read(&answer) {
                assert!(head.starts_with("HTTP/1.1 200"), "{method}: {head} {body:?}");
                return body;
            }
            assert!(self.0.read_buf(&mut answer).await.expect("answer") > 0, "{method}: closed");
        }
    }

    /// As [`Self::call`], read.
    pub(crate) async fn value(&mut self, token: &str, method: &str, request: &Value) -> Value {
        serde_json::from_slice(&self.call(token, method, request).await).expect("JSON")
    }
}

/// Head and body of an answer, once all of it is there.
fn read(answer: &[u8]) -> Option<(String, Vec<u8>)> {
    let (head, mut rest) = split(answer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, length) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| length.trim().parse::<usize>())
    });
    if let Some(length) = length {
        return Some((head, rest.get(..length.expect("a number"))?.to_owned()));
    }
    // in chunks: length, data, length, data, zero
    let mut body = Vec::new();
    loop {
        let (length, data) = split(rest, b"\r\n")?;
        let length = std::str::from_utf8(length).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a number");
        body.extend_from_slice(data.get(..length)?);
        rest = data.get(length + 2..)?;
        if length == 0 {
            return Some((head, body));
        }
    }
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let end = text.windows(at.len()).position(|part| part == at)?;
    Some((&text[..end], &text[end + at.len()..]))
}
