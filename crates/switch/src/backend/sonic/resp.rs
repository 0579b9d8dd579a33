//! A connection to Redis. A dozen commands over a local socket need no client library, and a transaction needs a
//! connection that nobody else uses.

mod reply;

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::databases::{Address, Database};
use reply::parse;
pub use reply::{Command, NoReply, Reply, command, encode};

/// Redis that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);

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
