//! QEMU's control protocol: reset, power button, boot order.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection to one machine.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects and says hello.
    ///
    /// # Errors
    /// The machine is off, or it does not answer.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("the machine is off")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut qmp = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        qmp.read().context("QEMU does not greet")?;
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes one command and returns what it returned.
    ///
    /// # Errors
    /// QEMU refuses it or went away.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes())?;
        loop {
            let mut answer = self.read().with_context(|| format!("no answer to {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"].as_str().unwrap_or("no reason"));
            }
            // events come in between
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Resets the machine, as its reset button does.
    ///
    /// # Errors
    /// As [`Qmp::call`].
    pub fn reset(&mut self) -> Result<()> {
        self.call("system_reset", json!({})).map(drop)
    }

    /// Sets the place of a device in the boot order; it counts from the next reset on.
    ///
    /// # Errors
    /// As [`Qmp::call`].
    pub fn boot_index(&mut self, device: &str, place: i32) -> Result<()> {
        let path = format!("/machine/peripheral/{device}");
        self.call("qom-set", json!({ "path": path, "property": "bootindex", "value": place }))
            .map(drop)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU went away");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;
    use std::os::unix::process::CommandExt;
    use std::time::Instant;

    /// A real QEMU that is stopped before its first instruction.
    struct Stopped(std::process::Child, tempfile::TempDir);

    impl Drop for Stopped {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    fn qemu() -> (Stopped, Qmp) {
        let folder = tempfile::tempdir().expect("folder");
        let mut command = shell::command(
            "qemu-system-x86_64",
            [
                "-S",
                "-machine",
                "q35",
                "-accel",
                "tcg",
                "-m",
                "16",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                "unix:qmp,server=on,wait=off",
                "-device",
                "virtio-net-pci,id=nic0,romfile=,bootindex=1",
            ],
        );
        let child = command.current_dir(&folder).process_group(0).spawn().expect("qemu");
        let stopped = Stopped(child, folder);
        let socket = stopped.1.path().join("qmp");
        let begin = Instant::now();
        loop {
            match Qmp::connect(&socket) {
                Ok(qmp) => return (stopped, qmp),
                Err(error) if begin.elapsed() > Duration::from_secs(120) => panic!("{error:#}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    #[test]
    fn a_machine_is_reset_and_its_boot_order_changed() {
        let (_stopped, mut qmp) = qemu();
        qmp.boot_index("nic0", 3).expect("set");
        let get = json!({ "path": "/machine/peripheral/nic0", "property": "bootindex" });
        assert_eq!(qmp.call("qom-get", get).expect("get"), json!(3));
        qmp.reset().expect("reset");
        let error = qmp.boot_index("nic9", 3).expect_err("no such card");
        assert!(error.to_string().contains("QEMU refuses qom-set"), "{error}");
    }

    #[test]
    fn a_machine_that_is_off_says_so() {
        let error = Qmp::connect(Path::new("/nonexistent")).err().expect("off");
        assert_eq!(error.to_string(), "the machine is off");
    }
}
