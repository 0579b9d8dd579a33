//! What a machine does that cannot go on: it says so everywhere and waits for somebody to act.

use std::thread;
use std::time::{Duration, Instant};

use super::{Context, Failure};
use crate::console::{say, shout};
use crate::system;

/// How often to look whether somebody acted.
const LOOK: Duration = Duration::from_secs(15);
/// How often to say again on the console why the machine stands still.
const REPEAT: Duration = Duration::from_secs(600);
/// How long to show a failure that cannot be told to anybody before starting over.
const SHOW: Duration = Duration::from_secs(60);

/// Reports the failure and stays, neither offered nor tried again, until the allocation is another one (or none): then
/// the machine starts over.
pub fn stay(context: &Context, failure: &Failure, allocation: Option<&str>) -> ! {
    let text = format!("{} failed: {}", failure.phase, failure.reason);
    let advice = match allocation {
        Some(_) => "delete the machine and create it again when the cause is removed",
        None => "the machine is not offered; it tries again after its next power cycle",
    };
    shout(&[&text, advice]);
    let _ = context.reporter.flush(Duration::from_secs(5));
    if let Err(refused) =
        context.api.failure(failure.phase, &failure.reason, Duration::from_secs(600))
    {
        say(&format!("report    the API did not take it: {refused}"));
    }
    let mut said = Instant::now();
    loop {
        thread::sleep(LOOK);
        if let Ok(now) = context.api.allocation(LOOK)
            && now.as_ref().map(|now| now.uuid.as_str()) != allocation
        {
            say("failed    the allocation changed: starting over");
            system::restart();
        }
        if said.elapsed() > REPEAT {
            shout(&[&text, advice]);
            said = Instant::now();
        }
    }
}

/// A failure before anybody can be told: shown for a while, then everything starts over.
pub fn alone(failure: &Failure) -> ! {
    let text = format!("{} failed: {}", failure.phase, failure.reason);
    shout(&[&text, "starting over in a minute"]);
    thread::sleep(SHOW);
    system::restart();
}
