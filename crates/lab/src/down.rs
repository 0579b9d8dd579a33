//! `lab down`: nothing is left, whatever state the lab was in. Only what the ledger, the lab's names and the lab's
//! markers say is ours is touched.

use std::fs;

use anyhow::{Result, bail};

use crate::control::{self, Request};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{fabric, frr, ledger, supervisor};

/// What there is of a lab: processes, network, folders.
pub fn leftovers(paths: &Paths) -> Vec<String> {
    let processes = ledger::all(&paths.run());
    let mut left: Vec<_> =
        processes.into_iter().map(|(name, e)| format!("process {} ({name})", e.pid)).collect();
    left.extend(fabric::leftovers());
    left.extend(frr::leftovers().iter().map(|folder| folder.display().to_string()));
    left
}

/// Whether there is anything of a lab.
pub fn anything(paths: &Paths) -> bool {
    !leftovers(paths).is_empty() || paths.spec().exists()
}

/// Ends and removes all of it; logs stay until the next `up`.
///
/// # Errors
/// Something cannot be removed; the message names it.
pub fn clean(paths: &Paths) -> Result<()> {
    if ledger::find(&paths.run(), "supervisor").is_some() {
        // a supervisor that does not answer is ended by the sweep
        control::ask(&paths.control(), &Request::Shutdown).ok();
    }
    supervisor::sweep(paths);
    fabric::remove()?;
    frr::remove()?;
    keep_consoles(paths)?;
    for entry in fs::read_dir(paths.lab()).into_iter().flatten().flatten() {
        if entry.path() == paths.logs() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    let left = leftovers(paths);
    if !left.is_empty() {
        bail!("still there: {}", left.join(", "));
    }
    Ok(())
}

/// Consoles of guests are where QEMU writes them; afterwards they are among the logs.
fn keep_consoles(paths: &Paths) -> Result<()> {
    for entry in fs::read_dir(paths.run()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".console.log") {
            fs::rename(entry.path(), paths.logs().join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The command.
///
/// # Errors
/// As [`clean`].
pub fn down(paths: &Paths) -> Result<()> {
    let progress = Progress::default();
    if !anything(paths) {
        progress.note("there is no lab");
        return Ok(());
    }
    let step = progress.step("machines, agents, network");
    clean(paths)?;
    step.done("gone");
    Ok(())
}
