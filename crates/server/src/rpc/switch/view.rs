//! A switch as clients and agents see it: what it should be, what hangs on it, what its agent told, and what may be announced.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proto::api::{self, NetworkType};
use serde::{Deserialize, Serialize};
use store::switch::Status;
use store::{Entity, Tx};

use crate::rpc::Error;
use crate::rpc::machine::record;
use crate::wire;

/// What heartbeats tell of ports, by port name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// Link states as the contract's numbers.
    pub(crate) states: BTreeMap<String, i32>,
    /// BGP sessions.
    pub(crate) sessions: BTreeMap<String, api::SwitchBGPPortState>,
}

impl Ports {
    /// From a status row.
    pub(crate) fn of(status: &Status) -> Result<Self, Error> {
        if status.ports.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&status.ports)
            .map_err(|e| Error::internal(format!("ports of {} are damaged: {e}", status.switch)))
    }
}

/// One attempt of an agent, from a status row.
pub(crate) fn sync(text: &str) -> Result<Option<api::SwitchSync>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let sync = serde_json::from_str(text)
        .map_err(|e| Error::internal(format!("stored heartbeat is damaged: {e}")))?;
    Ok(Some(sync))
}

/// The whole switch.
pub(crate) async fn view(tx: &mut Tx, row: &Entity) -> Result<api::Switch, Error> {
    of(tx, wire::decode(row)?).await
}

/// As [`view`], of what is stored.
pub(crate) async fn of(tx: &mut Tx, stored: api::Switch) -> Result<api::Switch, Error> {
    let status = store::switch::peek_status(tx, &stored.id).await?.unwrap_or_default();
    complete(tx, stored, &status).await
}

/// The whole switch, and the generation of what it should be; one question less than [`view`].
pub(crate) async fn whole(tx: &mut Tx, id: &str) -> Result<(api::Switch, i64), Error> {
    let (row, status) =
        store::switch::with_status(tx, id).await?.ok_or_else(|| Error::not_found("switch", id))?;
    let switch = complete(tx, wire::decode(&row)?, &status.unwrap_or_default()).await?;
    Ok((switch, row.generation))
}

/// What is stored of a switch with all the rest.
async fn complete(
    tx: &mut Tx,
    mut switch: api::Switch,
    status: &Status,
) -> Result<api::Switch, Error> {
    let ports = Ports::of(status)?;
    switch.last_sync = sync(&status.last_sync)?.into();
    switch.last_sync_error = sync(&status.last_sync_error)?.into();
    switch.nics.sort_by(|a, b| a.name.cmp(&b.name));
    let cables = store::switch::connections_of_switch(tx, &switch.id).await?;
    let mut filters = Filters::default();
    for nic in &mut switch.nics {
        let told = ports.states.get(&nic.name).copied();
        let actual = told.map_or(api::SwitchPortStatus::Unknown.into(), buffa::EnumValue::from);
        nic.state.get_or_insert_default().actual = actual;
        nic.bgp_port_state = ports.sessions.get(&nic.name).cloned().into();
        if let Some(cable) = cables.iter().find(|cable| cable.nic == nic.name) {
            let filter = filters.of(tx, &cable.machine, nic.vrf.as_deref()).await?;
            nic.bgp_filter = filter.into();
        }
    }
    switch.machine_connections = cables
        .into_iter()
        .filter_map(|cable| {
            let nic = switch.nics.iter().find(|nic| nic.name == cable.nic)?.clone();
            Some(api::MachineConnection {
                machine_id: cable.machine,
                nic: nic.into(),
                ..Default::default()
            })
        })
        .collect();
    Ok(switch)
}

/// Filters of the machines of one switch; what a project may announce is read once.
#[derive(Default)]
struct Filters {
    projects: BTreeMap<String, BTreeSet<IpNet>>,
}

impl Filters {
    async fn of(
        &mut self,
        tx: &mut Tx,
        machine: &str,
        vrf: Option<&str>,
    ) -> Result<Option<api::BGPFilter>, Error> {
        let Some(record) = record::get(tx, machine).await? else { return Ok(None) };
        let Some(allocation) = record.allocation() else { return Ok(None) };
        let firewall = allocation.allocation_type == api::MachineAllocationType::Firewall;
        if firewall {
            return Ok((vrf == Some("default")).then(|| firewall_filter(allocation)));
        }
        let Some(private) = private(allocation) else { return Ok(None) };
        let mut cidrs: Vec<IpNet> =
            private.prefixes.iter().filter_map(|prefix| prefix.parse().ok()).collect();
        cidrs.extend(announcable(tx, &private.network).await?);
        if !self.projects.contains_key(&allocation.project) {
            let addresses = addresses(tx, &allocation.project).await?;
            self.projects.insert(allocation.project.clone(), addresses);
        }
        cidrs.extend(self.projects.get(&allocation.project).into_iter().flatten());
        let cidrs = IpNet::aggregate(&cidrs).iter().map(ToString::to_string).collect();
        Ok(Some(api::BGPFilter { cidrs, ..Default::default() }))
    }
}

/// The network in which a machine lives.
pub(crate) fn private(allocation: &api::MachineAllocation) -> Option<&api::MachineNetwork> {
    allocation.networks.iter().find(|network| {
        matches!(
            network.network_type.as_known(),
            Some(NetworkType::Child | NetworkType::ChildShared)
        )
    })
}

/// A firewall announces its own underlay addresses, and the networks that it joins by EVPN.
fn firewall_filter(allocation: &api::MachineAllocation) -> api::BGPFilter {
    let mut filter = api::BGPFilter::default();
    for network in &allocation.networks {
        if network.network_type == NetworkType::Underlay {
            filter.cidrs.extend(
                network
                    .ips
                    .iter()
                    .filter_map(|ip| ip.parse::<std::net::IpAddr>().ok())
                    .map(|ip| IpNet::from(ip).to_string()),
            );
        } else if network.vrf != 0 {
            filter.vnis.push(network.vrf.to_string());
        }
    }
    filter.cidrs.sort();
    filter.vnis.sort();
    filter
}

/// What the parent of a network allows in addition.
async fn announcable(tx: &mut Tx, network: &str) -> Result<Vec<IpNet>, Error> {
    let Some(row) = store::network::TABLE.get(tx, network).await? else { return Ok(Vec::new()) };
    let network: api::Network = wire::decode(&row)?;
    let Some(parent) = &network.parent_network else { return Ok(Vec::new()) };
    let Some(row) = store::network::TABLE.get(tx, parent).await? else { return Ok(Vec::new()) };
    let parent: api::Network = wire::decode(&row)?;
    Ok(parent.additional_announcable_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect())
}

/// The addresses of a project, without those in the underlay. One that cannot be read is left out, it costs nobody else its routes.
async fn addresses(tx: &mut Tx, project: &str) -> Result<BTreeSet<IpNet>, Error> {
    let mut found = BTreeSet::new();
    let mut underlay = BTreeMap::<String, bool>::new();
    for row in store::ip::TABLE.select().eq("project", project).all(tx).await? {
        let ip: api::IP = wire::decode(&row)?;
        let Ok(address) = ip.ip.parse::<std::net::IpAddr>() else { continue };
        let is_underlay = match underlay.get(&ip.network) {
            Some(known) => *known,
            None => {
                let row = store::network::TABLE.get(tx, &ip.network).await?;
                let network: Option<api::Network> = row.as_ref().map(wire::decode).transpose()?;
                let is = network.is_some_and(|network| network.r#type == NetworkType::Underlay);
                underlay.insert(ip.network.clone(), is);
                is
            }
        };
        if !is_underlay {
            found.insert(IpNet::from(address));
        }
    }
    Ok(found)
}
