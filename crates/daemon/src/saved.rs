//! The last good state of an agent on disk, so that one that starts without the control plane knows what to do.
//!
//! Two lines of JSON: a head with version and check sum, and the body that it is about. Written beside and renamed; the
//! file before stays as a second choice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    sha256: String,
}

/// The folder that it is kept in.
#[derive(Clone, Debug)]
pub struct Store<T> {
    folder: PathBuf,
    kept: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Keeps it in this folder, which is made when the first state is saved.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), kept: PhantomData }
    }

    /// What was saved last; `None` when nothing was.
    ///
    /// # Errors
    /// When there is something and neither it nor what was saved before can be trusted.
    pub fn load(&self) -> Result<Option<T>> {
        let first = match read(&self.current()) {
            Ok(saved) => return Ok(saved),
            Err(error) => error,
        };
        match read(&self.previous()) {
            Ok(Some(saved)) => {
                tracing::warn!(
                    error = format!("{first:#}"),
                    "using the saved state before the last one"
                );
                Ok(Some(saved))
            }
            _ => Err(first),
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
        let head = serde_json::to_string(&Head { version: VERSION, sha256: sum(&body) })?;
        let next = self.folder.join("desired.next");
        let mut file = File::create(&next)?;
        writeln!(file, "{head}\n{body}")?;
        file.sync_all()?;
        if self.current().exists() {
            fs::rename(self.current(), self.previous())?;
        }
        fs::rename(next, self.current())?;
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn current(&self) -> PathBuf {
        self.folder.join("desired")
    }

    fn previous(&self) -> PathBuf {
        self.folder.join("desired.previous")
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // Between the two renames there is only the one before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ensure!(
                !path.with_extension("previous").exists() || path.extension().is_some(),
                "{} is missing",
                path.display()
            );
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    parse(&text).map(Some).with_context(|| format!("{} cannot be used", path.display()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let Some((head, body)) = text.trim_end().split_once('\n') else { bail!("it was cut off") };
    let head: Head = serde_json::from_str(head).context("its first line is damaged")?;
    ensure!(head.version == VERSION, "it has version {}, this agent reads {VERSION}", head.version);
    ensure!(head.sha256 == sum(body), "its check sum is wrong");
    serde_json::from_str(body).context("it does not hold a desired state")
}

fn sum(body: &str) -> String {
    digest(&SHA256, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        generation: u64,
        vrf: String,
    }

    fn kept(generation: u64) -> Kept {
        Kept { generation, vrf: "vrf7".into() }
    }

    #[test]
    fn comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("leaf01"));
        assert_eq!(store.load().unwrap(), None);
        store.save(&kept(1)).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept(1)));
        store.save(&kept(2)).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept(2)));
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.save(&kept(1)).unwrap();
        let good = fs::read_to_string(store.current()).unwrap();
        for bad in [
            good.replace("vrf7", "vrf8"),
            good.replace("\"version\":1", "\"version\":2"),
            good[..40].to_owned(),
            String::new(),
        ] {
            fs::write(store.current(), &bad).unwrap();
            assert!(store.load().is_err(), "{bad}");
        }
        // The one before is better than none.
        fs::write(store.current(), good).unwrap();
        store.save(&kept(2)).unwrap();
        fs::write(store.current(), "x").unwrap();
        assert_eq!(store.load().unwrap(), Some(kept(1)));
        fs::remove_file(store.current()).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept(1)));
    }
}
