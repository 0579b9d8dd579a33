//! `metal-boot`: lets the machines of a partition boot from the network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Serves until SIGTERM or SIGINT.
    Serve {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Says whether the configuration can be served now; serves nothing.
    Check {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("metal-boot: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Serve { config } => serve(config).await,
            Command::Check { config } => check(config).await,
        }
    });
    // a download in progress is not waited for
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn serve(path: PathBuf) -> ExitCode {
    daemon::telemetry::init("metal-boot");
    let shutdown = daemon::Shutdown::on_signals();
    let result = match Config::load(&path) {
        Ok(config) => boot::serve::run(&config, shutdown).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn check(path: PathBuf) -> ExitCode {
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            println!("BAD  {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let findings = boot::check::look(&config).await;
    for finding in &findings {
        println!("{} {}", if finding.good { "ok  " } else { "BAD " }, finding.text);
    }
    if findings.iter().all(|finding| finding.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
