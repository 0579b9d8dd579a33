//! The process that keeps all others: starts them, restarts the daemons among them, and takes them along when it ends.
//!
//! One thread owns all children, because the kernel ends a child when the *thread* that started it ends.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::control::{Answer, Part, Pending, Request, State};
use crate::launch::{self, Launch};
use crate::ledger::Entry;
use crate::paths::Paths;
use crate::{control, ledger};

/// How long a part may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon that ended by itself stays down, as an init system would do it.
const PAUSE: Duration = Duration::from_secs(1);
/// How often children are looked at.
const LOOK: Duration = Duration::from_millis(100);

struct Kept {
    part: Part,
    child: Option<Child>,
    order: usize,
    restarts: u32,
    since: Instant,
}

struct Supervisor {
    paths: Paths,
    kept: BTreeMap<String, Kept>,
    order: usize,
}

/// Serves until somebody asks it to end.
///
/// # Errors
/// Another one runs, or the socket cannot be made.
pub fn run(paths: Paths) -> Result<()> {
    // away from the terminal of whoever typed `up`
    setsid().ok();
    std::env::set_current_dir(paths.lab())?;
    ledger::record(&paths.run(), "supervisor")?;
    let requests = control::listen(&paths.control())?;
    let mut supervisor = Supervisor { paths, kept: BTreeMap::new(), order: 0 };
    loop {
        match requests.recv_timeout(LOOK) {
            Ok(Pending { request: Request::Shutdown, reply }) => {
                supervisor.shutdown();
                // whoever asked may have gone
                reply.send(Answer::default()).ok();
                // its thread needs a moment to pass the answer on
                std::thread::sleep(LOOK);
                return Ok(());
            }
            Ok(Pending { request, reply }) => {
                reply.send(supervisor.answer(request)).ok();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        supervisor.look();
    }
}

impl Supervisor {
    fn answer(&mut self, request: Request) -> Answer {
        let result = match request {
            Request::Start(part) => self.start(part),
            Request::Stop(name) => {
                if let Some(mut kept) = self.kept.remove(&name) {
                    end(&mut [&mut kept]);
                }
                Ok(())
            }
            Request::List => return Answer { parts: self.list(), ..Answer::default() },
            Request::Shutdown => Ok(()),
        };
        Answer { error: result.err().map(|error| format!("{error:#}")), ..Answer::default() }
    }

    fn start(&mut self, part: Part) -> Result<()> {
        if self.kept.get(&part.name).is_some_and(|kept| kept.child.is_some()) {
            return Ok(());
        }
        let child = self.spawn(&part)?;
        self.order += 1;
        let kept = Kept {
            child: Some(child),
            order: self.order,
            restarts: 0,
            since: Instant::now(),
            part,
        };
        self.kept.insert(kept.part.name.clone(), kept);
        Ok(())
    }

    fn spawn(&self, part: &Part) -> Result<Child> {
        let log = self.log(&part.name)?;
        let launch = Launch {
            name: part.name.clone(),
            run: self.paths.run(),
            namespace: part.namespace.clone(),
            names: part.names.clone(),
            needs: part.needs.clone(),
            taps: part.taps.clone(),
            command: part.command.clone(),
        };
        let mut command = launch::command(&launch)?;
        command.envs(part.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", part.name))
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.paths.log(name);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Collects children that ended, and starts daemons again.
    fn look(&mut self) {
        let mut due = Vec::new();
        for (name, kept) in &mut self.kept {
            if let Some(child) = &mut kept.child {
                if let Ok(Some(status)) = child.try_wait() {
                    eprintln!("{name} ended: {status}");
                    kept.child = None;
                    kept.since = Instant::now();
                }
            } else if kept.part.restart && kept.since.elapsed() >= PAUSE {
                due.push(name.clone());
            }
        }
        for name in due {
            let Some(part) = self.kept.get(&name).map(|kept| kept.part.clone()) else { continue };
            let child = self.spawn(&part).inspect_err(|error| eprintln!("{name}: {error:#}")).ok();
            if let Some(kept) = self.kept.get_mut(&name) {
                kept.child = child;
                kept.restarts += 1;
                kept.since = Instant::now();
            }
        }
        self.kept.retain(|_, kept| kept.child.is_some() || kept.part.restart);
    }

    fn list(&self) -> Vec<State> {
        let mut kept: Vec<_> = self.kept.values().collect();
        kept.sort_by_key(|kept| kept.order);
        kept.into_iter()
            .map(|kept| State {
                name: kept.part.name.clone(),
                pid: kept.child.as_ref().map(Child::id),
                restarts: kept.restarts,
                seconds: kept.since.elapsed().as_secs(),
            })
            .collect()
    }

    fn shutdown(&mut self) {
        let mut kept: Vec<_> = self.kept.values_mut().collect();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.order));
        end(&mut kept);
    }
}

/// Asks all to end, newest first, and insists on it after a while.
fn end(kept: &mut [&mut Kept]) {
    for kept in kept.iter() {
        signal(kept, Signal::SIGTERM);
    }
    let asked = Instant::now();
    for kept in kept {
        while kept.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            if asked.elapsed() > PATIENCE {
                signal(kept, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        kept.child = None;
    }
}

/// A child that is not collected keeps its number, so this cannot hit a stranger.
fn signal(kept: &Kept, signal: Signal) {
    let pid = kept.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
    if let Some(pid) = pid {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
    }
}

/// Ends what a killed supervisor left, by the ledger.
pub fn sweep(paths: &Paths) -> Vec<String> {
    let mut left = ledger::all(&paths.run());
    left.sort_by_key(|(_, entry)| std::cmp::Reverse(*entry));
    let names = left.iter().map(|(name, _)| name.clone()).collect();
    let each = |signal: Signal| left.iter().for_each(|(_, entry)| entry.signal(signal));
    let gone = |patience: Duration| {
        let asked = Instant::now();
        while left.iter().any(|(_, entry)| Entry::alive(entry)) {
            if asked.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    };
    each(Signal::SIGTERM);
    if !gone(PATIENCE) {
        each(Signal::SIGKILL);
        gone(PATIENCE);
    }
    for (name, _) in &left {
        fs::remove_file(paths.run().join(format!("{name}.pid"))).ok();
    }
    names
}
