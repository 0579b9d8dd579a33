//! `lab logs`: what the parts wrote.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;

/// Prints the log of a part, or the names of all logs.
///
/// # Errors
/// There is no such log.
pub fn logs(paths: &Paths, part: Option<&str>) -> Result<()> {
    let Some(part) = part else {
        for name in names(paths)? {
            println!("{name}");
        }
        return Ok(());
    };
    let file = paths.log(part);
    let Ok(bytes) = fs::read(&file) else {
        bail!("there is no log {part}; there are: {}", names(paths)?.join(", "));
    };
    std::io::Write::write_all(&mut std::io::stdout(), &bytes)?;
    Ok(())
}

fn names(paths: &Paths) -> Result<Vec<String>> {
    let entries = fs::read_dir(paths.logs()).context("there never was a lab here")?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
