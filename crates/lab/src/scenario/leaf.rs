//! Waiting for leaves to be as they should be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::stage::Stage;
use crate::device::Device;
use crate::topology::LEAVES;

/// How long a leaf may take to be as it was.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills a leaf and takes away what a reboot takes away. Returns what VRFs it had; there are some.
pub(super) fn reboot(leaf: &dyn Device) -> Result<Vec<String>> {
    let vrfs = leaf.reboot()?;
    ensure!(!vrfs.is_empty(), "{} has no VRFs", leaf.leaf().name());
    Ok(vrfs)
}

/// Waits until a leaf has these VRFs again.
pub(super) async fn until_has(stage: &Stage, leaf: &dyn Device, vrfs: &[String]) -> Result<()> {
    let begin = Instant::now();
    let patience = stage.patience(PATIENCE);
    // one that is not up yet has none
    while leaf.vrfs().ok().as_deref() != Some(vrfs) {
        let name = leaf.leaf().name();
        ensure!(begin.elapsed() < patience, "{name} does not come back with {vrfs:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until no leaf has any VRF.
pub(super) async fn until_empty(stage: &Stage) -> Result<()> {
    for leaf in LEAVES {
        until_has(stage, &*stage.device(leaf), &[]).await?;
    }
    Ok(())
}
