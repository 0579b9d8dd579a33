//! The socket to the kernel.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use tokio::io::unix::AsyncFd;

use super::message::{self, Answer, Change, Link, New};
use super::rule::{self, Rule};
use super::vlan::{self, Vlan};

/// Group of messages about links.
const GROUP_LINK: u32 = 1;
/// The kernel answers at once; this only keeps a lost answer from hanging the agent.
const PATIENCE_S: i64 = 5;

fn open(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// All interfaces of this network namespace.
///
/// # Errors
/// When the kernel does not answer.
pub fn links() -> io::Result<Vec<Link>> {
    Ok(talk(&message::dump())?.links)
}

/// Changes one interface.
///
/// # Errors
/// What the kernel says: `EPERM` without the right, `ENODEV` for an interface that is gone.
pub fn change(index: u32, change: &Change) -> io::Result<()> {
    talk(&message::change(index, change)).map(drop)
}

/// Makes an interface.
///
/// # Errors
/// What the kernel says: `EEXIST` when the name or what it stands for is taken.
pub fn make(new: &New) -> io::Result<()> {
    talk(&message::make(new)).map(drop)
}

/// Removes one interface.
///
/// # Errors
/// What the kernel says.
pub fn delete(index: u32) -> io::Result<()> {
    talk(&message::delete(index)).map(drop)
}

/// VLANs of bridges and their members, by number of the interface.
///
/// # Errors
/// When the kernel does not answer, or cannot tell VLANs apart.
pub fn vlans() -> io::Result<BTreeMap<u32, Vec<Vlan>>> {
    Ok(talk(&vlan::dump())?.vlans.into_iter().collect())
}

/// Lets a VLAN through a member of a bridge, or to the bridge itself when that is the interface.
///
/// # Errors
/// What the kernel says.
pub fn add_vlan(link: &Link, vlan: Vlan) -> io::Result<()> {
    talk(&vlan::change(link, vlan, true)).map(drop)
}

/// The opposite of [`add_vlan`].
///
/// # Errors
/// What the kernel says.
pub fn remove_vlan(link: &Link, vlan: Vlan) -> io::Result<()> {
    talk(&vlan::change(link, vlan, false)).map(drop)
}

/// Rules by which the kernel chooses a routing table.
///
/// # Errors
/// When the kernel does not answer.
pub fn rules(family: rule::Family) -> io::Result<Vec<Rule>> {
    Ok(talk(&rule::dump(family))?.rules)
}

/// Adds a rule.
///
/// # Errors
/// What the kernel says: `EEXIST` when it is there.
pub fn add_rule(family: rule::Family, rule: &Rule) -> io::Result<()> {
    talk(&rule::change(family, rule, true)).map(drop)
}

/// Removes a rule.
///
/// # Errors
/// What the kernel says: `ENOENT` when it is not there.
pub fn remove_rule(family: rule::Family, rule: &Rule) -> io::Result<()> {
    talk(&rule::change(family, rule, false)).map(drop)
}

fn talk(question: &[u8]) -> io::Result<Answer> {
    let fd = open(SockFlag::empty(), 0)?;
    setsockopt(&fd, ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
    send(fd.as_raw_fd(), question, MsgFlags::empty())?;
    let mut all = Answer::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = message::read(&buffer[..length]);
        all.links.extend(answer.links);
        all.vlans.extend(answer.vlans);
        all.rules.extend(answer.rules);
        match answer.end {
            None => {}
            Some(0) => return Ok(all),
            Some(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Tells that some interface changed.
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Listens from now on. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(crate::fd::register(open(SockFlag::SOCK_NONBLOCK, GROUP_LINK)?)?))
    }

    /// Listens in another network namespace. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When there is no such namespace, or the kernel refuses.
    pub fn listen_in(space: &Path) -> io::Result<Self> {
        let fd = crate::space::inside(space, || open(SockFlag::SOCK_NONBLOCK, GROUP_LINK))?;
        Ok(Self(crate::fd::register(fd)?))
    }

    /// Waits for at least one change; those that came meanwhile are one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 << 10];
        let mut guard = self.0.readable().await?;
        loop {
            let result =
                guard.try_io(|fd| Ok(recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?));
            match result {
                // Overrun means that more changed than fits: one more reason to look.
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => return Ok(()),
            }
        }
    }
}
