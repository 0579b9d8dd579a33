//! Everything a human types that is not `cargo` itself.

mod bench;
mod conformance;
mod fuzz;
mod lab;
mod packages;
mod shell;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Project automation; `cargo xtask help COMMAND` tells more.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the virtual data center, look at it, run stories in it; `cargo xtask lab help` tells more.
    Lab {
        /// `up`, `down`, `status`, `console`, `logs`, `--scenario NAME`…
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure; the numbers go to the terminal.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Feed parsers with nonsense (fuzz/README.md).
    Fuzz {
        /// For how long, each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only this one.
        target: Option<String>,
    },
    /// Install what the tests need and run all of them.
    Test {
        /// Also build the coordination server of the VPN, which is written in Go and takes minutes, and run what needs it.
        #[arg(long)]
        go: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Power-on to waiting, and allocate to phoned home, in the virtual data center.
    Provision {
        /// How often each machine is allocated.
        #[arg(long, default_value_t = 3)]
        rounds: u8,
    },
    /// Allocations per second on PostgreSQL by 64 clients, with 1,000 to 50,000 machines that wait.
    Allocate {
        /// How it is compiled: `bench` is fast, `dev` is what is there already.
        #[arg(long, default_value = "bench")]
        profile: String,
    },
    /// How long a human waits for `metalctl`: its start, and a list of 10,000 machines.
    Cli {
        /// How it is compiled: `bench` is fast, `dev` is what is there already.
        #[arg(long, default_value = "bench")]
        profile: String,
    },
    /// What calls and open streams cost, with 10,000 and 100,000 machines, on SQLite and PostgreSQL.
    Api {
        /// How it is compiled: `bench` is fast, `dev` is what is there already.
        #[arg(long, default_value = "bench")]
        profile: String,
        /// Sizes of the fleet.
        #[arg(long, default_value = "10000,100000")]
        fleets: String,
        /// `sqlite`, `postgres`, or both.
        #[arg(long, default_value = "sqlite,postgres")]
        databases: String,
        /// Which of get, list, project, ip, rights, streams.
        #[arg(long, default_value = "get,list,project,ip,rights,streams")]
        only: String,
    },
    /// Time from start to the first answer, and memory when idle.
    Start {
        /// How the server is compiled: `release`, or `dev` which is there already.
        #[arg(long, default_value = "release")]
        profile: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Lab { args } => lab::run(&args),
        Command::Bench { what: Bench::Provision { rounds } } => {
            lab::run(&["bench".to_owned(), "--rounds".to_owned(), rounds.to_string()])
        }
        Command::Bench { what: Bench::Allocate { profile } } => bench::allocate(&profile),
        Command::Bench { what: Bench::Cli { profile } } => bench::cli(&profile),
        Command::Bench { what: Bench::Api { profile, fleets, databases, only } } => {
            bench::api(&profile, &fleets, &databases, &only)
        }
        Command::Bench { what: Bench::Start { profile } } => bench::start(&profile),
        Command::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref(), 0),
        Command::Test { go } => test::run(go),
    }
}
