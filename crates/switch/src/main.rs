//! `metal-switch`: the agent of one switch.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Parser, Subcommand};
use client::Client;
use daemon::Shutdown;
use switch::agent::Agent;
use switch::backend::device::Device;
use switch::config::Config;
use switch::control::Control;

/// Agent of one switch: makes ports and routing as the control plane wants them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until told to stop; the network stays as it is then.
    Serve(Configured),
    /// Print what would be changed now and change nothing. Ends with 2 when there is something to do.
    Plan(Configured),
    /// Check the configuration and what the agent needs on this switch.
    Check(Configured),
}

#[derive(clap::Args)]
struct Configured {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    daemon::telemetry::init("metal-switch");
    let result = match Arguments::parse().command {
        Command::Serve(with) => serve(&with.config).await,
        Command::Plan(with) => plan(&with.config).await,
        Command::Check(with) => switch::check::run(&with.config).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("metal-switch: {error:#}");
        ExitCode::FAILURE
    })
}

fn agent(path: &Path) -> Result<(Arc<Config>, Arc<Agent<Device>>)> {
    let config = Arc::new(Config::load(path)?);
    let ca_cert = config.ca_cert_file.as_deref();
    let client = Client::of_agent(&config.api_url, &config.token_file, ca_cert)?;
    let backend = Device::open(&config)?;
    let control = Control::new(client, config.id.clone());
    Ok((config.clone(), Arc::new(Agent::new(config, backend, control))))
}

async fn serve(path: &Path) -> Result<ExitCode> {
    let (config, agent) = agent(path)?;
    let shutdown = Shutdown::on_signals();
    if let Some(address) = config.metrics {
        daemon::metrics::serve(address, shutdown.clone()).await?;
    }
    agent.run(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn plan(path: &Path) -> Result<ExitCode> {
    let (_, agent) = agent(path)?;
    if let Err(error) = agent.fetch().await {
        eprintln!("the control plane does not answer ({error}); planning with the saved state");
    }
    let plan = agent.plan().await?;
    print!("{plan}");
    Ok(if plan.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
