//! What to write next for a step. Pure: a step is done by asking again and again until nothing is left to write, so one
//! that broke off goes on where it was, and one that is done writes nothing.
//!
//! The order is SONiC's: `swss` dies when a port enters a VLAN over which the ASIC still routes, and a port
//! cannot change its VRF but by having no row in between.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::schema::{
    self, Condition, NOTHING, Rows, Snapshot, Write, addresses, field, key, memberships, table,
};
use crate::backend::{Place, Step};
use crate::config::Config;

/// What the configuration file says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// VLAN of the boot network.
    pub boot: String,
    /// First and last VLAN for networks of tenants.
    pub vlans: (u16, u16),
    /// MTU of ports in the boot network and of machines.
    pub mtu: u32,
    /// MTU of ports of firewalls.
    pub underlay_mtu: u32,
}

impl Rules {
    /// Those of this file.
    pub fn of(config: &Config) -> Self {
        let settings = &config.sonic;
        Self {
            boot: config.boot_bridge.clone(),
            vlans: settings.vlans,
            mtu: settings.mtu,
            underlay_mtu: settings.underlay_mtu,
        }
    }

    fn is_tenants(&self, vlan: &str) -> bool {
        let (first, last) = self.vlans;
        schema::vlan_id(vlan).is_some_and(|id| (first..=last).contains(&id))
    }
}

/// One transaction, after some waiting. Nothing to write: the step is done as soon as the waiting ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// What must be so before.
    pub wait: Vec<Condition>,
    /// What is written then, all or nothing.
    pub writes: Vec<Write>,
}

impl Next {
    fn write(writes: Vec<Write>) -> Self {
        Self { wait: Vec::new(), writes }
    }

    fn done(wait: Vec<Condition>) -> Self {
        Self { wait, writes: Vec::new() }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self, now: &Snapshot) -> bool {
        self.writes.is_empty() && self.wait.iter().all(|condition| condition.seen(now))
    }
}

/// What to write next.
///
/// # Errors
/// What is missing for it.
pub fn next(step: &Step, now: &Snapshot, rules: &Rules) -> Result<Next> {
    match step {
        Step::Boot(port) => boot(port, now, rules),
        Step::Route(port, vni) => route(port, *vni, now, rules),
        Step::Leave(port) => leave(port, now, rules),
        Step::Admin(port, up) => admin(port, *up, now),
        Step::Prepare(vni) => prepare(*vni, now, rules),
        Step::CleanUp(vni) => clean_up(*vni, now, rules),
        Step::Forward | Step::Unpeer(_) | Step::Routing(_) => bail!("\"{step}\" is not about rows"),
    }
}

/// Rows on which the decision depends: if one of them changes meanwhile, it has to be made again.
pub fn keys(step: &Step, now: &Snapshot, rules: &Rules) -> BTreeSet<String> {
    let config = &now.config;
    if let Some(port) = step.port() {
        let mut keys: BTreeSet<_> = memberships(config, "VLAN_MEMBER", port).into_iter().collect();
        keys.extend(addresses(config, "INTERFACE", port));
        keys.extend(["PORT", "INTERFACE"].map(|table| key(table, port)));
        keys.extend([key("VLAN", &rules.boot), member(&rules.boot, port)]);
        if let Step::Route(_, Some(vni)) = step {
            keys.insert(key("VRF", &schema::vrf(*vni)));
        }
        return keys;
    }
    let (Step::Prepare(vni) | Step::CleanUp(vni)) = step else { return BTreeSet::new() };
    // Small tables, and two tenants must not get one VLAN.
    let tables = ["VLAN", "VLAN_INTERFACE", "VRF", "VXLAN_TUNNEL", "VXLAN_TUNNEL_MAP"];
    let names = tables.iter().flat_map(|of| table(config, of).map(move |(name, _)| key(of, name)));
    let mut keys: BTreeSet<_> = names.collect();
    keys.insert(key("VRF", &schema::vrf(*vni)));
    if let Ok(vlan) = vlan_of(*vni, now, rules).map_or_else(|| free(*vni, now, rules), Ok) {
        let tables = ["VLAN", "VLAN_INTERFACE", "SUPPRESS_VLAN_NEIGH"];
        keys.extend(tables.map(|table| key(table, &vlan)));
    }
    keys
}

/// Where a port is: where its rows are, if the managers have done what they say.
pub fn place(port: &str, now: &Snapshot, rules: &Rules) -> Place {
    let is_done = |next: Result<Next>| next.is_ok_and(|next| next.is_done(now));
    if is_done(boot(port, now, rules)) {
        return Place::Boot;
    }
    let vrf = field(&now.config, &key("INTERFACE", port), "vrf_name");
    let vni = vrf.and_then(schema::vrf_vni);
    if vrf.is_some() == vni.is_some() && is_done(route(port, vni, now, rules)) {
        return Place::Routed(vni);
    }
    let mut parts = memberships(&now.config, "VLAN_MEMBER", port);
    parts.extend(addresses(&now.config, "INTERFACE", port));
    if now.config.contains_key(&key("INTERFACE", port)) {
        parts.push(match vrf {
            Some(vrf) => format!("INTERFACE|{port} in {vrf}"),
            None => format!("INTERFACE|{port}"),
        });
    }
    Place::Foreign(if parts.is_empty() { "no network".to_owned() } else { parts.join(", ") })
}

/// VRFs of tenants, and whether all is there that belongs to them. A VRF without the VNI in its name is somebody else's.
pub fn tenants(now: &Snapshot, rules: &Rules) -> BTreeMap<u32, bool> {
    let vrf = |(name, fields): (&str, &schema::Fields)| {
        let vni = schema::vrf_vni(name)?;
        (fields.get("vni").map(String::as_str) == Some(vni.to_string().as_str())).then_some(vni)
    };
    // A VLAN that was left behind leads to its tenant, too.
    let vlan = |(name, fields): (&str, &schema::Fields)| {
        schema::vrf_vni(fields.get("description")?).filter(|_| rules.is_tenants(name))
    };
    let vrfs = table(&now.config, "VRF").filter_map(vrf);
    let vnis: BTreeSet<_> = vrfs.chain(table(&now.config, "VLAN").filter_map(vlan)).collect();
    let is_whole = |vni| prepare(vni, now, rules).is_ok_and(|next| next.is_done(now));
    vnis.into_iter().map(|vni| (vni, is_whole(vni))).collect()
}

fn member(vlan: &str, port: &str) -> String {
    key("VLAN_MEMBER", &format!("{vlan}|{port}"))
}

fn remove(keys: Vec<String>) -> Next {
    Next::write(keys.into_iter().map(Write::Remove).collect())
}

/// Addresses first: the managers keep an interface as long as it has one.
fn routed_rows(port: &str, config: &Rows) -> Vec<String> {
    let mut rows = addresses(config, "INTERFACE", port);
    rows.extend(Some(key("INTERFACE", port)).filter(|row| config.contains_key(row)));
    rows
}

fn has_port(port: &str, config: &Rows) -> Result<()> {
    ensure!(config.contains_key(&key("PORT", port)), "{port} is not there");
    Ok(())
}

/// Conditions after which nobody routes over it any more.
fn not_routed(interface: &str) -> [Condition; 2] {
    [Condition::Gone(key("INTERFACE_TABLE", interface)), Condition::NoRouter(interface.to_owned())]
}

fn mtu(port: &str, mtu: u32, config: &Rows) -> Option<Write> {
    let (key, mtu) = (key("PORT", port), mtu.to_string());
    (field(config, &key, "mtu") != Some(mtu.as_str())).then(|| Write::set(key, [("mtu", &mtu)]))
}

/// What is missing in a row, as one write; a row that says nothing gets rid of that.
fn complete<const N: usize>(key: String, fields: [(&str, &str); N], config: &Rows) -> Vec<Write> {
    let differs = |(name, value): &(&str, &str)| field(config, &key, name) != Some(*value);
    let missing: Vec<_> = fields
        .into_iter()
        .filter(differs)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let nothing = field(config, &key, NOTHING).map(|_| Write::Unset(key.clone(), NOTHING.into()));
    [Write::Set(key, missing)].into_iter().chain(nothing).collect()
}

fn boot(port: &str, now: &Snapshot, rules: &Rules) -> Result<Next> {
    let config = &now.config;
    has_port(port, config)?;
    ensure!(config.contains_key(&key("VLAN", &rules.boot)), "{} is not there", rules.boot);
    let routed = routed_rows(port, config);
    if !routed.is_empty() {
        return Ok(remove(routed));
    }
    let own = member(&rules.boot, port);
    let tagged = field(config, &own, "tagging_mode").is_some_and(|mode| mode != "untagged");
    let mut others = memberships(config, "VLAN_MEMBER", port);
    others.retain(|row| *row != own || tagged);
    if !others.is_empty() {
        return Ok(remove(others));
    }
    let mut writes = complete(own.clone(), [("tagging_mode", "untagged")], config);
    let mut wait = not_routed(port).to_vec();
    let own = own.replacen("VLAN_MEMBER|", "VLAN_MEMBER_TABLE|", 1);
    let mut left = memberships(&now.state, "VLAN_MEMBER_TABLE", port);
    left.retain(|row| *row != own);
    wait.extend(left.into_iter().map(Condition::Gone));
    writes.extend(mtu(port, rules.mtu, config));
    if writes.is_empty() {
        wait.retain(|condition| !matches!(condition, Condition::NoRouter(_)));
        wait.push(Condition::Is(own, "state", "ok".into()));
    }
    Ok(Next { wait, writes })
}

fn route(port: &str, vni: Option<u32>, now: &Snapshot, rules: &Rules) -> Result<Next> {
    let config = &now.config;
    has_port(port, config)?;
    let vrf = vni.map(schema::vrf);
    if let Some(vrf) = &vrf {
        ensure!(config.contains_key(&key("VRF", vrf)), "{vrf} is not there");
    }
    let bridged = memberships(config, "VLAN_MEMBER", port);
    if !bridged.is_empty() {
        return Ok(remove(bridged));
    }
    let row = key("INTERFACE", port);
    let is_there = config.contains_key(&row);
    let elsewhere = is_there && field(config, &row, "vrf_name") != vrf.as_deref();
    if elsewhere || !addresses(config, "INTERFACE", port).is_empty() {
        return Ok(remove(routed_rows(port, config)));
    }
    let link_local = ("ipv6_use_link_local_only", "enable");
    let mut writes = match &vrf {
        Some(vrf) => complete(row, [link_local, ("vrf_name", vrf)], config),
        None => complete(row, [link_local], config),
    };
    writes.extend(mtu(port, vni.map_or(rules.underlay_mtu, |_| rules.mtu), config));
    let left = memberships(&now.state, "VLAN_MEMBER_TABLE", port);
    let mut wait: Vec<_> = left.into_iter().map(Condition::Gone).collect();
    if !is_there {
        wait.push(Condition::NoBridge(port.to_owned()));
        wait.extend(not_routed(port));
        let ready = |vrf: &String| Condition::Is(key("VRF_TABLE", vrf), "state", "ok".into());
        wait.extend(vrf.as_ref().map(ready));
    }
    if writes.is_empty() {
        let vrf = vrf.unwrap_or_default();
        wait.push(Condition::Is(key("INTERFACE_TABLE", port), "vrf", vrf));
    }
    Ok(Next { wait, writes })
}

/// Down in the same transaction: nobody is on the wire while it changes.
fn leave(port: &str, now: &Snapshot, rules: &Rules) -> Result<Next> {
    let config = &now.config;
    has_port(port, config)?;
    if field(config, &key("INTERFACE", port), "vrf_name").is_some() {
        let mut writes = vec![Write::set(key("PORT", port), [("admin_status", "down")])];
        writes.extend(routed_rows(port, config).into_iter().map(Write::Remove));
        return Ok(Next::write(writes));
    }
    match memberships(config, "VLAN_MEMBER", port).is_empty() {
        true => route(port, None, now, rules),
        false => Ok(Next::default()),
    }
}

fn admin(port: &str, up: bool, now: &Snapshot) -> Result<Next> {
    has_port(port, &now.config)?;
    let status = if up { "up" } else { "down" };
    let writes = complete(key("PORT", port), [("admin_status", status)], &now.config);
    Ok(match writes.is_empty() {
        true => Next::done(vec![Condition::Admin(port.to_owned(), up)]),
        false => Next::write(writes),
    })
}

/// The tunnel end of this switch: SONiC has one.
fn tunnel(config: &Rows) -> Result<&str> {
    let mut tunnels = table(config, "VXLAN_TUNNEL").map(|(name, _)| name);
    match (tunnels.next(), tunnels.next()) {
        (Some(tunnel), None) => Ok(tunnel),
        (None, _) => bail!("VXLAN_TUNNEL has no row: the switch has no tunnel end"),
        (Some(one), Some(two)) => bail!("VXLAN_TUNNEL has two rows, {one} and {two}: which one?"),
    }
}

/// The VLAN of a tenant, as the rows have it. They are the only memory: VLANs mean something on this switch only, and
/// `config_db.json` keeps them.
fn vlan_of(vni: u32, now: &Snapshot, rules: &Rules) -> Option<String> {
    let (number, vrf) = (vni.to_string(), schema::vrf(vni));
    let mapped = table(&now.config, "VXLAN_TUNNEL_MAP")
        .filter(|(_, fields)| fields.get("vni") == Some(&number))
        .find_map(|(_, fields)| fields.get("vlan"))
        .filter(|vlan| rules.is_tenants(vlan));
    let described = || {
        let is_its = |(name, fields): &(&str, &schema::Fields)| {
            fields.get("description") == Some(&vrf) && rules.is_tenants(name)
        };
        table(&now.config, "VLAN").find(is_its).map(|(name, _)| name.to_owned())
    };
    mapped.cloned().or_else(described)
}

/// A VLAN that nobody has. Each VNI has a favourite, so that a tenant that comes again gets the same one.
fn free(vni: u32, now: &Snapshot, rules: &Rules) -> Result<String> {
    let (first, last) = rules.vlans;
    let count = u32::from(last - first) + 1;
    let mapped =
        table(&now.config, "VXLAN_TUNNEL_MAP").filter_map(|(_, fields)| fields.get("vlan"));
    let rows = table(&now.config, "VLAN").chain(table(&now.state, "VLAN_TABLE"));
    let taken: BTreeSet<&str> =
        rows.map(|(name, _)| name).chain(mapped.map(String::as_str)).collect();
    (0..count)
        .map(|offset| schema::vlan(first + ((vni % count + offset) % count) as u16))
        .find(|vlan| !taken.contains(vlan.as_str()))
        .with_context(|| format!("all VLANs from {first} to {last} are taken"))
}

fn prepare(vni: u32, now: &Snapshot, rules: &Rules) -> Result<Next> {
    let config = &now.config;
    let (vrf, number, tunnel) = (schema::vrf(vni), vni.to_string(), tunnel(config)?);
    let foreign = table(config, "VXLAN_TUNNEL_MAP").find(|(_, fields)| {
        fields.get("vni") == Some(&number)
            && !fields.get("vlan").is_some_and(|v| rules.is_tenants(v))
    });
    if let Some((name, _)) = foreign {
        bail!("VXLAN_TUNNEL_MAP|{name} has the VNI already, in a VLAN that is not for tenants");
    }
    let known = vlan_of(vni, now, rules);
    let vlan = known.map_or_else(|| free(vni, now, rules), Ok)?;
    let interface = key("VLAN_INTERFACE", &vlan);
    if config.contains_key(&interface)
        && field(config, &interface, "vrf_name") != Some(vrf.as_str())
    {
        let mut rows = addresses(config, "VLAN_INTERFACE", &vlan);
        rows.push(interface);
        return Ok(remove(rows));
    }
    let id = vlan.trim_start_matches("Vlan");
    let map = key("VXLAN_TUNNEL_MAP", &format!("{tunnel}|map_{vni}_{vlan}"));
    let mapped = table(config, "VXLAN_TUNNEL_MAP")
        .any(|(_, fields)| fields.get("vni") == Some(&number) && fields.get("vlan") == Some(&vlan));
    let mut wait = Vec::new();
    // One that is on its way out has to be out.
    let mut come = |table: &str, name: &str, states: &[&str]| {
        if !config.contains_key(&key(table, name)) {
            wait.extend(states.iter().map(|state| Condition::Gone(key(state, name))));
        }
    };
    come("VRF", &vrf, &["VRF_TABLE", "VRF_OBJECT_TABLE"]);
    come("VLAN", &vlan, &["VLAN_TABLE"]);
    come("VLAN_INTERFACE", &vlan, &["INTERFACE_TABLE"]);
    let mut writes = complete(key("VRF", &vrf), [("fallback", "false"), ("vni", &number)], config);
    let fields = [("vlanid", id), ("description", vrf.as_str())];
    writes.extend(complete(key("VLAN", &vlan), fields, config));
    let suppress = key("SUPPRESS_VLAN_NEIGH", &vlan);
    writes.extend(complete(suppress, [("suppress", "on")], config));
    writes.extend(complete(interface, [("vrf_name", &vrf)], config));
    if !mapped {
        writes.extend(complete(map, [("vlan", &vlan), ("vni", &number)], config));
    }
    if writes.is_empty() {
        let ok = |table, name: &str| Condition::Is(key(table, name), "state", "ok".into());
        wait.extend([ok("VRF_TABLE", &vrf), ok("VLAN_TABLE", &vlan)]);
        wait.push(Condition::Is(key("INTERFACE_TABLE", &vlan), "vrf", vrf));
    }
    Ok(Next { wait, writes })
}

/// The VRF last: as long as it is there, what is left of the rest is found.
fn clean_up(vni: u32, now: &Snapshot, rules: &Rules) -> Result<Next> {
    let config = &now.config;
    let (vrf, number) = (schema::vrf(vni), vni.to_string());
    let vlan = vlan_of(vni, now, rules);
    for of in ["INTERFACE", "PORTCHANNEL_INTERFACE", "LOOPBACK_INTERFACE", "VLAN_INTERFACE"] {
        let is_in = |(name, fields): &(&str, &schema::Fields)| {
            fields.get("vrf_name") == Some(&vrf) && vlan.as_deref() != Some(*name)
        };
        if let Some((name, _)) = table(config, of).find(is_in) {
            bail!("{name} is still in it");
        }
    }
    let maps = table(config, "VXLAN_TUNNEL_MAP")
        .filter(|(_, fields)| fields.get("vni") == Some(&number))
        .map(|(name, _)| key("VXLAN_TUNNEL_MAP", name));
    let there = |row: &String| config.contains_key(row);
    if let Some(vlan) = &vlan {
        let interface = key("VLAN_INTERFACE", vlan);
        let addresses = addresses(config, "VLAN_INTERFACE", vlan);
        let rows: Vec<_> = maps.chain(addresses).chain([interface]).filter(there).collect();
        if !rows.is_empty() {
            return Ok(remove(rows));
        }
        let rows = ["SUPPRESS_VLAN_NEIGH", "VLAN"].map(|table| key(table, vlan));
        let writes: Vec<_> = rows.into_iter().filter(there).map(Write::Remove).collect();
        if !writes.is_empty() {
            return Ok(Next { wait: not_routed(vlan).into(), writes });
        }
    }
    let row = key("VRF", &vrf);
    if there(&row) {
        let is_in = |(_, fields): &(&str, &schema::Fields)| fields.get("vrf") == Some(&vrf);
        let left = table(&now.state, "INTERFACE_TABLE").filter(is_in);
        let wait = left.map(|(name, _)| Condition::Gone(key("INTERFACE_TABLE", name))).collect();
        return Ok(Next { wait, writes: vec![Write::Remove(row)] });
    }
    Ok(Next::done(["VRF_TABLE", "VRF_OBJECT_TABLE"].map(|t| Condition::Gone(key(t, &vrf))).into()))
}

#[cfg(test)]
mod tests;
