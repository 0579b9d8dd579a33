//! Which addresses and links the installed system has.

use std::net::IpAddr;

use netconf::machine;
use proto::api::{MachineAllocation, MachineNetwork, NetworkType};

use super::account::Owner;
use super::{Existing, Machine, OsFile, firewall, text};

/// Largest packet towards the leaves, which carry tenants' packets inside their own.
const MTU: u32 = 9000;

/// Addresses that the machine owns: those of its primary private network first, because it is known by them; those of a
/// firewall in the underlay.
///
/// # Errors
/// When the API sent something that is no address.
pub fn addresses(allocation: &MachineAllocation) -> Result<Vec<IpAddr>, String> {
    if firewall::is_firewall(allocation) {
        return firewall::underlay(allocation);
    }
    let mut networks: Vec<_> =
        allocation.networks.iter().filter(|network| carries(network)).collect();
    networks.sort_by_key(|network| !is_primary(network, allocation));
    all_ips(networks)
}

/// Addresses of the machine in these networks.
pub(super) fn all_ips<'a>(
    networks: impl IntoIterator<Item = &'a MachineNetwork>,
) -> Result<Vec<IpAddr>, String> {
    let parse = |(network, ip): (&MachineNetwork, &String)| {
        ip.parse()
            .map_err(|_| format!("the address {ip:?} in the network {} is none", network.network))
    };
    let ips =
        networks.into_iter().flat_map(|network| network.ips.iter().map(move |ip| (network, ip)));
    ips.map(parse).collect()
}

/// Networks whose addresses a machine has itself.
fn carries(network: &MachineNetwork) -> bool {
    matches!(
        network.network_type.as_known(),
        Some(NetworkType::Child | NetworkType::ChildShared | NetworkType::External)
    )
}

pub(super) fn is_primary(network: &MachineNetwork, allocation: &MachineAllocation) -> bool {
    let private = matches!(
        network.network_type.as_known(),
        Some(NetworkType::Child | NetworkType::ChildShared)
    );
    private && network.project.as_deref() == Some(allocation.project.as_str())
}

pub(super) fn files(
    machine: &Machine<'_>,
    existing: &Existing,
    addresses: Vec<IpAddr>,
) -> Result<Vec<OsFile>, String> {
    let allocation = machine.allocation;
    let networks = || allocation.networks.iter().filter(|network| network.asn > 0);
    let primary =
        networks().find(|network| is_primary(network, allocation)).or_else(|| networks().next());
    let Some(asn) = primary.map(|network| network.asn) else {
        return Err("the allocation has no network with an autonomous system: the machine could not be reached".into());
    };
    let frr = existing.accounts.user("frr").unwrap_or(Owner::ROOT);
    let wanted = machine::Machine {
        hostname: allocation.hostname.clone(),
        asn,
        addresses,
        links: machine.links.clone(),
        mtu: MTU,
    };
    let mut files: Vec<_> =
        machine::files(&wanted).into_iter().map(|file| owned(&file.path, file.text, frr)).collect();
    files.extend(daemons(existing, frr));
    Ok(files)
}

/// A file of the network; the routing daemons read theirs as a user of their own.
pub(super) fn owned(path: &str, content: String, frr: Owner) -> OsFile {
    match path.starts_with("/etc/frr/") {
        true => OsFile { owner: frr, ..text(path, 0o640, content) },
        false => text(path, 0o644, content),
    }
}

/// Debian's list of daemons, if the image has it.
pub(super) fn daemons(existing: &Existing, frr: Owner) -> Option<OsFile> {
    let daemons = existing.frr_daemons.as_ref()?;
    Some(OsFile { owner: frr, ..text("/etc/frr/daemons", 0o640, with_bgp(daemons)) })
}

/// Debian's list of daemons with BGP switched on, and with BFD, which leaves may ask for.
fn with_bgp(daemons: &str) -> String {
    let lines = daemons.lines().map(|line| match line.split_once('=') {
        Some(("bgpd", _)) => "bgpd=yes",
        Some(("bfdd", _)) => "bfdd=yes",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn the_private_address_is_the_first() {
        let mut allocation = tests::allocation();
        let texts: Vec<_> =
            addresses(&allocation).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.16.2", "203.0.113.7", "2001:db8::7"]);
        allocation.networks[0].ips[0] = "nonsense".into();
        assert!(addresses(&allocation).unwrap_err().contains("nonsense"));
    }

    #[test]
    fn a_machine_without_autonomous_system_is_refused() {
        let mut allocation = tests::allocation();
        allocation.networks.iter_mut().for_each(|network| network.asn = 0);
        let error =
            files(&tests::machine(&allocation), &Existing::default(), Vec::new()).unwrap_err();
        assert!(error.contains("autonomous system"), "{error}");
    }

    #[test]
    fn bgp_is_switched_on() {
        assert_eq!(
            with_bgp("# x\nbgpd=no\nospfd=no\nbfdd=no\n"),
            "# x\nbgpd=yes\nospfd=no\nbfdd=yes\n"
        );
    }
}
