//! Redis' protocol, version 2, as far as it is needed: commands out, replies in. A dozen commands over a local socket
//! need no client library, and the transaction below needs a connection that nobody else uses.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::databases::{Address, Database};

/// Redis that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Replies are lists of lists of texts; deeper ones are no replies to what is asked here.
const DEPTH: usize = 4;
/// More than this is no text or list of SONiC's.
const LENGTH: usize = 64 << 20;

/// What Redis says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One word, like `OK`.
    Status(String),
    /// It does not want to.
    Error(String),
    /// A number.
    Integer(i64),
    /// A text. What is no UTF-8 is not SONiC's; it comes with signs in its place.
    Text(String),
    /// Replies in a row.
    List(Vec<Self>),
    /// There is none: no such field, or a transaction that was not done.
    Nil,
}

impl Reply {
    /// The text, if it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Status(text) => Some(text),
            _ => None,
        }
    }

    /// The list; empty when it is none.
    pub fn list(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// A command and its arguments.
pub type Command = Vec<String>;

/// A command.
pub fn command<const N: usize>(words: [&str; N]) -> Command {
    words.map(str::to_owned).into()
}

/// The bytes of a command.
pub fn encode(command: &[String]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

/// The first reply in `bytes` and how long it is; nothing as long as it is not complete.
///
/// # Errors
/// It is none of Redis'.
pub fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let mut reader = Reader { bytes, at: 0 };
    Ok(reader.reply(0)?.map(|reply| (reply, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>> {
        ensure!(depth <= DEPTH, "a reply of Redis is nested too deeply");
        let Some(line) = self.line()? else { return Ok(None) };
        let (kind, rest) = line.split_at_checked(1).context("a line of Redis is empty")?;
        Ok(Some(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().context("a number of Redis is none")?),
            "$" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => match self.take(length + 2) {
                    None => return Ok(None),
                    Some(text) => {
                        ensure!(text.ends_with(b"\r\n"), "a text of Redis does not end");
                        Reply::Text(String::from_utf8_lossy(&text[..length]).into_owned())
                    }
                },
            },
            "*" => match length(rest)? {
                None => Reply::Nil,
                Some(length) => {
                    let mut list = Vec::new();
                    for _ in 0..length {
                        let Some(reply) = self.reply(depth + 1)? else { return Ok(None) };
                        list.push(reply);
                    }
                    Reply::List(list)
                }
            },
            _ => bail!("Redis answers in another protocol"),
        }))
    }

    fn line(&mut self) -> Result<Option<String>> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 2;
        Ok(Some(line))
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }
}

fn length(text: &str) -> Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    let length = text.parse().context("a length of Redis is none")?;
    ensure!(length <= LENGTH, "a reply of Redis is too long");
    Ok(Some(length))
}

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection to one database.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or the password is wrong.
    pub async fn open(database: &Database) -> Result<Self> {
        let stream = tokio::time::timeout(PATIENCE, connect(&database.address));
        let stream = stream.await.context("nobody answers")??;
        let mut connection = Self { stream, buffer: Vec::new() };
        let mut hello = Vec::new();
        if let Some(file) = &database.password_file {
            hello.push(command(["AUTH", &password(file)?]));
        }
        hello.push(command(["SELECT", &database.id.to_string()]));
        connection.call(&hello).await?;
        Ok(connection)
    }

    /// All replies to all commands, which go out at once. Whoever gives up before they are there must not use the
    /// connection again.
    ///
    /// # Errors
    /// Redis does not answer, or refuses one of them.
    pub async fn call(&mut self, commands: &[Command]) -> Result<Vec<Reply>> {
        let bytes: Vec<_> = commands.iter().flat_map(|command| encode(command)).collect();
        let mut replies = Vec::with_capacity(commands.len());
        let exchange = async {
            // Redis reads on while it answers, but no more than its buffers hold: both at once.
            let (mut read, mut write) = tokio::io::split(&mut self.stream);
            let send = async { anyhow::Ok(write.write_all(&bytes).await?) };
            let receive = async {
                while replies.len() < commands.len() {
                    replies.push(receive(&mut read, &mut self.buffer).await?);
                }
                anyhow::Ok(())
            };
            tokio::try_join!(send, receive)
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer")??;
        for (command, reply) in commands.iter().zip(&replies) {
            if let Reply::Error(error) = reply {
                bail!("{} is refused: {error}", command.first().map_or("", String::as_str));
            }
        }
        Ok(replies)
    }

    /// The next message of a subscription, however long it takes.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn next(&mut self) -> Result<Reply> {
        receive(&mut self.stream, &mut self.buffer).await
    }
}

async fn receive(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Reply> {
    loop {
        if let Some((reply, used)) = parse(buffer)? {
            buffer.drain(..used);
            return Ok(reply);
        }
        ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
    }
}

async fn connect(address: &Address) -> Result<Pin<Box<dyn Stream>>> {
    Ok(match address {
        Address::Socket(path) => Box::pin(UnixStream::connect(path).await?),
        Address::Network(host, port) => Box::pin(TcpStream::connect((host.as_str(), *port)).await?),
    })
}

fn password(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Option<Reply> {
        parse(text.as_bytes()).unwrap().map(|(reply, used)| {
            assert_eq!(used, text.len());
            reply
        })
    }

    #[test]
    fn replies() {
        assert_eq!(one("+OK\r\n"), Some(Reply::Status("OK".into())));
        assert_eq!(one(":-3\r\n"), Some(Reply::Integer(-3)));
        assert_eq!(one("$-1\r\n"), Some(Reply::Nil));
        assert_eq!(one("*-1\r\n"), Some(Reply::Nil));
        assert_eq!(one("$4\r\na\r\nb\r\n"), Some(Reply::Text("a\r\nb".into())));
        let list = vec![Reply::Text("a".into()), Reply::List(vec![])];
        assert_eq!(one("*2\r\n$1\r\na\r\n*0\r\n"), Some(Reply::List(list)));
        assert_eq!(one("-ERR no\r\n"), Some(Reply::Error("ERR no".into())));
        for wrong in [
            "!x\r\n",
            "\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$1\r\nabc",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_command() {
        assert_eq!(encode(&command(["GET", "a b"])), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }

    proptest! {
        #[test]
        fn a_part_is_waited_for(words in prop::collection::vec(".{0,6}", 0..4), cut in 0..100_usize) {
            let bytes = encode(&words);
            let all = Reply::List(words.into_iter().map(Reply::Text).collect());
            prop_assert_eq!(parse(&bytes).unwrap(), Some((all, bytes.len())));
            prop_assert!(parse(&bytes[..cut.min(bytes.len() - 1)]).unwrap().is_none());
        }

        #[test]
        fn anything_is_survived(bytes in prop::collection::vec(prop::sample::select(b"+-:$*0129a\r\n".to_vec()), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
