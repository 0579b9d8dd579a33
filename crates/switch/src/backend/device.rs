//! The backend that the configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use netconf::leaf::evpn::{Evpn, Vrfs};

use super::plain::Plain;
use super::sonic::Sonic;
use super::vrf::Vrf;
use super::vrf::cumulus::Cumulus;
use super::vrf::kernel::Kernel;
use super::vrf::netns::Namespaces;
use super::{Backend, Observed, Step};
use crate::config::{self, Config};
use crate::frr::neighbours::Session;

/// The device that this process runs on.
pub enum Device {
    /// Without VRFs.
    Plain(Plain),
    /// With SONiC.
    Sonic(Sonic),
    /// With a network namespace per tenant.
    Netns(Vrf<Namespaces>),
    /// With a VRF of the kernel per tenant.
    Kernel(Vrf<Kernel>),
    /// The same with interfaces that ifupdown2 makes.
    Cumulus(Cumulus),
}

impl Device {
    /// As the configuration says. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn open(config: &Arc<Config>) -> Result<Self> {
        Ok(match config.backend {
            config::Backend::Plain => Self::Plain(Plain::new(config.clone())?),
            config::Backend::Sonic => Self::Sonic(Sonic::open(config.clone(), Vrfs::Kernel)?),
            config::Backend::Netns => {
                Self::Netns(Vrf::new(config.clone(), Namespaces::new(config.clone())?))
            }
            config::Backend::Kernel => {
                Self::Kernel(Vrf::new(config.clone(), Kernel::new(config.clone())?))
            }
            config::Backend::Cumulus => Self::Cumulus(Cumulus::new(config.clone())?),
        })
    }
}

impl Backend for Device {
    fn routing(&self, evpn: &Evpn) -> String {
        match self {
            Self::Plain(device) => device.routing(evpn),
            Self::Sonic(device) => device.routing(evpn),
            Self::Netns(device) => device.routing(evpn),
            Self::Kernel(device) => device.routing(evpn),
            Self::Cumulus(device) => device.routing(evpn),
        }
    }

    async fn observe(&self) -> Result<Observed> {
        match self {
            Self::Plain(device) => device.observe().await,
            Self::Sonic(device) => device.observe().await,
            Self::Netns(device) => device.observe().await,
            Self::Kernel(device) => device.observe().await,
            Self::Cumulus(device) => device.observe().await,
        }
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match self {
            Self::Plain(device) => device.apply(step).await,
            Self::Sonic(device) => device.apply(step).await,
            Self::Netns(device) => device.apply(step).await,
            Self::Kernel(device) => device.apply(step).await,
            Self::Cumulus(device) => device.apply(step).await,
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        match self {
            Self::Plain(device) => device.sessions().await,
            Self::Sonic(device) => device.sessions().await,
            Self::Netns(device) => device.sessions().await,
            Self::Kernel(device) => device.sessions().await,
            Self::Cumulus(device) => device.sessions().await,
        }
    }

    async fn changed(&self) {
        match self {
            Self::Plain(device) => device.changed().await,
            Self::Sonic(device) => device.changed().await,
            Self::Netns(device) => device.changed().await,
            Self::Kernel(device) => device.changed().await,
            Self::Cumulus(device) => device.changed().await,
        }
    }

    fn spaces(&self) -> Vec<PathBuf> {
        match self {
            Self::Plain(device) => device.spaces(),
            Self::Sonic(device) => device.spaces(),
            Self::Netns(device) => device.spaces(),
            Self::Kernel(device) => device.spaces(),
            Self::Cumulus(device) => device.spaces(),
        }
    }
}
