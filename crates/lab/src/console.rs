//! `lab console`: the serial console of a machine on this terminal.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::termios::{self, SetArg, Termios};

use crate::paths::Paths;
use crate::qemu;
use crate::shape::Shape;
use crate::topology::Machine;

/// Control and `]`, as telnet and virsh have it.
const ESCAPE: u8 = 0x1d;

/// A terminal that passes every key on, and is as it was when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn set() -> Self {
        let before = termios::tcgetattr(std::io::stdin()).ok();
        if let Some(mut raw) = before.clone() {
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).ok();
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, before).ok();
        }
    }
}

/// Connects until the escape key is pressed, the input ends or the machine goes off.
///
/// # Errors
/// The machine is off.
pub fn console(paths: &Paths, machine: Machine) -> Result<()> {
    let shape = Shape::load(paths, machine)?;
    let mut to = UnixStream::connect(qemu::console_socket(&shape))
        .with_context(|| format!("machine {machine} is off"))?;
    let mut from = to.try_clone()?;
    eprintln!("console of {machine}; Ctrl-] ends it; the past is in `lab logs {machine}.console`");
    let raw = Raw::set();
    let output = thread::spawn(move || std::io::copy(&mut from, &mut Flushed));
    let mut buffer = [0; 256];
    loop {
        let length = std::io::stdin().read(&mut buffer)?;
        let keys = &buffer[..length];
        let end = keys.iter().position(|key| *key == ESCAPE);
        if length == 0 || output.is_finished() {
            break;
        }
        to.write_all(&keys[..end.unwrap_or(length)])?;
        if end.is_some() {
            break;
        }
    }
    to.shutdown(std::net::Shutdown::Both).ok();
    drop(raw);
    eprintln!();
    Ok(())
}

/// A prompt has no line end: everything is shown at once.
struct Flushed;

impl Write for Flushed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::stdout().write_all(bytes)?;
        std::io::stdout().flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}
