//! Carries out, for ever, what the plan says: allocations show who is connected, and who was released is forgotten. Every replica
//! does it; doing it twice does no harm.

use std::sync::Arc;

use jiff::Timestamp;
use proto::api;

use super::plan::{Step, plan};
use super::{Key, Terms, Vpn};
use crate::rpc::{App, Error, machine_record as record};

/// How long a firewall has to join.
const LIFE: std::time::Duration = std::time::Duration::from_secs(2 * 3600);

/// A key for a new firewall.
pub(crate) async fn invite(vpn: &Vpn, project: &str) -> Result<Key, Error> {
    vpn.key(project, Terms { life: LIFE, ephemeral: false, reusable: false }).await
}

/// Revokes the key of a firewall that was not made. One that is forgotten here ends by itself, and nobody knows it.
pub(crate) async fn take_back(vpn: &Vpn, key: &Key) {
    if let Err(error) = vpn.revoke(key.id).await {
        tracing::warn!(%error, key = key.id, "a key of the VPN that nobody got stays valid for two hours");
    }
}

/// Runs until the server stops.
pub(crate) async fn run(app: Arc<App>) {
    let Some(vpn) = app.vpn.clone() else { return };
    let mut watcher = app.db.watch(store::vpn::CHANGED);
    let mut apart = false;
    loop {
        if !apart {
            apart = vpn.keep_apart().await.is_ok();
        }
        if let Err(error) = step(&app, &vpn).await {
            tracing::warn!(%error, "the VPN will be looked at again");
        }
        tokio::select! {
            () = app.shutdown.wait() => return,
            () = watcher.changed() => {}
            () = tokio::time::sleep(vpn.config.poll) => {}
        }
    }
}

async fn step(app: &App, vpn: &Vpn) -> Result<(), Error> {
    let members = store::vpn::all(&mut app.db.begin_read().await?).await?;
    if members.is_empty() {
        return Ok(());
    }
    let nodes = vpn.nodes().await?;
    for step in plan(&members, &nodes) {
        // one that fails does not hold up the others
        if let Err(error) = carry_out(app, vpn, step).await {
            tracing::warn!(%error, "a member of the VPN will be looked at again");
        }
    }
    Ok(())
}

async fn carry_out(app: &App, vpn: &Vpn, step: Step) -> Result<(), Error> {
    match step {
        Step::Forget { allocation, key, nodes } => {
            vpn.revoke(key).await?;
            for node in nodes {
                vpn.forget(node).await?;
                tracing::info!(node, allocation, "left the VPN");
            }
            let mut tx = app.db.begin_write().await?;
            store::vpn::delete(&mut tx, &allocation).await?;
            Ok(tx.commit().await?)
        }
        Step::Show { allocation, machine, connected, ips } => {
            show(app, &allocation, &machine, connected, ips).await
        }
    }
}

/// Writes only what has changed.
async fn show(
    app: &App,
    allocation: &str,
    machine: &str,
    connected: bool,
    ips: Vec<String>,
) -> Result<(), Error> {
    let wanted = |record: &record::Record| {
        let have = record.allocation().filter(|have| have.uuid == allocation)?;
        let have = have.vpn.as_option()?;
        let vpn = api::MachineVPN { connected, ips: ips.clone(), ..have.clone() };
        (vpn != *have).then_some(vpn)
    };
    let mut tx = app.db.begin_read().await?;
    if record::get(&mut tx, machine).await?.as_ref().and_then(wanted).is_none() {
        return Ok(());
    }
    drop(tx);
    let mut tx = app.db.begin_write().await?;
    let Some(mut record) = record::get_for_update(&mut tx, machine).await? else { return Ok(()) };
    let Some(vpn) = wanted(&record) else { return Ok(()) };
    record.machine.allocation.get_or_insert_default().vpn = vpn.into();
    record::save(&mut tx, &mut record, Timestamp::now()).await?;
    tx.commit().await?;
    tracing::info!(machine, connected, "the VPN says");
    Ok(())
}
