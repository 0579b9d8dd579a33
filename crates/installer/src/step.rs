//! The chapters of the story.

pub mod discover;
pub mod failed;
pub mod install;
pub mod prepare;
pub mod register;
pub mod resume;
pub mod standby;

use crate::api::Api;
use crate::config::Config;
use crate::hardware::Roots;
use crate::neighbour::Neighbours;
use crate::network::Network;
use crate::nic::Nic;
use crate::report::Reporter;

/// What all steps know.
#[derive(Debug)]
pub struct Context {
    /// Id of the machine.
    pub uuid: String,
    /// Where hardware is read.
    pub roots: Roots,
    /// What the boot service told.
    pub config: Config,
    /// All cards.
    pub nics: Vec<Nic>,
    /// Their addresses.
    pub network: Network,
    /// What is at their other ends.
    pub neighbours: Neighbours,
    /// The control plane.
    pub api: Api,
    /// What it is told in the background.
    pub reporter: Reporter,
}

/// Why the machine cannot go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it was doing.
    pub phase: &'static str,
    /// What happened, for somebody who did not watch.
    pub reason: String,
}

impl Failure {
    /// For `map_err`.
    pub fn of<E: std::fmt::Display>(phase: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { phase, reason: format!("{error:#}") }
    }
}
