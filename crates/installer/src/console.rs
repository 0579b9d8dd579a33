//! The serial console: one line per finished phase, readable for somebody who looks at it a day later.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Begins to count. Time since power-on would be better, but UEFI firmware leaves a wrong uptime behind.
pub fn start() {
    START.get_or_init(Instant::now);
}

/// Prints a line with the time since [`start`].
pub fn say(text: &str) {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    // one write, so that lines of several threads do not mix; a console that is gone must not stop an install
    let _ = std::io::stdout().write_all(line(elapsed, text).as_bytes());
    let _ = std::io::stdout().flush();
}

/// Prints what somebody must see, framed.
pub fn shout(lines: &[&str]) {
    let ruler = "=".repeat(72);
    say(&ruler);
    for line in lines {
        say(line);
    }
    say(&ruler);
}

/// How a finished phase looks.
#[must_use]
pub fn phase(name: &str, message: &str, duration: Duration) -> String {
    let dots = if message.is_empty() { "" } else { " ... " };
    format!("{name:<10}{message}{dots}{:.1}s", duration.as_secs_f64())
}

/// A size for people: `10 GiB`, `1.8 TiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0 && value.fract() > 0.05);
    format!("{value:.digits$} {}", units[unit])
}

fn line(elapsed: Duration, text: &str) -> String {
    format!("[{:5.1}s] {text}\r\n", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = phase("wipe", "nvme0n1 10 GiB by NVMe format", Duration::from_millis(120));
        assert_eq!(
            line(Duration::from_millis(3210), &text),
            "[  3.2s] wipe      nvme0n1 10 GiB by NVMe format ... 0.1s\r\n"
        );
        assert_eq!(phase("kexec", "", Duration::from_secs(2)), "kexec     2.0s");
    }

    #[test]
    fn sizes() {
        let shown = [0, 1000, 1536, 10 << 30, 1_920_383_410_176, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "1000 B", "1.5 KiB", "10 GiB", "1.7 TiB", "16384 PiB"]);
    }
}
