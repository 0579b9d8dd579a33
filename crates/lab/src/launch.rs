//! The last step before a program of the lab runs: `metal-lab exec` moves itself into the namespace, opens the
//! machine's ports, writes itself down, binds its life to the supervisor's, and becomes the program.
//!
//! All of that happens in the new process, so nothing can be forgotten between start and bookkeeping.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::net::if_::if_nametoindex;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::topology::Leaf;
use crate::{ledger, names, netns};

/// A tap that a program has for a network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tap {
    /// A port of a leaf, for whom is plugged in there: number of the leaf and name of the port.
    Port(u8, String),
    /// In the first of these namespaces that has it: namespace and name.
    Either(Vec<(String, String)>),
}

/// What is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Name in the ledger.
    pub name: String,
    /// Folder of the ledger.
    pub run: PathBuf,
    /// Namespace to run in; `None` is the host's.
    pub namespace: Option<String>,
    /// Where names of namespaces are a leaf's own; `None` is the host's.
    #[serde(default)]
    pub names: Option<PathBuf>,
    /// A socket that somebody must answer at before it starts.
    #[serde(default)]
    pub needs: Option<PathBuf>,
    /// Ports to open; `{tapN}` in an argument becomes the number of the open file.
    pub taps: Vec<Tap>,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// How long a socket may take to be answered.
const NEEDS_PATIENCE: Duration = Duration::from_secs(10);

/// Becomes the program.
///
/// # Errors
/// Only when it cannot: no such namespace, port or program.
pub fn exec(launch: &Launch) -> Result<std::convert::Infallible> {
    // what changes its user, as routing daemons do, loses this tie; the ledger finds it then
    prctl::set_pdeathsig(Signal::SIGTERM).context("cannot bind to the supervisor's life")?;
    ledger::record(&launch.run, &launch.name).context("cannot write the process id")?;
    if let Some(socket) = &launch.needs {
        wait_for(socket);
    }
    let taps = launch.taps.iter().map(open).collect::<Result<Vec<_>>>()?;
    if let Some(namespace) = &launch.namespace {
        netns::enter(namespace)?;
    }
    if let Some(names) = &launch.names {
        names::enter(names)?;
    }
    let numbers: Vec<_> = taps.iter().map(AsRawFd::as_raw_fd).collect();
    let Some((program, args)) = launch.command.split_first() else { bail!("no program given") };
    let args = args.iter().map(|arg| with_taps(arg, &numbers));
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {program}; is it installed?"))
}

/// Nobody waits for ever: a program that is started without what it needs says better what is wrong.
fn wait_for(socket: &Path) {
    let begin = Instant::now();
    while UnixStream::connect(socket).is_err() && begin.elapsed() < NEEDS_PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn with_taps(arg: &str, numbers: &[i32]) -> String {
    let replace = |text: String, (index, number): (usize, &i32)| {
        text.replace(&format!("{{tap{index}}}"), &number.to_string())
    };
    numbers.iter().enumerate().fold(arg.to_owned(), replace)
}

/// Opens a tap where it is; the open file works anywhere, also when the tap moves.
fn open(tap: &Tap) -> Result<OwnedFd> {
    match tap {
        Tap::Port(leaf, port) => {
            let leaf = Leaf { number: *leaf };
            let attach = || attach(port);
            let opened = match names::vrf_of(leaf, port)? {
                Some(vrf) => names::within(leaf, &vrf, attach),
                None => netns::within(&leaf.namespace(), attach),
            };
            opened.with_context(|| format!("cannot plug into port {port} of {}", leaf.name()))
        }
        Tap::Either(places) => {
            let there = |(namespace, name): &&(String, String)| {
                netns::file(namespace).exists()
                    && netns::within(namespace, || Ok(if_nametoindex(&**name)?)).is_ok()
            };
            let place = places.iter().find(there);
            let (namespace, name) =
                place.with_context(|| format!("none of {places:?} is there"))?;
            netns::within(namespace, || attach(name))
                .with_context(|| format!("cannot open {name} in {namespace}"))
        }
    }
}

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// `struct ifreq`: name of the interface, then flags, then room.
type Request = [u8; 40];

mod ioctl {
    #![expect(unsafe_code, reason = "the kernel offers taps by ioctl only")]

    nix::ioctl_write_ptr_bad!(set_interface, 0x4004_54ca, super::Request);

    /// Binds an open `/dev/net/tun` to an interface.
    pub(super) fn bind(file: i32, request: &super::Request) -> nix::Result<()> {
        // SAFETY: the file is open and the kernel reads the 40 bytes that the request has
        unsafe { set_interface(file, request) }.map(drop)
    }
}

fn attach(port: &str) -> Result<OwnedFd> {
    // The kernel would make it.
    if_nametoindex(port).with_context(|| format!("{port} is not there"))?;
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    ioctl::bind(file.as_raw_fd(), &request(port)?)?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file.into())
}

fn request(port: &str) -> Result<Request> {
    let mut request = [0; 40];
    if port.len() > 15 {
        bail!("{port} is too long for the name of an interface");
    }
    request[..port.len()].copy_from_slice(port.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).to_ne_bytes());
    Ok(request)
}

/// The supervisor's command for a launch.
///
/// # Errors
/// The path of the own program is unknown.
pub fn command(launch: &Launch) -> Result<Command> {
    let link = Path::new("/proc/self/exe");
    let own = fs::read_link(link).context("/proc is not mounted")?;
    // somebody may have compiled it again; the link still leads to this one
    let own = if own.exists() { own } else { link.to_owned() };
    let mut command = Command::new(own);
    command.arg("exec").arg(serde_json::to_string(launch)?);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_named_in_arguments() {
        assert_eq!(with_taps("tap,id=net1,fd={tap1}", &[5, 17]), "tap,id=net1,fd=17");
        assert_eq!(with_taps("{tap2}", &[5, 17]), "{tap2}");
    }

    #[test]
    fn the_request_has_name_and_flags() {
        let request = request("swp1").expect("short");
        assert_eq!(&request[..5], b"swp1\0");
        assert_eq!(u16::from_ne_bytes([request[16], request[17]]), 0x5002);
        super::request("a-name-of-16-byt").expect_err("too long");
    }
}
