//! `metal-lab`: a virtual data center on one machine. Humans type `cargo xtask lab`, which builds what runs in it first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lab::control::{self, Request};
use lab::launch::{self, Launch};
use lab::paths::Paths;
use lab::progress::Progress;
use lab::shape::BootDevice;
use lab::spec::Spec;
use lab::topology::{Fabric, Firmware, MACHINES_MAX, Machine};
use lab::{bmc, console, down, files, login, logs, power, scenario, status, supervisor, up};

/// A virtual data center on one machine: leaves, control plane, boot service and machines.
#[derive(Parser)]
#[command(name = "cargo xtask lab", version)]
struct Cli {
    /// The checkout.
    #[arg(long, default_value = ".", hide = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: Up,
}

#[derive(clap::Args)]
struct Up {
    /// How many machines.
    #[arg(long, short = 'n', default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=i64::from(MACHINES_MAX)))]
    machines: u8,
    /// What firmware they have.
    #[arg(long, value_enum, default_value = "uefi")]
    firmware: Firmware,
    /// What the leaves are made of.
    #[arg(long, value_enum, default_value_t)]
    fabric: Fabric,
    /// Leaves watch their links by BFD, too: what stops to answer is left within a second.
    #[arg(long)]
    bfd: bool,
    /// Play a story with assertions, in the running lab or in one that ends afterwards; may be given several times.
    #[arg(long = "scenario", value_enum)]
    scenarios: Vec<scenario::Name>,
    /// Leave the lab running after the story.
    #[arg(long)]
    keep: bool,
}

impl Up {
    fn spec(&self) -> Spec {
        Spec {
            machines: self.machines,
            firmware: self.firmware,
            fabric: self.fabric,
            bfd: self.bfd,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Start the lab (the default).
    Up(Up),
    /// End it; nothing is left but logs and the cache.
    Down,
    /// Show what runs.
    Status,
    /// Connect to the serial console of a machine, for instance m1, or run commands on a leaf.
    Console { name: String },
    /// Log in to an installed machine with the lab's key, or run a command there or on a leaf, for instance leaf01.
    Ssh {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show the log of a part, or which logs there are.
    Logs { part: Option<String> },
    /// Use the power buttons of a machine.
    Power {
        machine: String,
        #[arg(value_enum)]
        button: Button,
    },
    /// Measure power-on to waiting and allocate to phoned home.
    Bench {
        /// How often.
        #[arg(long, default_value_t = 3)]
        rounds: u8,
        #[command(flatten)]
        up: Up,
    },
    /// Make kernel, initrd and image, and start nothing.
    Assets,
    /// Start namespaces and routing daemons alone, for work on an agent.
    Network(Up),
    /// The process that keeps the others.
    #[command(hide = true)]
    Supervise,
    /// The power control agent.
    #[command(hide = true)]
    Bmc,
    /// The image server.
    #[command(hide = true)]
    ServeFiles {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        folder: PathBuf,
    },
    /// Become a program of the lab.
    #[command(hide = true)]
    Exec { launch: String },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Button {
    On,
    Off,
    Cycle,
    Reset,
    Pxe,
    Disk,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let paths = Paths::new(&cli.root).context("there is no checkout; is --root right?")?;
    // sockets are found from here, because their paths must be short
    if paths.lab().is_dir() {
        std::env::set_current_dir(paths.lab())?;
    }
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(up) => start(&paths, &up),
        Command::Down => down::down(&paths),
        Command::Status => status::status(&paths),
        Command::Console { name } => match Machine::parse(&name) {
            Some(machine) => console::console(&paths, machine),
            None => login::router(&paths, &name, &[]),
        },
        Command::Ssh { name, command } => match Machine::parse(&name) {
            Some(machine) => login::login(&paths, machine, &command),
            None => login::router(&paths, &name, &command),
        },
        Command::Logs { part } => logs::logs(&paths, part.as_deref()),
        Command::Power { machine, button } => press(&paths, parse(&machine)?, button),
        Command::Bench { rounds, up } => {
            enter(&paths)?;
            scenario::measure(&paths, up.spec(), rounds, up.keep)
        }
        Command::Assets => {
            paths.create()?;
            up::assets(&paths, &Progress::default()).map(drop)
        }
        Command::Network(up) => up::network_only(&paths, up.spec()),
        Command::Supervise => supervisor::run(paths),
        Command::Bmc => {
            daemon::telemetry::init("bmc");
            tokio::runtime::Runtime::new()?.block_on(bmc::serve(paths))
        }
        Command::ServeFiles { listen, folder } => {
            let listener = files::bind(listen)?;
            tokio::runtime::Runtime::new()?.block_on(files::serve(listener, folder))
        }
        Command::Exec { launch } => {
            let launch: Launch = serde_json::from_str(&launch).context("no launch")?;
            match launch::exec(&launch)? {}
        }
    }
}

fn start(paths: &Paths, up: &Up) -> Result<()> {
    enter(paths)?;
    if !up.scenarios.is_empty() {
        return scenario::play(paths, up.spec(), &up.scenarios, up.keep);
    }
    up::up(paths, up.spec())?;
    status::status(paths)
}

/// Makes the lab's folder and works in it from now on.
fn enter(paths: &Paths) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes namespaces and bridges: run it as root");
    }
    paths.create()?;
    Ok(std::env::set_current_dir(paths.lab())?)
}

fn parse(machine: &str) -> Result<Machine> {
    Machine::parse(machine).with_context(|| format!("{machine} is no machine; m1 is one"))
}

fn press(paths: &Paths, machine: Machine, button: Button) -> Result<()> {
    control::ask(&paths.control(), &Request::List)?;
    match button {
        Button::On => power::on(paths, machine),
        Button::Off => power::off(paths, machine),
        Button::Cycle => power::cycle(paths, machine),
        Button::Reset => power::reset(paths, machine),
        Button::Pxe => power::boot_from(paths, machine, BootDevice::Pxe),
        Button::Disk => power::boot_from(paths, machine, BootDevice::Disk),
    }
}
