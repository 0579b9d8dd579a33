//! What the control plane wants, as `netconf` understands it.

use ipnet::IpNet;
use netconf::firewall::rules::{self, Management, Protocol, Rule, Rules, Table};
use netconf::firewall::{Kind, Told};
use proto::{api, ext};

/// The wish as it is heard and kept.
pub type Wish = ext::FirewallServiceWatchResponse;

/// The table for a wish.
///
/// # Errors
/// A sentence about what cannot be understood: nothing of it is applied then.
pub fn table(wish: &Wish, management: &Management) -> Result<Table, String> {
    let mut networks = Vec::new();
    for network in &wish.networks {
        let own = network.project.as_deref() == Some(wish.project.as_str());
        let kind = match network.network_type.as_known() {
            Some(api::NetworkType::Underlay) => continue,
            Some(api::NetworkType::External) => Some(Kind::External),
            Some(api::NetworkType::Child | api::NetworkType::ChildShared) if own => {
                Some(Kind::Private)
            }
            Some(api::NetworkType::ChildShared) => Some(Kind::Shared),
            _ => None,
        };
        let told = Told {
            id: &network.network,
            kind,
            vrf: network.vrf,
            addresses: &network.ips,
            prefixes: &network.prefixes,
            destinations: &network.destination_prefixes,
            masquerade: network.nat_type == api::NATType::Ipv4Masquerade,
        };
        networks.push(told.read()?);
    }
    let wished = wish.rules.as_option().cloned().unwrap_or_default();
    let rules = Rules {
        egress: wished
            .egress
            .iter()
            .map(|r| rule(r.protocol, &r.ports, &[], &r.to, &r.comment))
            .collect::<Result<_, _>>()?,
        ingress: wished
            .ingress
            .iter()
            .map(|r| rule(r.protocol, &r.ports, &r.from, &r.to, &r.comment))
            .collect::<Result<_, _>>()?,
    };
    rules::table(&rules::Wish {
        generation: wish.generation,
        // Tunnels end at leaves and exits, whose addresses no allocation tells: the leaves decide who is in the underlay.
        underlay: &[],
        networks: &networks,
        rules: &rules,
        management,
    })
}

fn rule(
    protocol: buffa::EnumValue<api::IPProtocol>,
    ports: &[u32],
    from: &[String],
    to: &[String],
    comment: &str,
) -> Result<Rule, String> {
    let protocol = match protocol.as_known() {
        Some(api::IPProtocol::Tcp) => Protocol::Tcp,
        Some(api::IPProtocol::Udp) => Protocol::Udp,
        _ => return Err("a rule has a protocol that is neither tcp nor udp".to_owned()),
    };
    let ports = ports.iter().map(|p| u16::try_from(*p).map_err(|_| not(&p.to_string(), "port")));
    Ok(Rule {
        protocol,
        ports: ports.collect::<Result<_, _>>()?,
        from: prefixes(from)?,
        to: prefixes(to)?,
        comment: comment.to_owned(),
    })
}

fn prefixes(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts.iter().map(|text| text.parse().map_err(|_| not(text, "prefix"))).collect()
}

fn not(text: &str, kind: &str) -> String {
    format!("{text:?} is no {kind}")
}

/// Whether `new` is to be applied after `old`: the stream may repeat itself, and an older replica may be behind.
#[must_use]
pub fn follows(new: &Wish, old: &Wish) -> bool {
    new.allocation != old.allocation || new.generation >= old.generation
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A firewall between `10.0.0.0/22` and the world, with these egress rules to `to` at `port`.
    pub(crate) fn wish(generation: u64, rules: serde_json::Value) -> Wish {
        serde_json::from_value(json!({
            "allocation": "a", "generation": generation.to_string(), "project": "p", "rules": rules,
            "networks": [
                {"network": "private", "networkType": "NETWORK_TYPE_CHILD", "project": "p", "vrf": "1", "prefixes": ["10.0.0.0/22"], "ips": ["10.0.0.1"]},
                {"network": "internet", "networkType": "NETWORK_TYPE_EXTERNAL", "vrf": "2", "prefixes": ["203.0.113.0/24"], "ips": ["203.0.113.1"],
                    "destinationPrefixes": ["0.0.0.0/0"], "natType": "NAT_TYPE_IPV4_MASQUERADE"},
                {"network": "underlay", "networkType": "NETWORK_TYPE_UNDERLAY", "prefixes": ["10.253.0.0/24"], "ips": ["10.253.0.1"]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn networks_and_rules_become_a_table() {
        let rules = json!({"egress": [{"protocol": "IP_PROTOCOL_TCP", "ports": [443, 80], "to": ["0.0.0.0/0"], "comment": "web"}],
            "ingress": [{"protocol": "IP_PROTOCOL_UDP", "ports": [53], "from": ["198.51.100.0/24"], "to": []}]});
        let table = table(&wish(3, rules), &Management::default()).unwrap();
        let words: Vec<_> = table.rules.iter().map(|counter| counter.words.as_str()).collect();
        assert_eq!(
            words,
            ["egress tcp to 0.0.0.0/0 port 80,443", "ingress udp from 198.51.100.0/24 port 53"]
        );
        for part in [
            "iifname \"lan*\" udp dport 4789 accept",
            "ip saddr { 10.0.0.0/22 } snat ip to 203.0.113.1",
            "iifname { \"vrf2\", \"vlan2\", \"vni2\" } oifname { \"vrf1\", \"vlan1\", \"vni1\" } jump ingress_rules",
        ] {
            assert!(table.text.contains(part), "{part}: {}", table.text);
        }
    }

    #[test]
    fn what_is_not_understood_is_not_applied() {
        let refused = |rule: serde_json::Value| {
            table(&wish(1, json!({"egress": [rule]})), &Management::default()).unwrap_err()
        };
        assert!(refused(json!({"ports": [1]})).contains("protocol"));
        assert!(
            refused(json!({"protocol": "IP_PROTOCOL_TCP", "ports": [70000]})).contains("70000")
        );
        assert!(refused(json!({"protocol": "IP_PROTOCOL_TCP", "to": ["x"]})).contains("prefix"));
    }

    #[test]
    fn the_past_does_not_come_back() {
        let [one, two] = [1, 2].map(|generation| wish(generation, json!({})));
        assert!(follows(&two, &one) && follows(&two, &two) && !follows(&one, &two));
        let other = Wish { allocation: "b".into(), ..one };
        assert!(follows(&other, &two));
    }
}
