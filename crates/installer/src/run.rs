//! The story of a machine from power-on to its operating system.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;
use std::{panic, thread};

use proto::api::MachineAllocation;

use crate::api::Api;
use crate::console::{self, say};
use crate::step::{Context, Failure, discover, failed, install, prepare, register, resume};
use crate::system;

/// How long the server may be away before the first question is answered.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs as the first process of the machine; ends in another kernel or in a restart.
pub fn run() -> ! {
    console::start();
    report_panics();
    let context = match discover::discover() {
        Ok(context) => context,
        Err(failure) => failed::alone(&failure),
    };
    let _ = API.set(context.api.clone());
    let allocation = match context.api.allocation(PATIENCE) {
        Ok(allocation) => allocation,
        Err(refused) => {
            let reason = format!("the control plane does not talk to this machine: {refused}");
            failed::alone(&Failure { phase: "network", reason })
        }
    };
    let mut current = allocation.as_ref().map(|allocation| allocation.uuid.clone());
    let Err(failure) = story(&context, allocation, &mut current);
    failed::stay(&context, &failure, current.as_deref());
}

fn story(
    context: &Context,
    allocation: Option<MachineAllocation>,
    current: &mut Option<String>,
) -> Result<Infallible, Failure> {
    let (allocation, laid) = match allocation {
        Some(allocation) => {
            resume::resume(context, &allocation);
            register::register(context);
            install::announce(context, &allocation);
            (allocation, None)
        }
        None => prepare::prepare(context)?,
    };
    *current = Some(allocation.uuid.clone());
    install::install(context, &allocation, laid)
}

static API: OnceLock<Api> = OnceLock::new();

/// A mistake of ours must not look like a dead machine: it is told, then the machine starts over.
fn report_panics() {
    panic::set_hook(Box::new(|info| {
        let text = format!("the installer has a fault: {info}").replace('\n', " ");
        say(&text);
        if let Some(api) = API.get() {
            // in a thread of its own: the runtime may be where the panic was
            let told =
                thread::spawn(move || api.failure("installer", &text, Duration::from_secs(10)));
            for _ in 0..100 {
                if told.is_finished() {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
        system::restart();
    }));
}
