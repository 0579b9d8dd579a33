//! What the lab boots and installs: kernel, initrd and image, made once and cached by the hash of what they are made of.

pub mod base;
pub mod image;
pub mod initrd;
pub mod mirror;
pub mod overlay;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
pub use guest::cache::cached;
pub use guest::kernel;
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
