//! What processes cost: processor time and memory, from `/proc`.

use std::time::Duration;

/// Processor time of a process and of all below it.
pub(crate) fn cpu_of_tree(pid: u32) -> Duration {
    let all: Vec<(u32, u32, Duration)> = std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let (parent, time) = stat(pid)?;
            Some((pid, parent, time))
        })
        .collect();
    let mut sum = cpu(pid);
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (pid, _, time) in all.iter().filter(|(_, of, _)| *of == parent) {
            parents.push(*pid);
            sum += *time;
        }
    }
    sum
}

/// Processor time of a process without those below it that live; none when it has gone.
pub(crate) fn cpu(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |(_, time)| time)
}

/// Parent and processor time of a process; none when it has gone.
fn stat(pid: u32) -> Option<(u32, Duration)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name of the program, in parentheses, may hold blanks
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // in user and system mode, its own and that of those below it that have ended
    let ticks: u64 = fields.get(11..15)?.iter().map(|ticks| ticks.parse().unwrap_or(0)).sum();
    // Linux counts them in hundredths of a second on all architectures
    Some((fields.get(1)?.parse().ok()?, Duration::from_millis(ticks * 10)))
}
