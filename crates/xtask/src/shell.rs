//! Running programs so that a human sees which.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crate is two levels deep")
        .to_owned()
}

/// Shows a command, runs it, and wants it to succeed.
pub(crate) fn step(command: &mut Command) -> Result<()> {
    eprintln!("▶ {}", format!("{command:?}").replace('"', ""));
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Runs cargo in the checkout.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Result<()> {
    step(Command::new("cargo").args(args).current_dir(root))
}
