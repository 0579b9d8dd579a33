//! The few words that are spoken with QEMU itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const PATIENCE: Duration = Duration::from_secs(5);

/// Says one word that needs no arguments, like `system_reset`.
///
/// # Errors
/// Nobody is there, somebody else speaks with it, or it does not know the word.
pub(crate) fn say(stream: UnixStream, word: &str) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    let mut next = || answers.next().context("QEMU ended")?.context("QEMU does not answer");
    next()?;
    for word in ["qmp_capabilities", word] {
        writeln!(stream, r#"{{"execute":"{word}"}}"#)?;
        loop {
            let line = next()?;
            if line.starts_with(r#"{"return""#) {
                break;
            }
            // the rest are events
            if line.starts_with(r#"{"error""#) {
                bail!("QEMU refuses {word}: {line}");
            }
        }
    }
    Ok(())
}
