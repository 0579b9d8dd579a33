//! What a leaf keeps on disk, so that one that starts without the control plane serves its tenants.

use std::collections::BTreeSet;

use proto::api;
use serde::{Deserialize, Serialize};

/// Where it is kept.
pub type Store = daemon::saved::Store<Saved>;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Generation of the desired state.
    pub generation: u64,
    /// The switch as the control plane said it; absent before it said anything.
    pub switch: Option<api::Switch>,
    /// Ports that an operator shut down.
    pub down: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::{nic, switch};

    #[test]
    fn comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("leaf01"), "switch leaf01");
        let switch = switch(vec![nic("swp1", Some("vrf7"), &["10.0.0.0/24"])]);
        let saved = Saved { generation: 1, switch: Some(switch), down: ["swp2".to_owned()].into() };
        store.save(&saved).unwrap();
        assert_eq!(store.load().unwrap(), Some(saved));
    }
}
