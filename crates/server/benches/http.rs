//! The thinnest client: HTTP/1.1 on one connection.

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

    /// Calls a method with JSON, which must work, and returns what it answers.
    #[allow(dead_code, reason = "not every bench speaks JSON")]
    pub(crate) async fn call(&mut self, token: &str, method: &str, request: &Value) -> Vec<u8> {
        let request = encode("json", token, method, request.to_string().as_bytes());
        let (head, body) = self.send(&request).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{method}: {head} {body:?}");
        body
    }

    /// Sends a request that was made before and returns head and body of the answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> (String, Vec<u8>) {
        self.0.write_all(request).await.expect("sent");
        let mut answer = Vec::with_capacity(16 * 1024);
        loop {
            if let Some(answer) = read(&answer) {
                return answer;
            }
            assert!(self.0.read_buf(&mut answer).await.expect("answer") > 0, "closed");
        }
    }

    /// As [`Self::call`], read.
    #[allow(dead_code, reason = "not every bench speaks JSON")]
    pub(crate) async fn value(&mut self, token: &str, method: &str, request: &Value) -> Value {
        serde_json::from_slice(&self.call(token, method, request).await).expect("JSON")
    }
}

/// A request with a body that is `json` or `proto`; an empty token is none.
pub(crate) fn encode(kind: &str, token: &str, method: &str, body: &[u8]) -> Vec<u8> {
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let head = format!(
        "POST /metalstack.{method} HTTP/1.1\r\nHost: metal\r\nContent-Type: application/{kind}\r\n{authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
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
