//! Into machines, the way their users come: over the fabric, with the key of the allocation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::shell;

/// How long routes and the daemon may take after the sign of life.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command on a machine and returns what it printed; tries again while nobody answers.
pub(super) fn run(stage: &Stage, address: &str, command: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let key = stage.paths.ssh_key().display().to_string();
        let mut ssh = shell::command(
            "ssh",
            [
                "-i",
                &key,
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                &format!("metal@{address}"),
                command,
            ],
        );
        match shell::run(&mut ssh) {
            Ok(output) => return Ok(output.trim().to_owned()),
            Err(error) if begin.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("no ssh to {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}
