//! The sockets on which FRR's daemons hear `vtysh`, one each. `vtysh` knows all commands of all daemons and spends more on
//! learning them at each start than the daemons spend on an answer: whoever asks often asks them.
//!
//! A command ends with a zero. Its answer is a text, then three zeros and one byte that is zero when all went well. A daemon takes one
//! command at a time.

mod answer;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use answer::{Answer, Said};

/// A daemon that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel's buffer is not larger.
const PART: usize = 64 << 10;
const EXTENSION: &str = "vty";

/// The folder with the sockets of the daemons of one pathspace.
#[derive(Clone, Debug)]
pub struct Sockets {
    folder: PathBuf,
    patience: Duration,
}

impl Sockets {
    /// `pathspace` is what the daemons were started with as `-N`; empty for the default instance.
    pub fn new(parent: &Path, pathspace: &str) -> Self {
        let folder = match pathspace {
            "" => parent.to_owned(),
            _ => parent.join(pathspace),
        };
        Self { folder, patience: PATIENCE }
    }

    /// Gives up earlier or later than usual.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Daemons that have a socket, in the order of their names. Some of them may have ended.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = self.folder.read_dir().with_context(|| {
            format!(
                "{} cannot be read; is FRR started, with this pathspace?",
                self.folder.display()
            )
        })?;
        let mut names: Vec<_> = entries
            .filter_map(|entry| {
                let path = PathBuf::from(entry.ok()?.file_name());
                let is_socket = path.extension().is_some_and(|extension| extension == EXTENSION);
                Some(path.file_stem().filter(|_| is_socket)?.to_str()?.to_owned())
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether this daemon listens.
    pub async fn hears(&self, daemon: &str) -> bool {
        UnixStream::connect(self.path(daemon)).await.is_ok()
    }

    /// The answer of one daemon to one command.
    ///
    /// # Errors
    /// The daemon is not there, does not answer, or does not know the command: a sentence that names it.
    pub async fn ask(&self, daemon: &str, command: &str) -> Result<String> {
        let there = self.ask_if_there(daemon, command).await?;
        there.with_context(|| {
            let path = self.path(daemon);
            match path.exists() {
                true => format!("{daemon} has ended: nobody listens at {}", path.display()),
                false => format!("{daemon} is not there: no {}; is it started?", path.display()),
            }
        })
    }

    /// The same, and nothing when there is no such daemon.
    ///
    /// # Errors
    /// The daemon does not answer, or does not know the command.
    pub async fn ask_if_there(&self, daemon: &str, command: &str) -> Result<Option<String>> {
        let talk = async {
            let Some(mut stream) = self.connect(daemon).await? else { return Ok(None) };
            // Nobody needs a password here, but most is not told without this word.
            say(&mut stream, "enable").await?;
            say(&mut stream, command).await.map(Some)
        };
        let said = tokio::time::timeout(self.patience, talk).await;
        let said = said.unwrap_or_else(|_| {
            Err(anyhow!("no answer within {} s; it hangs", self.patience.as_secs_f32()))
        });
        match said.with_context(|| format!("{daemon} does not answer `{command}`"))? {
            Some(said) if !said.is_done() => {
                let line = said.text.lines().map(str::trim).find(|line| !line.is_empty());
                bail!("{daemon} refuses `{command}`: {}", line.unwrap_or("it does not say why"))
            }
            said => Ok(said.map(|said| said.text)),
        }
    }

    /// A connection for one question: it costs a tenth of a millisecond, and nothing of a daemon that was restarted is left in it.
    async fn connect(&self, daemon: &str) -> Result<Option<UnixStream>> {
        let path = self.path(daemon);
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
                ErrorKind::PermissionDenied => bail!(
                    "{} is forbidden; the agent has to be root or in the group frrvty",
                    path.display()
                ),
                _ => Err(error).with_context(|| format!("{} cannot be used", path.display())),
            },
        }
    }

    fn path(&self, daemon: &str) -> PathBuf {
        self.folder.join(format!("{daemon}.{EXTENSION}"))
    }
}

async fn say(stream: &mut UnixStream, command: &str) -> Result<Said> {
    let end = "it broke off; was it stopped?";
    stream.write_all(&[command.as_bytes(), &[0]].concat()).await.context(end)?;
    let (mut answer, mut part) = (Answer::default(), vec![0; PART]);
    loop {
        let length = stream.read(&mut part).await.context(end)?;
        if length == 0 {
            bail!(end);
        }
        if let Some(said) = answer.take(&part[..length])? {
            return Ok(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// A daemon that answers each command with the next of these and then closes.
    fn stand_in(answers: &'static [&'static [u8]]) -> (tempfile::TempDir, Sockets) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("bgpd.vty")).unwrap();
        let sockets = Sockets::new(folder.path(), "");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut command = [0; 100];
            for answer in answers {
                let length = stream.read(&mut command).await.unwrap();
                assert!(command[..length].ends_with(b"\0"));
                for part in answer.chunks(2) {
                    stream.write_all(part).await.unwrap();
                }
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        (folder, sockets)
    }

    async fn check(answers: &'static [&'static [u8]], expected: &str) {
        let (_folder, sockets) = stand_in(answers);
        let is_silent = answers.last().is_some_and(|answer| answer.is_empty());
        let patience = Duration::from_millis(if is_silent { 300 } else { 60_000 });
        let said = sockets.with_patience(patience).ask("bgpd", "show x").await;
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        assert!(said.contains(expected), "{said:?} should have {expected:?}");
    }

    #[tokio::test]
    async fn answers_and_what_is_none() {
        check(&[b"\0\0\0\0", b"text\n\0\0\0\0"], "text\n").await;
        let refused = "bgpd refuses `show x`: % [BGP] Unknown command";
        check(&[b"\0\0\0\0", b"\n% [BGP] Unknown command\n\0\0\0\x02"], refused).await;
        check(&[b"\0\0\0\0"], "bgpd does not answer `show x`: it broke off").await;
        check(&[b"\0\0\0\0", b"half\0"], "bgpd does not answer `show x`: it broke off").await;
        check(&[b"\0\0\0\0", b""], "no answer within 0.3 s; it hangs").await;
        check(&[b"*1\r\n\0x"], "there is a zero in the middle of the text").await;
    }

    #[tokio::test]
    async fn who_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::new(folder.path(), "leaf01");
        let error = |text: anyhow::Error| format!("{text:#}");
        assert!(error(sockets.names().unwrap_err()).contains("is FRR started"));
        std::fs::create_dir(sockets.folder()).unwrap();
        assert!(error(sockets.ask("zebra", "x").await.unwrap_err()).contains("zebra is not there"));
        drop(UnixListener::bind(sockets.path("zebra")).unwrap());
        std::fs::write(sockets.folder().join("zebra.pid"), "1").unwrap();
        assert_eq!(sockets.names().unwrap(), ["zebra"]);
        assert!(error(sockets.ask("zebra", "x").await.unwrap_err()).contains("zebra has ended"));
        assert_eq!(sockets.ask_if_there("zebra", "x").await.unwrap(), None);
        assert!(!sockets.hears("zebra").await);
        let _listener = {
            std::fs::remove_file(sockets.path("zebra")).unwrap();
            UnixListener::bind(sockets.path("zebra")).unwrap()
        };
        assert!(sockets.hears("zebra").await);
    }
}
