//! `metal-switch check`: what the agent needs, looked at one by one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::backend::Backend;
use crate::backend::device::Device;
use crate::config::Config;
use crate::frr::Vtysh;

/// Prints one line per requirement. Ends with 1 when one is not met.
///
/// # Errors
/// When the configuration cannot be used at all.
pub async fn run(path: &Path) -> Result<ExitCode> {
    let config = Arc::new(Config::load(path)?);
    let mut good = true;
    let mut say = |what: &str, result: Result<String>| match result {
        Ok(detail) => println!("ok    {what}: {detail}"),
        Err(error) => {
            good = false;
            println!("bad   {what}: {error:#}");
        }
    };
    say("configuration", Ok(format!("switch {} in {}", config.id, config.partition)));
    say("token_file", readable(&config.token_file));
    say("state_dir", writable(&config.state_dir));
    let vtysh = Vtysh::new(config.frr.vtysh.clone(), config.frr.pathspace.clone());
    let name = if config.frr.pathspace.is_empty() { "default" } else { &config.frr.pathspace };
    say(
        "routing daemons",
        vtysh
            .running()
            .await
            .map(|running| format!("pathspace {name}, {} lines run", running.lines().len())),
    );
    let device = Device::open(&config)?;
    if let Device::Sonic(sonic) = &device {
        for (what, result) in sonic.check().await {
            say(what, result);
        }
    }
    match device.observe().await {
        Err(error) => say("interfaces", Err(error)),
        Ok(observed) => {
            for missing in observed.missing {
                say("interfaces", Err(anyhow::anyhow!(missing)));
            }
            let ports: Vec<_> = observed.ports.keys().cloned().collect();
            say(
                "machine ports",
                match ports.is_empty() {
                    false => Ok(ports.join(" ")),
                    true => Err(anyhow::anyhow!("no interface is called like `ports` says")),
                },
            );
        }
    }
    say(
        "LLDP",
        crate::speaker::Speaker::open()
            .map(|_| "raw sockets can be opened".to_owned())
            .context("raw sockets need the capability NET_RAW"),
    );
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn readable(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    anyhow::ensure!(!text.trim().is_empty(), "{} is empty", path.display());
    Ok(path.display().to_string())
}

fn writable(path: &Path) -> Result<String> {
    let try_out = || {
        std::fs::create_dir_all(path)?;
        let probe = path.join("probe");
        std::fs::write(&probe, "")?;
        std::fs::remove_file(probe)
    };
    try_out().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path.display().to_string())
}
