//! The key of an agent and how far it has counted: what it sealed is its own, and not of the past.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Bytes of a key.
const LENGTH: usize = 32;

/// HMAC-SHA256 with a key that nobody else has.
pub(super) struct Seal {
    key: [u8; LENGTH],
    /// Of the state that was saved last, or is being saved.
    pub(super) number: u64,
}

/// As it is in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    number: u64,
}

impl Seal {
    /// With a new key.
    pub(super) fn new() -> Result<Self> {
        let mut key = [0; LENGTH];
        SystemRandom::new().fill(&mut key).ok().context("no randomness")?;
        Ok(Self { key, number: 0 })
    }

    /// The one of this file; `None` when there is no file.
    pub(super) fn load(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let mode = file.metadata()?.mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "{} was open to others (mode {mode:o}), who may have sealed something: remove it, \
             the agent makes a new one",
            path.display()
        );
        let stored: Option<Stored> = serde_json::from_reader(file).ok();
        let seal = stored
            .and_then(|stored| Some(Self { key: from_hex(&stored.key)?, number: stored.number }));
        seal.map(Some).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Keeps it for good, for nobody else to read.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let next = path.with_extension("next");
        // One that was left behind by a power cut.
        fs::remove_file(&next).ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        let stored = Stored { key: hex(&self.key), number: self.number };
        writeln!(file, "{}", serde_json::to_string(&stored)?)?;
        file.sync_all()?;
        fs::rename(next, path)?;
        Ok(())
    }

    /// The seal of a text.
    pub(super) fn of(&self, text: &str) -> String {
        hex(hmac::sign(&self.key(), text.as_bytes()).as_ref())
    }

    /// Whether this is the seal of the text.
    pub(super) fn fits(&self, text: &str, tag: &str) -> bool {
        from_hex::<32>(tag)
            .is_some_and(|tag| hmac::verify(&self.key(), text.as_bytes(), &tag).is_ok())
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(HMAC_SHA256, &self.key)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("number", &self.number).finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
