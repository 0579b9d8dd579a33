//! Tells the control plane what this machine is and which leaves it sees.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use proto::api::{MachineHardware, MachineProvisioningEventType as Event};
use proto::infra::BootServiceRegisterRequest;

use super::{Context, discover};
use crate::console::{say, shout, size};
use crate::hardware;

/// How long to listen for leaves. Ours answer a new neighbour at once, others every 30 s.
const LISTEN: Duration = Duration::from_secs(35);
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Registers, for as long as it takes: a refused machine is visible, and goes on when its cabling or the catalogue of
/// the operator was put right. Returns the id of the size.
pub fn register(context: &Context) -> String {
    context.reporter.event(Event::Registering, "");
    discover::wait_for_disks(&context.roots);
    let _ = context.reporter.phase("listen", || Ok::<_, ()>(((), listen(context))));
    let mut refusal = String::new();
    let mut pause = Duration::from_secs(2);
    let registered = context.reporter.phase("register", || {
        loop {
            let request = request(context);
            let found = describe(request.hardware.as_option());
            match context.api.register(&request, PATIENCE) {
                Ok(size) if size == "unknown" => {
                    say("register  no size of the catalogue fits this machine: it waits, but nobody can allocate it");
                    return Ok::<_, Infallible>((size, format!("{found}, size unknown")));
                }
                Ok(size) => {
                    let text = format!("{found}, size {size}");
                    return Ok((size, text));
                }
                Err(refused) if refused.message != refusal => {
                    let reason = format!("the control plane refuses this machine: {refused}");
                    shout(&[&reason, &found, "it tries again by itself when neighbours or the catalogue change"]);
                    if let Err(error) = context.api.failure("register", &reason, Duration::from_secs(60)) {
                        say(&format!("report    the API did not take it: {error}"));
                    }
                    refusal = refused.message;
                }
                Err(_) => {}
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    });
    match registered {
        Ok(size) => size,
    }
}

/// Waits until two leaves are heard, or every card has somebody, or the time is over.
fn listen(context: &Context) -> String {
    let deadline = Instant::now() + LISTEN;
    let all: Vec<u32> = context.nics.iter().map(|nic| nic.index).collect();
    while Instant::now() < deadline
        && context.neighbours.leaves().len() < 2
        && !context.neighbours.wait(&all, Duration::from_millis(100))
    {}
    match context.neighbours.leaves().as_slice() {
        [] => "no leaf is heard on any card".into(),
        leaves => leaves.join(" and "),
    }
}

fn request(context: &Context) -> BootServiceRegisterRequest {
    let hardware = MachineHardware {
        nics: hardware::nics(&context.nics, &context.neighbours),
        ..hardware::read(&context.roots)
    };
    BootServiceRegisterRequest {
        uuid: context.uuid.clone(),
        hardware: hardware.into(),
        bios: hardware::bios(&context.roots).into(),
        fru: hardware::fru(&context.roots).into(),
        tags: hardware::tags(&context.roots),
        metal_hammer_version: env!("CARGO_PKG_VERSION").to_owned(),
        partition: context.config.partition.clone(),
        ..Default::default()
    }
}

fn describe(hardware: Option<&MachineHardware>) -> String {
    let Some(hardware) = hardware else { return String::new() };
    let cores: u32 = hardware.cpus.iter().map(|cpu| cpu.cores).sum();
    let mut text = format!("{cores} cores, {}", size(hardware.memory));
    for disk in &hardware.disks {
        let _ = write!(text, ", {} {}", disk.name, size(disk.size));
    }
    for nic in &hardware.nics {
        let _ = match nic.neighbors.first() {
            Some(port) => {
                write!(text, ", {} -> {} {}", nic.name, port.hostname.as_str(), port.name)
            }
            None => write!(text, ", {} -> nobody", nic.name),
        };
    }
    text
}
