//! Which networks a machine may be put into, and what it gets there.

use std::collections::BTreeSet;

use ipnet::IpNet;
use model::network::{check_attachment, check_kind};
use model::prefix::{Family, families};
use proto::api::{self, MachineAllocationType};
use store::Tx;

use crate::ipam;
use crate::rpc::{Error, network};

/// One network of an allocation to be.
pub(super) struct Planned {
    network: api::Network,
    /// Addresses that the user named; none: one of each family is taken.
    ips: Vec<String>,
}

/// Checks the networks of a request. A firewall gets the underlay of its partition in addition.
pub(super) async fn plan(
    tx: &mut Tx,
    request: &api::MachineServiceCreateRequest,
    kind: MachineAllocationType,
    partition: &str,
) -> Result<Vec<Planned>, Error> {
    let mut planned = Vec::new();
    let mut seen = BTreeSet::new();
    for wanted in &request.networks {
        if !seen.insert(&wanted.network) {
            return Err(Error::invalid(format!("network {} is given twice", wanted.network)));
        }
        planned.push(one(tx, &request.project, wanted, partition).await?);
    }
    let firewall = kind == MachineAllocationType::Firewall;
    let kinds: Vec<_> =
        planned.iter().map(|p| (p.network.id.as_str(), network::kind_of(&p.network))).collect();
    check_attachment(firewall, &kinds).map_err(Error::invalid)?;
    if firewall {
        let network = network::underlay(tx, partition).await?;
        planned.push(Planned { network, ips: Vec::new() });
    }
    Ok(planned)
}

async fn one(
    tx: &mut Tx,
    project: &str,
    wanted: &api::MachineAllocationNetwork,
    partition: &str,
) -> Result<Planned, Error> {
    let network = network::for_allocation(tx, project, partition, &wanted.network).await?;
    check_kind(&network.id, network::kind_of(&network)).map_err(Error::invalid)?;
    Ok(Planned { network, ips: wanted.ips.clone() })
}

/// Takes the addresses of all networks and the number of the autonomous system.
pub(super) async fn acquire(
    tx: &mut Tx,
    planned: Vec<Planned>,
    project: &str,
    name: &str,
    machine: &str,
    now_us: i64,
) -> Result<(Vec<api::MachineNetwork>, u32), Error> {
    let mut networks = Vec::new();
    for Planned { network, ips } in planned {
        let mut taken = Vec::new();
        if ips.is_empty() {
            for family in families_of(&network) {
                let request = ipam::Request {
                    project,
                    network: &network.id,
                    want: ipam::Want::Lowest(family),
                    name,
                    description: "autoassigned",
                    kind: api::IPType::IP_TYPE_EPHEMERAL,
                    machine: Some(machine),
                    labels: None,
                };
                taken.push(ipam::acquire(tx, now_us, &request).await?.ip);
            }
        }
        for ip in &ips {
            taken.push(ipam::attach(tx, now_us, project, &network.id, ip, machine).await?.ip);
        }
        networks.push(api::MachineNetwork {
            network: network.id,
            prefixes: network.prefixes,
            destination_prefixes: network.destination_prefixes,
            ips: taken,
            network_type: network.r#type,
            nat_type: network.nat_type,
            vrf: u64::from(network.vrf.unwrap_or_default()),
            asn: 0,
            project: network.project,
            ..Default::default()
        });
    }
    // the pool is one for all: taken last, so that it is held as shortly as possible
    let asn = ipam::asn(tx).await?;
    for network in &mut networks {
        network.asn = asn;
    }
    Ok((networks, asn))
}

fn families_of(network: &api::Network) -> Vec<Family> {
    let nets: Vec<IpNet> = network.prefixes.iter().filter_map(|p| p.parse().ok()).collect();
    families(&nets).into_iter().collect()
}
