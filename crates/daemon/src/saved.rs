//! The last good state of an agent on disk, so that one that starts without the control plane knows what to do.
//!
//! Three lines: a head with version, owner and number, the body in JSON, and a seal over both that only this agent can make
//! (`docs/adr/0012-sealed-state.md`). Written beside and renamed; the file before stays as a second choice.

mod seal;

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use seal::Seal;

/// 1 had a check sum only, which anybody could make.
const VERSION: u32 = 2;

/// What is said about a body before it is read.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    /// Whose state it is.
    owner: String,
    /// Grows with each save.
    number: u64,
}

/// The folder that it is kept in.
#[derive(Clone, Debug)]
pub struct Store<T> {
    folder: PathBuf,
    owner: String,
    kept: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Keeps it in this folder, which is made when the first state is saved. `owner` says for humans whose state it is, for
    /// instance `switch leaf01`; that of another owner is refused.
    pub fn new(folder: impl Into<PathBuf>, owner: impl Into<String>) -> Self {
        Self { folder: folder.into(), owner: owner.into(), kept: PhantomData }
    }

    /// What was saved last; `None` when nothing was. Changes nothing.
    ///
    /// # Errors
    /// When there is something and neither it nor what was saved before can be trusted.
    pub fn load(&self) -> Result<Option<T>> {
        let (current, previous) = (self.current(), self.previous());
        if !current.exists() && !previous.exists() {
            return Ok(None);
        }
        let seal = Seal::load(&self.key())?;
        let first = match self.read(&current, seal.as_ref()) {
            Ok(saved) => return Ok(Some(saved)),
            Err(error) => error,
        };
        match self.read(&previous, seal.as_ref()) {
            Ok(saved) => {
                tracing::warn!(
                    error = format!("{first:#}"),
                    "using the saved state before the last one"
                );
                Ok(Some(saved))
            }
            Err(_) => Err(first),
        }
    }

    /// Saves it for good: a power cut leaves either this or what was saved before.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn save(&self, saved: &T) -> Result<()> {
        self.write(saved).with_context(|| {
            format!("the desired state cannot be saved in {}", self.folder.display())
        })
    }

    fn write(&self, saved: &T) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let body = serde_json::to_string(saved)?;
        let mut seal = self.seal()?;
        seal.number += 1;
        let head = Head { version: VERSION, owner: self.owner.clone(), number: seal.number };
        let sealed = format!("{}\n{body}", serde_json::to_string(&head)?);
        let next = self.folder.join("desired.next");
        let mut file = File::create(&next)?;
        writeln!(file, "{sealed}\n{}", seal.of(&sealed))?;
        file.sync_all()?;
        // Whatever is older than this and the one before is of the past from now on. Not earlier: a disk that takes
        // the count and not the state, again and again, would make a past of what is there.
        seal.save(&self.key())?;
        if self.current().exists() {
            fs::rename(self.current(), self.previous())?;
        }
        fs::rename(next, self.current())?;
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// The key of this agent, a new one if there is none that can be used.
    fn seal(&self) -> Result<Seal> {
        match Seal::load(&self.key()) {
            Ok(Some(seal)) => Ok(seal),
            Ok(None) => Seal::new(),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a new key is made");
                Seal::new()
            }
        }
    }

    fn read(&self, path: &Path, seal: Option<&Seal>) -> Result<T> {
        let text = match fs::read_to_string(path) {
            // Between the two renames there is only the one before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{} is missing", path.display())
            }
            other => other.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        self.open(&text, seal).with_context(|| format!("{} is not used", path.display()))
    }

    /// The body, if it is what this agent wrote, and not too long ago.
    fn open(&self, text: &str, seal: Option<&Seal>) -> Result<T> {
        let lines: Vec<_> = text.lines().collect();
        let Some(first) = lines.first() else { bail!("it is empty") };
        let version =
            serde_json::from_str::<Version>(first).context("its first line is damaged")?;
        ensure!(
            version.version == VERSION,
            "it has version {}, this agent reads {VERSION}",
            version.version
        );
        let head: Head = serde_json::from_str(first).context("its first line is damaged")?;
        ensure!(
            head.owner == self.owner,
            "it is the state of {}, and this is {}",
            head.owner,
            self.owner
        );
        let [first, body, tag] = lines[..] else { bail!("it is not whole") };
        let Some(seal) = seal else { bail!("the key that sealed it is missing") };
        ensure!(
            seal.fits(&format!("{first}\n{body}"), tag),
            "it was changed, or written by somebody else: its seal does not fit"
        );
        ensure!(
            head.number + 1 >= seal.number,
            "it is of the past: it was saved as number {}, the last one is {}",
            head.number,
            seal.number
        );
        serde_json::from_str(body).context("it does not hold a desired state")
    }

    fn current(&self) -> PathBuf {
        self.folder.join("desired")
    }

    fn previous(&self) -> PathBuf {
        self.folder.join("desired.previous")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key")
    }
}

/// What the head of every version says.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests;
