//! The end of a login: the browser brings the token to an address of this machine, or a person brings it from another one.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection may take to say what it wants; browsers open some that they never use.
const SPEAK: Duration = Duration::from_secs(10);

/// Waits for one token.
pub(super) struct Callback {
    listener: TcpListener,
    /// Nobody but the server is told it, so that no other page can bring a token of somebody else.
    path: String,
}

impl Callback {
    pub(super) async fn open(secret: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { listener, path: format!("/callback/{secret}") })
    }

    /// Where the browser is to go.
    pub(super) fn url(&self) -> Result<String> {
        Ok(format!("http://{}{}", self.listener.local_addr()?, self.path))
    }

    /// The token that comes first. With `paste` also one that is typed.
    pub(super) async fn wait(self, paste: bool) -> Result<String> {
        let (found, mut tokens) = mpsc::channel(1);
        if paste {
            let found = found.clone();
            // a thread, because reading from a terminal cannot be given up; the process does not wait for it
            std::thread::spawn(move || {
                for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
                    if let Some(token) = pasted(&line)
                        && found.blocking_send(token).is_err()
                    {
                        return;
                    }
                }
            });
        }
        let waiting = async {
            loop {
                tokio::select! {
                    Some(token) = tokens.recv() => return Ok(token),
                    accepted = self.listener.accept() => {
                        let (stream, _) = accepted?;
                        let (path, found) = (self.path.clone(), found.clone());
                        tokio::spawn(async move {
                            // who says nothing or breaks off brings no token
                            if let Ok(Ok(Some(token))) = tokio::time::timeout(SPEAK, answer(stream, &path)).await {
                                drop(found.send(token).await);
                            }
                        });
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
            Error::new(Kind::Timeout, "nobody logged in within 10 minutes")
                .hint("without a browser: metalctl login --no-browser, or --token-stdin")
        })?
    }
}

/// Reads a request and answers it; the token that it brings.
async fn answer(mut stream: TcpStream, path: &str) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 16 << 10 {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head);
    let token = requested(head.lines().next().unwrap_or_default(), path);
    let (status, text) = match token {
        Some(_) => ("200 OK", "You are logged in. This window can be closed."),
        None => ("404 Not Found", "This page only takes the answer of a login."),
    };
    // the address holds the token: it shall not stay in the history
    let body = format!(
        "<!doctype html><title>metalctl</title><script>history.replaceState(null, '', '/')</script><p>{text}</p>\n"
    );
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(token)
}

/// The token in the first line of a request for the call-back.
fn requested(line: &str, path: &str) -> Option<String> {
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    query(target.strip_prefix(path)?.strip_prefix('?')?)
}

/// The token in what a person has pasted: the address at which a browser elsewhere has ended, or the token itself.
fn pasted(line: &str) -> Option<String> {
    let line = line.trim();
    match line.split_once('?') {
        Some((_, after)) => query(after),
        None => token(line).filter(|token| token.split('.').count() == 3),
    }
}

fn query(text: &str) -> Option<String> {
    token(text.split('&').find_map(|pair| pair.strip_prefix("token="))?)
}

/// A token needs no escapes.
fn token(text: &str) -> Option<String> {
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (fits && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_backs() {
        let requested = |line: &str| requested(line, "/callback/x");
        let found = requested("GET /callback/x?token=a.b-c.d_e HTTP/1.1");
        assert_eq!(found.as_deref(), Some("a.b-c.d_e"));
        assert_eq!(requested("GET /callback/x?x=y&token=abc HTTP/1.1").as_deref(), Some("abc"));
        for line in [
            "GET /favicon.ico HTTP/1.1",
            "GET /callback?token=abc HTTP/1.1",
            "GET /callback/y?token=abc HTTP/1.1",
            "GET /callback/x?token= HTTP/1.1",
            "POST /callback/x?token=a HTTP/1.1",
            "GET /callback/x?token=a%0a HTTP/1.1",
            "",
        ] {
            assert_eq!(requested(line), None, "{line}");
        }
    }

    #[test]
    fn what_people_paste() {
        assert_eq!(
            pasted(" http://127.0.0.1:1/callback/x?token=a.b.c \n").as_deref(),
            Some("a.b.c")
        );
        assert_eq!(pasted("a.b.c").as_deref(), Some("a.b.c"));
        for line in ["", "y", "http://127.0.0.1:1/callback/x", "a.b"] {
            assert_eq!(pasted(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn a_silent_connection_keeps_nobody_waiting() {
        let callback = Callback::open("s").await.unwrap();
        let address = callback.listener.local_addr().unwrap();
        let silent = TcpStream::connect(address).await.unwrap();
        let waiting = tokio::spawn(callback.wait(false));
        let mut browser = TcpStream::connect(address).await.unwrap();
        // in two pieces
        browser.write_all(b"GET /callback/s?tok").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        browser.write_all(b"en=a.b.c HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), "a.b.c");
        let mut text = String::new();
        browser.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("You are logged in"), "{text}");
        drop(silent);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_judged(line in ".*") {
            drop((requested(&line, "/callback/x"), pasted(&line)));
        }
    }
}
