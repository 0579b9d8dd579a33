//! Into machines, with the key of the allocation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::login;
use crate::topology::Machine;

/// How long routes and the daemon may take after the sign of life.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command on a machine and returns what it printed; tries again while nobody answers.
pub(super) fn run(stage: &Stage, machine: Machine, address: &str, command: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let result = login::run(&stage.paths, stage.spec.fabric, machine, address, command);
        match result {
            Ok(output) => return Ok(output.trim().to_owned()),
            Err(error) if begin.elapsed() > stage.patience(PATIENCE) => {
                return Err(error).with_context(|| format!("no ssh to {machine}, {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
