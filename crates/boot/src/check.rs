//! `metal-boot check`: everything that can be found out before a machine stands there and waits.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Error, Result};
use daemon::check::{Findings, readable};

use crate::config::Config;
use crate::control;
use crate::loader::LOADERS;
use crate::mac::Mac;
use crate::serve;

/// Prints one line per requirement. Ends with 1 when one is not met.
///
/// # Errors
/// When the configuration cannot be used at all.
pub async fn run(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    let mut findings = Findings::default();
    findings.say("interface", interface(&config));
    findings.say("token_file", readable(&config.token_file));
    for name in LOADERS {
        findings.say("boot loader", readable(&config.loader_dir.join(name)));
    }
    findings.say("control plane", control_plane(&config).await);
    Ok(findings.end())
}

fn interface(config: &Config) -> Result<String> {
    let (name, own) = (&config.network.interface, config.network.address);
    serve::ready(config).map_err(Error::msg)?;
    Ok(format!("{name} has the address {own}"))
}

async fn control_plane(config: &Config) -> Result<String> {
    let url = &config.api_url;
    let recipe =
        serve::control(config)?.recipe(Mac([0; 6])).await.map_err(|error| match error {
            control::Error::Away(_) => Error::new(error).context(url.clone()),
            control::Error::Refused(why) => Error::msg(format!("{url} refuses: {why}")),
        })?;
    let initrds = match &recipe.initrds[..] {
        [] => "no initrd".to_owned(),
        initrds => initrds.join(", "),
    };
    Ok(format!(
        "machines of partition {} boot {} with {initrds} and the command line {:?}",
        config.partition, recipe.kernel, recipe.cmdline,
    ))
}
