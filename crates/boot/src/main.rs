//! `metal-boot`: lets the machines of a partition boot from the network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use boot::config::Config;
use clap::{Parser, Subcommand};

/// The boot service of a partition: DHCP, TFTP, HTTP and router advertisements for machines that boot from the network.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until told to stop.
    Serve(Configured),
    /// Check the configuration and whether it can be served now; serves nothing.
    Check(Configured),
}

#[derive(clap::Args)]
struct Configured {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("metal-boot: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("no threads")?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(with) => serve(&with.config).await,
            Command::Check(with) => boot::check::run(&with.config).await,
        }
    });
    // a download in progress is not waited for
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn serve(path: &Path) -> Result<ExitCode> {
    daemon::telemetry::init("metal-boot");
    let shutdown = daemon::Shutdown::on_signals();
    boot::serve::run(&Config::load(path)?, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
