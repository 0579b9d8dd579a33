//! Removing networks: prefixes and VRF go back in the same transaction.

use proto::{admin, api};
use store::Tx;
use store::prefix;

use super::{Call, Error, KIND, check_owner};
use crate::ipam;

pub(super) async fn own(
    call: &Call,
    request: api::NetworkServiceDeleteRequest,
) -> Result<api::NetworkServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let network = delete(&mut tx, &request.id, Some(&request.project)).await?;
    tx.commit().await?;
    Ok(api::NetworkServiceDeleteResponse { network: network.into(), ..Default::default() })
}

pub(super) async fn any(
    call: &Call,
    request: admin::NetworkServiceDeleteRequest,
) -> Result<admin::NetworkServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let network = delete(&mut tx, &request.id, None).await?;
    tx.commit().await?;
    Ok(admin::NetworkServiceDeleteResponse { network: network.into(), ..Default::default() })
}

async fn delete(tx: &mut Tx, id: &str, project: Option<&str>) -> Result<api::Network, Error> {
    let (_, network) = KIND.get_for_update::<api::Network>(tx, id).await?;
    if let Some(project) = project {
        check_owner(&network, project)?;
    }
    let children = KIND.table.select().eq("parent", id).count(tx).await?;
    // a machine has an address in each of its networks
    let ips = store::ip::TABLE.select().eq("network", id).count(tx).await?;
    for (count, what) in [(children, "child networks"), (ips, "ips")] {
        if count > 0 {
            return Err(Error::in_use(format!(
                "network {id} is in use: there are still {count} {what}, remove them first"
            )));
        }
    }
    // a child that shares the VRF of its parent does not give it back
    let owns_vrf = match &network.parent_network {
        Some(parent) => super::get(tx, parent).await?.vrf.is_none(),
        None => true,
    };
    for prefix in prefix::of_network(tx, id).await? {
        prefix::delete(tx, &prefix).await.map_err(in_use(id))?;
    }
    KIND.table.delete(tx, id).await.map_err(in_use(id))?;
    if let Some(vrf) = network.vrf.filter(|_| owns_vrf) {
        ipam::release_vrf(tx, vrf).await?;
    }
    Ok(network)
}

/// Somebody took something of the network after it was looked at.
fn in_use(id: &str) -> impl Fn(store::Error) -> Error {
    move |error| match error {
        store::Error::ForeignKey(_) => KIND.in_use(id, "its ips, child networks and machines"),
        other => other.into(),
    }
}
