//! `metal-switch check`: what the agent needs, looked at one by one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use daemon::check::{Findings, readable, writable};

use crate::backend::Backend;
use crate::backend::device::Device;
use crate::config::Config;
use crate::frr::Daemons;

/// Prints one line per requirement. Ends with 1 when one is not met.
///
/// # Errors
/// When the configuration cannot be used at all.
pub async fn run(path: &Path) -> Result<ExitCode> {
    let config = Arc::new(Config::load(path)?);
    let mut findings = Findings::default();
    findings.say("configuration", Ok(format!("switch {} in {}", config.id, config.partition)));
    findings.say("token_file", readable(&config.token_file));
    findings.say("state_dir", writable(&config.state_dir));
    let daemons = Daemons::new(&config.frr);
    let name = if config.frr.pathspace.is_empty() { "default" } else { &config.frr.pathspace };
    findings.say(
        "routing daemons",
        daemons.running().await.map(|running| {
            let lines = running.lines().len();
            format!("pathspace {name}, {}, {lines} lines run", daemons.way())
        }),
    );
    let device = Device::open(&config)?;
    if let Device::Sonic(sonic) = &device {
        for (what, result) in sonic.check().await {
            findings.say(what, result);
        }
    }
    match device.observe().await {
        Err(error) => findings.say("interfaces", Err(error)),
        Ok(observed) => {
            for missing in observed.missing {
                findings.say("interfaces", Err(anyhow::anyhow!(missing)));
            }
            let ports: Vec<_> = observed.ports.keys().cloned().collect();
            findings.say(
                "machine ports",
                match ports.is_empty() {
                    false => Ok(ports.join(" ")),
                    true => Err(anyhow::anyhow!("no interface is called like `ports` says")),
                },
            );
        }
    }
    findings.say(
        "LLDP",
        crate::speaker::Speaker::open()
            .map(|_| "raw sockets can be opened".to_owned())
            .context("raw sockets need the capability NET_RAW"),
    );
    Ok(findings.end())
}
