//! `metal-firewall`: the agent of one firewall.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use daemon::Shutdown;
use firewall::agent;
use firewall::config::Config;
use firewall::control::Control;

/// Agent of one firewall: makes the packet filter as the rules of its allocation want it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until told to stop; the filter stays as it is then.
    Serve(Configured),
    /// Print what would be loaded into the kernel now and change nothing. Ends with 2 when there is something to do.
    Plan(Configured),
    /// Check the configuration and what the agent needs on this machine.
    Check(Configured),
}

#[derive(clap::Args)]
struct Configured {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/metal/firewall.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    daemon::telemetry::init("metal-firewall");
    let result = match Arguments::parse().command {
        Command::Serve(with) => serve(&with.config),
        Command::Plan(with) => runtime().and_then(|runtime| runtime.block_on(plan(&with.config))),
        Command::Check(with) => firewall::check::run(&with.config),
    };
    result.unwrap_or_else(|error| {
        eprintln!("metal-firewall: {error:#}");
        ExitCode::FAILURE
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn serve(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    // before anything that can fail or take time
    let enforcer = agent::Enforcer::start(&config);
    if let Some(why) = enforcer.failure() {
        agent::notify(&agent::status(Some(why)));
        if let Ok(control) = Control::new(&config) {
            runtime()?.block_on(agent::confess(&control, why));
        }
        // the service has failed, and the service manager tries it again
        bail!("there is no filter, so nothing is forwarded: {why}");
    }
    agent::notify(&format!("READY=1\n{}", agent::status(None)));
    let control = Control::new(&config)?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::on_signals();
        agent::run(enforcer, control, shutdown).await;
        Ok(ExitCode::SUCCESS)
    })
}

async fn plan(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    let wish = match Control::new(&config)?.first().await {
        Ok(wish) => Some(wish),
        Err(error) => {
            eprintln!(
                "the control plane does not answer ({error:#}); planning with the saved rules"
            );
            None
        }
    };
    let text = agent::plan(&config, wish)?;
    print!("{}", text.as_deref().unwrap_or_default());
    Ok(if text.is_none() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
