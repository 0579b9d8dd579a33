//! Debian packages that are installed when they are missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::shell::step;

/// Name of a package and a file that is there when it is installed.
pub(crate) type Package = (&'static str, &'static str);

/// Installs those that are missing.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    step(apt().args(["update", "-qq"]))?;
    step(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
}
