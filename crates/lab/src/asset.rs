//! What the lab boots and installs: kernel, initrd and image, made once and cached by the hash of what they are made of.

pub mod base;
pub mod image;
pub mod initrd;
pub mod kernel;
pub mod mirror;
pub mod overlay;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::digest;

use crate::shell;

/// A hash over everything that decides about an asset.
pub struct Key(digest::Context);

impl Default for Key {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Key {
    /// Adds a text. Its length is part of it, so that two texts never melt into one.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.update(&text.len().to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// Adds the contents of a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file(self, path: &Path) -> Result<Self> {
        Ok(self.text(&sha256(path)?))
    }

    /// The first half of the hash, for a file name.
    pub fn finish(self) -> String {
        hex(&self.0.finish().as_ref()[..8])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file in hex.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        context.update(&buffer[..length]);
    }
}

/// Makes an asset in a folder of its own and gives it its name only when it is complete; an older one with the
/// same prefix goes, so that the cache does not grow for ever.
///
/// # Errors
/// What `make` says; nothing is left then.
pub fn cached(
    cache: &Path,
    prefix: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<(PathBuf, bool)> {
    let name = cache.join(format!("{prefix}-{key}"));
    if name.exists() {
        return Ok((name, true));
    }
    let work = cache.join(format!(".{prefix}-{key}.{}", std::process::id()));
    remove_tree(&work)?;
    fs::create_dir_all(&work)?;
    if let Err(error) = make(&work) {
        remove_tree(&work).ok();
        return Err(error);
    }
    fs::rename(&work, &name)?;
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let old = entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-"));
        if old && entry.path() != name {
            remove_tree(&entry.path())?;
        }
    }
    Ok((name, false))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes `FILE.sha256` and `FILE.md5` beside a file, in the form of `sha256sum`, and returns the SHA-256.
///
/// # Errors
/// The file cannot be read or the folder not be written.
pub fn digests(file: &Path) -> Result<String> {
    let name = file.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let sha256 = sha256(file)?;
    fs::write(beside(file, "sha256"), format!("{sha256}  {name}\n"))?;
    let folder = file.parent().context("a file has a folder")?;
    let md5 = shell::run(shell::command("md5sum", [&name]).current_dir(folder))?;
    fs::write(beside(file, "md5"), md5)?;
    Ok(sha256)
}

/// `FILE.EXTENSION`.
pub fn beside(file: &Path, extension: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_made_once_and_replaces_its_predecessor() {
        let cache = tempfile::tempdir().expect("folder");
        let make = |folder: &Path| Ok(fs::write(folder.join("file"), "x")?);
        let (old, from_cache) = cached(cache.path(), "image", "1", make).expect("made");
        assert!(!from_cache && old.join("file").exists());
        assert!(cached(cache.path(), "image", "1", make).expect("made").1);
        let (new, _) = cached(cache.path(), "image", "2", make).expect("made");
        assert!(new.exists() && !old.exists());
    }

    #[test]
    fn a_failed_asset_leaves_nothing() {
        let cache = tempfile::tempdir().expect("folder");
        cached(cache.path(), "image", "1", |_| anyhow::bail!("no")).expect_err("fails");
        assert_eq!(fs::read_dir(cache.path()).expect("folder").count(), 0);
    }

    #[test]
    fn digests_are_what_the_tools_check() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("a.tar.zst");
        fs::write(&file, "x").expect("write");
        digests(&file).expect("digests");
        for tool in ["sha256", "md5"] {
            let mut check = shell::command(
                &format!("{tool}sum"),
                ["-c", "--status", &format!("a.tar.zst.{tool}")],
            );
            shell::run(check.current_dir(&folder)).expect(tool);
        }
    }
}
