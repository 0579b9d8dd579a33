//! The official clients, unmodified, against real server processes; docs/conformance.md tells what each suite proves.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::step;

/// What is run, in this order: module and arguments.
const SUITES: [&[&str]; 7] = [
    // repeats reads and errors over all other protocols
    &["official", "--agree"],
    &["official", "--protocol", "connect-json"],
    &["official", "--protocol", "grpc"],
    &["official", "--protocol", "grpc-web"],
    &["official", "--engine", "postgres"],
    &["official", "--engine", "postgres", "--replicas", "2", "--protocol", "grpc"],
    &["validation"],
];

/// All suites with the Python of the virtual environment.
pub(crate) fn run(root: &Path, python: &Path) -> Result<()> {
    for suite in SUITES {
        step(
            Command::new(python)
                .arg("-m")
                .args(suite)
                .current_dir(root.join("conformance"))
                .env("PYTHONUNBUFFERED", "1"),
        )?;
    }
    Ok(())
}
