//! What survives a restart: leases, accepted claims and what machines boot. One small file, replaced as a whole.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dhcp::lease::Lease;
use crate::identity::Claim;
use crate::mac::Mac;
use crate::recipes::Recipe;

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    #[serde(default)]
    pub leases: Vec<Lease>,
    #[serde(default)]
    pub claims: Vec<Claim>,
    #[serde(default)]
    pub recipes: Vec<(Mac, Recipe)>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// A file in this directory, which is made when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: &Path) -> io::Result<Self> {
        // URLs may hold what not everybody should read
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self { path: directory.join("machines.json") })
    }

    /// Reads the file. One that is missing or broken is like an empty one: machines keep their addresses when they renew,
    /// and claims are checked again.
    #[must_use]
    pub fn load(&self) -> Saved {
        let saved = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        saved.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %self.path.display(), %error, "leases and claims are forgotten: the file is unusable");
            }
            Saved::default()
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written; the old one is intact then.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(saved)?)
    }
}

/// Replaces a file such that a crash leaves the old or the new content.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Verdict;

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("a/b")).unwrap();
        assert_eq!(store.load(), Saved::default());
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let saved = Saved {
            leases: vec![Lease { address: [10, 0, 1, 100].into(), mac: Some(mac), until: 7 }],
            claims: vec![Claim {
                mac,
                uuid: uuid::Uuid::from_u128(1),
                port: "swp1".into(),
                verdict: Verdict::Accepted,
                since: 5,
                until: 7,
                checked: 6,
            }],
            recipes: vec![(
                mac,
                Recipe { kernel: "http://k".into(), initrds: Vec::new(), cmdline: String::new() },
            )],
        };
        store.save(&saved).unwrap();
        assert_eq!(store.load(), saved);
        fs::write(&store.path, "{\"leases\":[").unwrap();
        assert_eq!(store.load(), Saved::default());
    }
}
