//! What makes the installed system a firewall: its network, its agent, and the agent's way to the control plane.

use std::net::IpAddr;

use netconf::firewall::{Firewall, Kind, Told, files as network_files};
use proto::api::{MachineAllocation, MachineAllocationType, MachineNetwork, NATType, NetworkType};

use super::account::Owner;
use super::network::{all_ips, daemons, is_primary, owned};
use super::{Existing, Machine, OsFile, folder, link, text};

/// The agent of a firewall, in the initrd and in the installed system.
pub const PROGRAM: &str = "usr/sbin/metal-firewall";

/// Label of an allocation: of several firewalls of a network the fabric uses the one with the smallest number.
const DISTANCE: &str = "firewall.metal-stack.io/distance";

/// How the agent finds the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where the API is.
    pub api_url: String,
    /// Certificate authority of the API in PEM.
    pub ca_cert: Option<String>,
    /// Speaks for this firewall's rules and nothing else, as long as the allocation lasts.
    pub token: String,
}

/// The agent's filter is in place before the first link is up, and the agent lets the kernel forward then. Without a filter it has failed
/// and is tried again each second; the network comes up meanwhile, so that it can tell why.
const UNIT: &str = "[Unit]
Description=Rules of this firewall
Documentation=file:/etc/metal/firewall.toml
After=systemd-modules-load.service systemd-sysctl.service local-fs.target
Before=network-pre.target frr.service
Wants=network-pre.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/sbin/metal-firewall serve --config /etc/metal/firewall.toml
Restart=always
RestartSec=1
StateDirectory=metal-firewall
StateDirectoryMode=0700

[Install]
WantedBy=multi-user.target
";

/// Whether this is what the allocation asks for.
pub(super) fn is_firewall(allocation: &MachineAllocation) -> bool {
    allocation.allocation_type.as_known() == Some(MachineAllocationType::Firewall)
}

/// Addresses in the underlay, by which operators know the firewall.
pub(super) fn underlay(allocation: &MachineAllocation) -> Result<Vec<IpAddr>, String> {
    all_ips(allocation.networks.iter().filter(|n| kind(n) == Some(NetworkType::Underlay)))
}

pub(super) fn files(machine: &Machine<'_>, existing: &Existing) -> Result<Vec<OsFile>, String> {
    let frr = existing.accounts.user("frr").unwrap_or(Owner::ROOT);
    let mut files: Vec<_> = network_files(&firewall(machine)?)?
        .into_iter()
        .map(|file| owned(&file.path, file.text, frr))
        .collect();
    files.extend(daemons(existing, frr));
    files.extend(agent(machine)?);
    Ok(files)
}

/// The firewall as the allocation describes it.
fn firewall(machine: &Machine<'_>) -> Result<Firewall, String> {
    let allocation = machine.allocation;
    let Some(asn) = allocation.networks.iter().map(|network| network.asn).find(|asn| *asn > 0)
    else {
        return Err(
            "the allocation has no autonomous system: the firewall could not be reached".into()
        );
    };
    let mut networks = Vec::new();
    for network in &allocation.networks {
        let kind = match kind(network) {
            Some(NetworkType::External) => Some(Kind::External),
            Some(NetworkType::Child | NetworkType::ChildShared)
                if is_primary(network, allocation) =>
            {
                Some(Kind::Private)
            }
            Some(NetworkType::ChildShared) => Some(Kind::Shared),
            Some(NetworkType::Underlay) => continue,
            _ => None,
        };
        let told = Told {
            id: &network.network,
            kind,
            vrf: network.vrf,
            addresses: &network.ips,
            prefixes: &network.prefixes,
            destinations: &network.destination_prefixes,
            masquerade: network.nat_type.as_known() == Some(NATType::Ipv4Masquerade),
        };
        networks.push(told.read()?);
    }
    Ok(Firewall {
        hostname: allocation.hostname.clone(),
        asn,
        distance: distance(allocation)?,
        underlay: underlay(allocation)?,
        networks,
        links: machine.links.clone(),
    })
}

/// Without a label it is the nearest.
fn distance(allocation: &MachineAllocation) -> Result<u8, String> {
    let labels = allocation.meta.as_option().and_then(|meta| meta.labels.as_option());
    let Some(text) = labels.and_then(|labels| labels.labels.get(DISTANCE)) else { return Ok(0) };
    let distance = text.parse::<u8>().ok().filter(|distance| *distance <= 7);
    distance.ok_or_else(|| format!("label {DISTANCE}: {text:?} is no number from 0 to 7"))
}

fn kind(network: &MachineNetwork) -> Option<NetworkType> {
    network.network_type.as_known()
}

/// The agent's configuration with its token, and its unit, which starts with the system.
fn agent(machine: &Machine<'_>) -> Result<Vec<OsFile>, String> {
    let agent =
        machine.agent.as_ref().ok_or("the control plane gave no token for the firewall's agent")?;
    let unit = "/etc/systemd/system/metal-firewall.service";
    let wants = "/etc/systemd/system/multi-user.target.wants";
    let mut config = format!(
        "machine = {}\napi_url = {}\ntoken_file = \"/etc/metal/firewall.token\"\n",
        quoted(&machine.uuid),
        quoted(&agent.api_url)
    );
    let mut files = vec![
        folder("/etc/metal", 0o755, Owner::ROOT),
        text("/etc/metal/firewall.token", 0o600, format!("{}\n", agent.token)),
    ];
    if let Some(pem) = &agent.ca_cert {
        config.push_str("ca_cert_file = \"/etc/metal/ca.pem\"\n");
        files.push(text("/etc/metal/ca.pem", 0o644, pem.clone()));
    }
    config.push_str("state_dir = \"/var/lib/metal-firewall\"\n");
    files.push(text("/etc/metal/firewall.toml", 0o644, config));
    files.push(text(unit, 0o644, UNIT.into()));
    files.push(folder(wants, 0o755, Owner::ROOT));
    files.push(link(&format!("{wants}/metal-firewall.service"), unit));
    Ok(files)
}

/// A string of TOML; JSON's are the same.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    fn allocation() -> MachineAllocation {
        let mut allocation: MachineAllocation = serde_json::from_str(
            r#"{"uuid":"a0000000-0000-0000-0000-000000000002","project":"b0000000-0000-0000-0000-000000000001",
            "hostname":"fw-1","allocationType":"MACHINE_ALLOCATION_TYPE_FIREWALL",
            "networks":[
              {"network":"private","ips":["10.0.16.1"],"prefixes":["10.0.16.0/22"],"vrf":"7","asn":4210000007,
               "project":"b0000000-0000-0000-0000-000000000001","networkType":"NETWORK_TYPE_CHILD"},
              {"network":"storage","ips":["10.0.20.9"],"prefixes":["10.0.20.0/22"],"vrf":"8","asn":4210000007,
               "project":"b0000000-0000-0000-0000-000000000002","networkType":"NETWORK_TYPE_CHILD_SHARED"},
              {"network":"internet","ips":["203.0.113.2"],"prefixes":["203.0.113.0/24"],"destinationPrefixes":["0.0.0.0/0"],
               "vrf":"104009","asn":4210000007,"networkType":"NETWORK_TYPE_EXTERNAL","natType":"NAT_TYPE_IPV4_MASQUERADE"},
              {"network":"underlay","ips":["10.254.0.1"],"asn":4210000007,"networkType":"NETWORK_TYPE_UNDERLAY"}]}"#,
        )
        .unwrap();
        allocation.ssh_public_keys = vec!["ssh-ed25519 AAAA one".into()];
        allocation
    }

    fn machine(allocation: &MachineAllocation) -> Machine<'_> {
        let agent = Agent {
            api_url: "http://10.255.0.1:8080".into(),
            ca_cert: Some("PEM".into()),
            token: "secret".into(),
        };
        Machine { agent: Some(agent), ..tests::machine(allocation) }
    }

    #[test]
    fn the_firewall_of_an_allocation() {
        let allocation = allocation();
        let firewall = firewall(&machine(&allocation)).unwrap();
        let kinds: Vec<_> = firewall.networks.iter().map(|n| (n.vni, n.kind)).collect();
        assert_eq!(kinds, [(7, Kind::Private), (8, Kind::Shared), (104_009, Kind::External)]);
        let masquerades: Vec<_> = firewall.networks.iter().map(|n| n.masquerade).collect();
        assert_eq!(masquerades, [false, false, true]);
        assert_eq!((firewall.asn, firewall.distance), (4_210_000_007, 0));
        assert_eq!(firewall.underlay, [IpAddr::from([10, 254, 0, 1])]);
    }

    #[test]
    fn only_root_reads_the_token() {
        let allocation = allocation();
        let files = super::super::files(&machine(&allocation), &Existing::default()).unwrap();
        let find = |path: &str| files.iter().find(|f| f.path == path).unwrap();
        assert_eq!(find("/etc/metal/firewall.token").mode, 0o600);
        let holders: Vec<_> = files
            .iter()
            .filter(
                |f| matches!(&f.content, super::super::Content::Text(t) if t.contains("secret")),
            )
            .map(|f| &f.path[..])
            .collect();
        assert_eq!(holders, ["/etc/metal/firewall.token"]);
        let super::super::Content::Text(config) = &find("/etc/metal/firewall.toml").content else {
            panic!("no text")
        };
        expect_test::expect![[r#"
            machine = "00112233-4455-6677-8899-aabbccddeeff"
            api_url = "http://10.255.0.1:8080"
            token_file = "/etc/metal/firewall.token"
            ca_cert_file = "/etc/metal/ca.pem"
            state_dir = "/var/lib/metal-firewall"
        "#]]
        .assert_eq(config);
        assert_eq!(find("/etc/systemd/network/200-vrf7.netdev").mode, 0o644);
        let super::super::Content::Text(hosts) = &find("/etc/hosts").content else {
            panic!("no text")
        };
        assert!(hosts.contains("10.254.0.1 fw-1"), "{hosts}");
    }

    #[test]
    fn its_distance_is_a_label() {
        let mut allocation = allocation();
        let mut label = |value: &str| {
            let labels = allocation.meta.get_or_insert_default().labels.get_or_insert_default();
            labels.labels.insert(DISTANCE.into(), value.into());
            firewall(&machine(&allocation)).map(|firewall| firewall.distance)
        };
        assert_eq!(label("3"), Ok(3));
        assert!(label("8").unwrap_err().contains("0 to 7"));
        assert!(label("far").is_err());
    }

    #[test]
    fn what_cannot_be_a_firewall_is_refused() {
        let mut wrong = allocation();
        wrong.networks[2].vrf = 0;
        assert!(firewall(&machine(&wrong)).unwrap_err().contains("VXLAN id"));
        let mut wrong = allocation();
        wrong.networks[0].project = Some("somebody-else".into());
        assert!(firewall(&machine(&wrong)).unwrap_err().contains("cannot join"));
        let allocation = allocation();
        let mut silent = machine(&allocation);
        silent.agent = None;
        assert!(files(&silent, &Existing::default()).unwrap_err().contains("token"));
    }
}
