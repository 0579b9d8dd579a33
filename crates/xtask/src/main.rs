//! Everything a human types that is not `cargo` itself.

mod test;

use std::path::PathBuf;

use anyhow::{Context, Result};
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
    /// Write the FileDescriptorSet of all packages.
    Descriptors {
        /// File to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Install what the tests need and run all of them.
    Test,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Descriptors { out } => std::fs::write(&out, proto::DESCRIPTOR_SET)
            .with_context(|| format!("cannot write {}", out.display())),
        Command::Test => test::run(),
    }
}
