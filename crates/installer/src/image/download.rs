//! A file over HTTP, resumed as long as it makes progress.

use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::pause;
use crate::console::{say, size};

/// Attempts without a single new byte until the server counts as unreachable.
const ATTEMPTS: u32 = 6;

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_secs(10)))
        .timeout_per_read(Some(Duration::from_secs(15)))
        .input_buffer_size(256 << 10)
        .user_agent(concat!("metal-installer/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// A small file; `None` when the server says that there is none.
///
/// # Errors
/// When the server cannot be reached in several attempts.
pub(super) fn small(url: &str) -> Result<Option<String>> {
    let agent = agent();
    let mut last = anyhow!("no attempt");
    for attempt in 0..ATTEMPTS {
        let answer = agent
            .get(url)
            .call()
            .and_then(|mut answer| answer.body_mut().with_config().limit(4096).read_to_string());
        match answer {
            Ok(text) => return Ok(Some(text)),
            Err(ureq::Error::StatusCode(403 | 404 | 410)) => return Ok(None),
            Err(error) => last = error.into(),
        }
        std::thread::sleep(pause(attempt));
    }
    Err(last.context(format!("{url} cannot be read")))
}

/// Gives every piece of the file to `take`, each byte once and in order, until it returns false.
///
/// # Errors
/// For good when the server has no such file, for now when it stops answering.
pub(super) fn whole(
    url: &str,
    piece: usize,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), Broken> {
    let agent = agent();
    let mut source = Source { done: 0, total: None };
    let mut failures = 0;
    loop {
        let before = source.done;
        let error = match source.part(&agent, url, piece, &mut take) {
            Ok(()) => return Ok(()),
            Err(error @ Broken::ForGood(_)) => return Err(error),
            Err(Broken::ForNow(error)) => error,
        };
        failures = if source.done > before { 0 } else { failures + 1 };
        if failures >= ATTEMPTS {
            return Err(Broken::ForNow(error.context(format!(
                "gave up on {url} after {} and {ATTEMPTS} attempts",
                size(source.done)
            ))));
        }
        say(&format!(
            "image     the download broke at {} ({error:#}); resuming",
            size(source.done)
        ));
        std::thread::sleep(pause(failures));
    }
}

struct Source {
    done: u64,
    /// Length of the file, once it is known.
    total: Option<u64>,
}

/// Why a download ended.
#[derive(Debug)]
pub(super) enum Broken {
    /// Another attempt would end the same way.
    ForGood(anyhow::Error),
    /// The server may come back.
    ForNow(anyhow::Error),
}

impl From<Broken> for anyhow::Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::ForGood(error) | Broken::ForNow(error) => error,
        }
    }
}

impl Source {
    /// One connection's worth.
    fn part(
        &mut self,
        agent: &ureq::Agent,
        url: &str,
        piece: usize,
        take: &mut impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Broken> {
        let mut request = agent.get(url);
        if self.done > 0 {
            request = request.header("range", format!("bytes={}-", self.done));
        }
        let answer = request.call().map_err(|error| match error {
            ureq::Error::StatusCode(code @ 400..=499) if code != 408 && code != 429 => {
                Broken::ForGood(anyhow!("the image server answers {code} for {url}"))
            }
            ureq::Error::BadUri(_) => Broken::ForGood(error.into()),
            error => Broken::ForNow(error.into()),
        })?;
        let resumed = answer.status() == 206;
        let length = answer
            .headers()
            .get("content-length")
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let start = if resumed { self.done } else { 0 };
        let total = length.map(|length| length + start);
        if self.total.is_some() && total.is_some() && self.total != total {
            return Err(Broken::ForGood(anyhow!(
                "{url} changed its length while it was downloaded"
            )));
        }
        self.total = self.total.or(total);
        let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        if !resumed {
            // a server without ranges starts over: skip what is there
            let skipped = io::copy(&mut body.by_ref().take(self.done), &mut io::sink())
                .map_err(|error| Broken::ForNow(error.into()))?;
            if skipped < self.done {
                return Err(Broken::ForNow(anyhow!("the connection ended")));
            }
        }
        self.read(&mut body, piece, take)
    }

    fn read(
        &mut self,
        body: &mut impl Read,
        piece: usize,
        take: &mut impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Broken> {
        loop {
            let mut buffer = Vec::with_capacity(piece);
            // what came before an error is used
            let result = body.by_ref().take(piece as u64).read_to_end(&mut buffer);
            let ended = buffer.len() < piece;
            self.done += buffer.len() as u64;
            if !buffer.is_empty() && !take(buffer) {
                return Err(Broken::ForGood(anyhow!("it is not wanted any more")));
            }
            result.map_err(|error| Broken::ForNow(error.into()))?;
            if ended {
                break;
            }
        }
        match self.total {
            Some(total) if self.done < total => Err(Broken::ForNow(anyhow!(
                "the connection ended {} early",
                size(total - self.done)
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Serves `content`, cutting each connection after `cut` bytes; returns its address and the requests' ranges.
    fn server(content: Vec<u8>, cut: usize, ranges: bool) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/image", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|l| !l.is_empty())
                    .collect();
                let range = lines.iter().find_map(|l| {
                    l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned)
                });
                log.lock().unwrap().push(range.clone().unwrap_or_default());
                let from = range
                    .filter(|_| ranges)
                    .map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
                let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
                let rest: &[u8] = &content[from..];
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    rest.len()
                )
                .unwrap();
                let _ = stream.write_all(&rest[..rest.len().min(cut)]);
            }
        });
        (url, seen)
    }

    #[test]
    fn a_broken_connection_is_resumed() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let (url, seen) = server(content.clone(), 250_000, true);
        let mut got = Vec::new();
        whole(&url, 64 << 10, |piece| {
            got.extend(piece);
            true
        })
        .unwrap();
        assert_eq!(got, content);
        assert_eq!(
            *seen.lock().unwrap(),
            ["", "bytes=250000-"].map(|r| r.trim_start_matches("bytes=").to_owned())
        );
    }

    #[test]
    fn a_server_without_ranges_that_always_cuts_is_given_up() {
        let content = vec![7; 10_000];
        let (url, seen) = server(content, 5_000, false);
        let mut got = 0;
        let taken = |piece: Vec<u8>| {
            got += piece.len();
            true
        };
        let Err(Broken::ForNow(error)) = whole(&url, 1 << 10, taken) else {
            panic!("it ended well")
        };
        assert!(format!("{error:#}").contains("gave up"), "{error:#}");
        assert_eq!(
            (got, seen.lock().unwrap().len()),
            (5_000, 7),
            "one that progressed, six that did not"
        );
    }

    #[test]
    fn nobody_there() {
        assert!(small("http://127.0.0.1:1/x.sha256").is_err());
    }
}
