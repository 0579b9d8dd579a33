//! What the running lab is made of, written down for every command that comes later.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::topology::{Fabric, Firmware};

/// The lab that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Machines that are started.
    pub machines: u8,
    /// Their firmware.
    pub firmware: Firmware,
    /// What the leaves are made of.
    #[serde(default)]
    pub fabric: Fabric,
    /// Whether leaves watch their links by BFD, too.
    #[serde(default)]
    pub bfd: bool,
}

/// Free ports of the leaves, for machines that scenarios bring.
const SPARE_PORTS: u8 = 6;

impl Spec {
    /// Ports that each leaf has.
    pub fn ports(self) -> u8 {
        self.machines + SPARE_PORTS
    }

    /// The running lab.
    ///
    /// # Errors
    /// None runs.
    pub fn load(paths: &Paths) -> Result<Self> {
        let text = fs::read_to_string(paths.spec())
            .context("no lab runs; `cargo xtask lab` starts one")?;
        serde_json::from_str(&text).context("lab.json is damaged; `cargo xtask lab down` helps")
    }

    /// Writes it down.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(self, paths: &Paths) -> Result<()> {
        Ok(fs::write(paths.spec(), serde_json::to_vec_pretty(&self)?)?)
    }
}
