//! A guest that runs as long as somebody wants it.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::channel::Channel;
use crate::spec::{Link, Spec};

/// How long a boot may take on a busy host without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(300);
/// How often QEMU is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Tells one start of a kernel from the next.
const BOOT_ID: [&str; 2] = ["cat", "/proc/sys/kernel/random/boot_id"];

/// A running guest. It ends when this is dropped, and with this process.
pub struct Guest {
    channel: Channel,
    /// Dropped: end.
    wish: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Guest {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// QEMU is not installed or ends at once, or the guest does not come up.
    pub fn start(spec: &Spec) -> Result<Self> {
        fs::create_dir_all(&spec.folder)?;
        let folder = spec.folder.canonicalize()?;
        // sockets have short names only from inside their folder
        let mut here = Spec {
            folder: ".".into(),
            kernel: spec.kernel.canonicalize().context("no kernel")?,
            disk: spec.disk.canonicalize().context("no disk")?,
            ..spec.clone()
        };
        for card in &mut here.cards {
            if let Link::Socket { local, .. } = &mut card.link {
                remove(&folder.join(&*local))?;
            }
        }
        let (wish, end) = channel();
        let (begun, ready) = channel();
        // The kernel ends a child with the thread that started it, so that thread stays.
        let keeper = std::thread::spawn(move || match spawn(&here, &folder) {
            Ok(child) => {
                begun.send(Ok(())).ok();
                keep(child, &end);
            }
            Err(error) => drop(begun.send(Err(error))),
        });
        ready.recv().context("the keeper ended")??;
        let guest = Self { channel: spec.channel(), wish: Some(wish), keeper: Some(keeper) };
        let (answered, answer) = channel();
        let other = guest.channel.clone();
        // Left alone when QEMU ends: nobody will make the socket that it waits for.
        std::thread::spawn(move || answered.send(other.wait(BOOT)));
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer.map(|()| guest),
                Err(RecvTimeoutError::Disconnected) => bail!("nobody waits for {}", spec.name),
                Err(RecvTimeoutError::Timeout) if guest.has_ended() => {
                    let said = fs::read_to_string(spec.errors()).unwrap_or_default();
                    bail!("QEMU ended: {}", said.trim());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Starts its kernel again, with what is on its disk by now, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn reboot(&self) -> Result<()> {
        let before = self.ok(&BOOT_ID)?;
        self.ok(&["sync"])?;
        self.reset()?;
        let begin = Instant::now();
        while begin.elapsed() < BOOT {
            if self.run_for(&BOOT_ID, Duration::from_secs(1)).is_ok_and(|now| now.stdout != before)
            {
                return Ok(());
            }
        }
        bail!("it does not come up again")
    }

    /// Ends it now.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.wish.take();
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
    }
}

impl Deref for Guest {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(spec: &Spec, folder: &Path) -> Result<Child> {
    let errors = File::create(folder.join(spec.errors()))?;
    // by util-linux, which every Debian has: the end of this process is the end of the guest
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    // whoever runs beside may have less patience than a guest, which takes a whole core
    command.args(["nice", "-n", "5"]).args(spec.command()).current_dir(folder);
    command.stdin(Stdio::null()).stdout(errors.try_clone()?).stderr(errors);
    command.spawn().context("cannot start setpriv; is util-linux installed?")
}

fn keep(mut child: Child, end: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK) {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
    }
    child.kill().ok();
    child.wait().ok();
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
