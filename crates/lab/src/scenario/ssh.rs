//! Into machines, with the key of the allocation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::topology::{Fabric, Machine};
use crate::{login, shell};

/// How long routes and the daemon may take after the sign of life.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command on a machine and returns what it printed; tries again while nobody answers.
pub(super) fn run(stage: &Stage, machine: Machine, address: &str, command: &str) -> Result<String> {
    let begin = Instant::now();
    let connect = |target: &str| shell::run(login::ssh(&stage.paths, target).arg(command));
    loop {
        let result = match stage.spec.fabric {
            Fabric::Plain => connect(address),
            Fabric::Netns => login::by_port(machine, connect),
        };
        match result {
            Ok(output) => return Ok(output.trim().to_owned()),
            Err(error) if begin.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("no ssh to {machine}, {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
