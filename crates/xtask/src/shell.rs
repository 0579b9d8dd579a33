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
    let line = line(command);
    eprintln!("▶ {line}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} failed: {status}");
    }
    Ok(())
}

/// What is started, without the environment: tokens are handed over there.
fn line(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs cargo in the checkout.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Result<()> {
    // without what cargo told this process of itself: build scripts that look at it would run again each time that
    // `cargo` and `cargo xtask` take turns, and all that is above them
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root);
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| told.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    step(&mut command)
}
