//! Debian packages taken apart without installing them: some would change the host that they are installed on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::cached;
use crate::shell;

/// The files of a package, from the cache or from the configured mirror.
///
/// # Errors
/// It is not in the cache and the mirror cannot be reached.
pub fn files(cache: &Path, package: &str) -> Result<PathBuf> {
    // which version does not matter to who asks for it by name
    let (folder, _) = cached(cache, &format!("package-{package}"), "files", |work| {
        if unpack(package, work).is_ok() {
            return Ok(());
        }
        shell::run(&mut shell::command("apt-get", ["update", "-qq"]))?;
        unpack(package, work)
    })
    .with_context(|| format!("cannot get the package {package}"))?;
    Ok(folder)
}

/// Unpacks into a folder that is there and empty.
pub(crate) fn unpack(package: &str, work: &Path) -> Result<()> {
    let options = ["-o", "APT::Sandbox::User=root", "download", package];
    shell::run(shell::command("apt-get", options).current_dir(work))?;
    let archive = fs::read_dir(work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("apt-get downloaded nothing")?;
    shell::run(shell::command("dpkg-deb", ["-x"]).arg(&archive).arg(work))?;
    Ok(fs::remove_file(&archive)?)
}
