//! The seam to the device: what it is like and how one step is done. Each backend is a folder of its own; everything
//! else in this crate is the same for all.
//!
//! A backend makes no decisions. `tests/contract.rs` says what each one must do.

pub mod device;
mod linux;
pub mod plain;
pub mod simulated;
pub mod sonic;
pub mod vrf;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;

use anyhow::Result;
use netconf::leaf::evpn::Evpn;

use crate::frr;
use crate::frr::neighbours::Session;

/// A device that the agent can look at and change.
pub trait Backend: Send + Sync + 'static {
    /// The complete routing configuration for this device, pure.
    fn routing(&self, evpn: &Evpn) -> String;

    /// Looks.
    ///
    /// # Errors
    /// When not even the ports can be read; routing that does not answer is part of what is observed.
    fn observe(&self) -> impl Future<Output = Result<Observed>> + Send;

    /// Does one step and makes sure that it is done before it answers. A step that is done already is no error.
    ///
    /// # Errors
    /// What stood in the way. A step of routing that fails may be half done.
    fn apply(&self, step: &Step) -> impl Future<Output = Result<()>> + Send;

    /// BGP sessions by name of the neighbour.
    ///
    /// # Errors
    /// When the routing daemons do not answer.
    fn sessions(&self) -> impl Future<Output = Result<BTreeMap<String, Session>>> + Send;

    /// Waits until something may have changed. Looking too often is harmless; never is allowed, too.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Network namespaces besides the agent's own in which ports may be.
    fn spaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// What the device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Machine ports by name.
    pub ports: BTreeMap<String, Port>,
    /// Whether it forwards packets of both families.
    pub forwards: bool,
    /// What is missing that this agent does not make, for a human.
    pub missing: Vec<String>,
    /// Whether the daemon for BFD answers; true where nobody wants it.
    pub bfd: bool,
    /// VRFs of tenants that are there, and whether all is there that belongs to them.
    pub tenants: BTreeMap<u32, bool>,
    /// What runs, or why that is not known.
    pub routing: Result<frr::Config, String>,
}

/// What a machine port is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Administratively up.
    pub up: bool,
    /// Somebody is at the other end.
    pub link: bool,
    /// Where it is.
    pub place: Place,
}

/// Where a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the boot network, shielded from the other machines in it.
    Boot,
    /// In the boot network, but not shielded.
    OpenBoot,
    /// On its own, routed: in the VRF of a tenant, or in none.
    Routed(Option<u32>),
    /// Somewhere that this agent never puts a port.
    Foreign(String),
}

/// One step. Its text is what `plan` prints and what is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Forward packets.
    Forward,
    /// Remove the BGP neighbours at these ports.
    Unpeer(BTreeSet<String>),
    /// Take a port out of the VRF that it is in; it is down and nowhere afterwards.
    Leave(String),
    /// Make the VRF of a tenant as far as it is not there.
    Prepare(u32),
    /// Take a port out of wherever it is a member, and into the VRF of a tenant if one is named.
    Route(String, Option<u32>),
    /// Put a port into the boot network, shielded.
    Boot(String),
    /// Administratively up (true) or down.
    Admin(String, bool),
    /// Make the routing configuration this one.
    Routing(Box<Routing>),
    /// Remove the VRF of a tenant that has no port here.
    CleanUp(u32),
}

/// A change of the routing configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// What runs when this step begins, and again when it cannot be done.
    pub before: frr::Config,
    /// What should run.
    pub wanted: frr::Config,
    /// The difference, for people.
    pub change: frr::Change,
}

impl Step {
    /// The port that it is about, if it is about one.
    pub fn port(&self) -> Option<&str> {
        match self {
            Self::Leave(port) | Self::Route(port, _) | Self::Boot(port) | Self::Admin(port, _) => {
                Some(port)
            }
            Self::Forward
            | Self::Unpeer(_)
            | Self::Prepare(_)
            | Self::Routing(_)
            | Self::CleanUp(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("forward packets"),
            Self::Unpeer(ports) => {
                let ports: Vec<_> = ports.iter().map(String::as_str).collect();
                write!(f, "remove the BGP neighbour at {}", ports.join(", "))
            }
            Self::Leave(port) => write!(f, "take {port} out of its VRF"),
            Self::Prepare(vni) => write!(f, "make vrf{vni}"),
            Self::Route(port, None) => write!(f, "take {port} out of the boot network"),
            Self::Route(port, Some(vni)) => write!(f, "put {port} into vrf{vni}"),
            Self::Boot(port) => write!(f, "put {port} into the boot network"),
            Self::Admin(port, up) => write!(f, "set {port} {}", if *up { "up" } else { "down" }),
            Self::Routing(routing) => write!(
                f,
                "change the routing configuration: {} lines come, {} go",
                routing.change.add.len(),
                routing.change.close.len() + routing.change.remove.len()
            ),
            Self::CleanUp(vni) => write!(f, "remove vrf{vni}"),
        }
    }
}
