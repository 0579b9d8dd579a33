//! A leaf as whoever works on it sees it, whatever it is made of: what it tells, what somebody does to it by hand, and
//! what happens to it.

mod guest;
mod namespace;

use std::net::IpAddr;

use anyhow::Result;

use crate::paths::Paths;
use crate::topology::{Fabric, Leaf};

/// A leaf.
pub trait Device: Send + Sync {
    /// Which one.
    fn leaf(&self) -> Leaf;

    /// Runs a program in the underlay and returns what it printed.
    ///
    /// # Errors
    /// The leaf is down, or the program failed.
    fn run(&self, command: &[&str]) -> Result<String>;

    /// What the routing daemons answer.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn vtysh(&self, commands: &[&str]) -> Result<String>;

    /// VRFs of tenants by name, sorted.
    ///
    /// # Errors
    /// The leaf is down.
    fn vrfs(&self) -> Result<Vec<String>>;

    /// The VRF that a port is in; none when it is in the underlay, or nowhere.
    ///
    /// # Errors
    /// The leaf is down.
    fn vrf_of(&self, port: &str) -> Result<Option<String>>;

    /// Routes of the kernel to an address in a VRF, as `ip` shows them.
    ///
    /// # Errors
    /// The leaf is down.
    fn route(&self, vrf: &str, address: IpAddr) -> Result<String>;

    /// Runs `ssh` with these arguments in a VRF or in the underlay. With a terminal it is the caller's, and nothing is
    /// returned.
    ///
    /// # Errors
    /// What `ssh` says.
    fn ssh(&self, vrf: Option<&str>, args: &[String], terminal: bool) -> Result<String>;

    /// Somebody takes a port out of its VRF by hand.
    ///
    /// # Errors
    /// It is not there.
    fn take_out(&self, vrf: &str, port: &str) -> Result<()>;

    /// Whether the VXLAN network of a VRF has its end here.
    ///
    /// # Errors
    /// The leaf is down.
    fn has_tunnel(&self, vrf: &str) -> Result<bool>;

    /// Somebody removes that end by hand.
    ///
    /// # Errors
    /// It is not there.
    fn cut_tunnel(&self, vrf: &str) -> Result<()>;

    /// The other end of a port's cable went down or up. Where the kernel passes that on there is nothing to do.
    ///
    /// # Errors
    /// There is no such port.
    fn carrier(&self, port: &str, up: bool) -> Result<()>;

    /// The agent is told to watch links by BFD, too, and starts again.
    ///
    /// # Errors
    /// It does not run.
    fn watch_by_bfd(&self) -> Result<()>;

    /// Everything that runs is killed, and what a reboot takes away is gone; what starts there again finds nothing but
    /// the last good state on disk. Returns what VRFs there were.
    ///
    /// # Errors
    /// It does not run.
    fn reboot(&self) -> Result<Vec<String>>;

    /// The plug is pulled: nobody hears anything from it any more. Returns what VRFs there were.
    ///
    /// # Errors
    /// No lab runs.
    fn power_off(&self) -> Result<Vec<String>>;

    /// It is plugged in again.
    ///
    /// # Errors
    /// No lab runs.
    fn power_on(&self) -> Result<()>;

    /// The worst way to fail: links stay up, and nothing comes out of them any more.
    ///
    /// # Errors
    /// It does not run.
    fn hang(&self) -> Result<()>;

    /// The end of [`Device::hang`].
    ///
    /// # Errors
    /// It does not run.
    fn resume(&self) -> Result<()>;
}

/// A leaf of the lab.
pub fn device(paths: &Paths, fabric: Fabric, leaf: Leaf) -> Box<dyn Device> {
    match fabric {
        Fabric::Plain | Fabric::Netns => {
            Box::new(namespace::Namespace::new(paths.clone(), fabric, leaf))
        }
        Fabric::Vm => Box::new(guest::Guest::new(paths.clone(), leaf)),
    }
}
