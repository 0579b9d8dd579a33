//! Which processes are ours, also after a crash: a file per process with its id and its start time, so that a
//! process that got the same id later is never taken for ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that was started at a certain moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Process id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since it booted.
    pub start: u64,
}

impl Entry {
    /// The calling process.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        let pid = Pid::this().as_raw();
        let start = start_of(pid).ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        Ok(Self { pid, start })
    }

    /// Whether it still runs; one that has ended and is not collected yet does not.
    pub fn alive(&self) -> bool {
        start_of(self.pid) == Some(self.start)
    }

    /// Sends a signal if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            // it may end between the two
            kill(Pid::from_raw(self.pid), signal).ok();
        }
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self { pid: words.next()?.parse().ok()?, start: words.next()?.parse().ok()? })
    }
}

/// Start time of a living process.
fn start_of(pid: i32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `PID (NAME) STATE …`: the name may hold anything, also brackets; the start time is the 22nd field.
fn parse_stat(text: &str) -> Option<u64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn file(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.pid"))
}

/// Writes the calling process down under a name.
///
/// # Errors
/// The folder cannot be written.
pub fn record(run: &Path, name: &str) -> io::Result<()> {
    let Entry { pid, start } = Entry::own()?;
    fs::write(file(run, name), format!("{pid} {start}\n"))
}

/// The process of that name, if it lives.
pub fn find(run: &Path, name: &str) -> Option<Entry> {
    Entry::parse(&fs::read_to_string(file(run, name)).ok()?).filter(Entry::alive)
}

/// All living processes with their names.
pub fn all(run: &Path) -> Vec<(String, Entry)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".pid")
            && let Some(entry) = find(run, name)
        {
            found.push((name.to_owned(), entry));
        }
    }
    found.sort();
    found
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.start, self.pid).cmp(&(other.start, other.pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let fields = (4..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_stat(&format!("7 (a) b) c) S {fields}")), Some(22));
        assert_eq!(parse_stat(&format!("7 (a) Z {fields}")), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn another_process_with_our_number_is_not_ours() {
        let run = tempfile::tempdir().expect("folder");
        record(run.path(), "me").expect("written");
        assert_eq!(find(run.path(), "me"), Entry::own().ok());
        let Entry { pid, start } = Entry::own().expect("proc");
        fs::write(run.path().join("me.pid"), format!("{pid} {}\n", start - 1)).expect("write");
        assert_eq!(find(run.path(), "me"), None);
        assert!(all(run.path()).is_empty());
    }

    #[test]
    fn an_ended_process_is_not_alive() {
        let mut child = shell::command("sleep", ["100"]).spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let entry = Entry { pid, start: start_of(pid).expect("lives") };
        entry.signal(Signal::SIGKILL);
        while entry.alive() {
            std::thread::yield_now();
        }
        assert!(child.try_wait().expect("wait").is_some_and(|status| !status.success()));
    }
}
