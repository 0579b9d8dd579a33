//! BGP sessions as FRR prints them. Read one by one: a session that cannot be read is left out, the others stay.

use std::collections::BTreeMap;

use serde_json::Value;

/// The command whose answer is read here.
pub const COMMAND: &str = "show bgp vrf all neighbors json";

/// One BGP session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Host name that the neighbour told.
    pub neighbour: Option<String>,
    /// Peer group in our configuration.
    pub peer_group: Option<String>,
    /// VRF in which it runs.
    pub vrf: String,
    /// In the words of RFC 4271, or of FRR for what that does not have.
    pub state: String,
    /// Unix time in seconds at which it came up, if it is up.
    pub established: Option<i64>,
    /// Prefixes announced, over all address families.
    pub sent: u64,
    /// Prefixes taken, over all address families.
    pub accepted: u64,
}

impl Session {
    /// Whether routes are exchanged.
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// Sessions by interface or address of the neighbour.
///
/// # Errors
/// When the text is no JSON object at all.
pub fn parse(text: &str) -> serde_json::Result<BTreeMap<String, Session>> {
    let vrfs: BTreeMap<String, Value> = serde_json::from_str(text)?;
    let mut sessions = BTreeMap::new();
    for (vrf, content) in &vrfs {
        let vrf = content["vrfName"].as_str().unwrap_or(vrf);
        for (name, value) in content.as_object().into_iter().flatten() {
            if let Some(session) = session(vrf, value) {
                sessions.insert(name.clone(), session);
            }
        }
    }
    Ok(sessions)
}

fn session(vrf: &str, value: &Value) -> Option<Session> {
    let state = value.get("bgpState")?.as_str()?.to_owned();
    let text = |key: &str| {
        let text = value.get(key)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let families = value.get("addressFamilyInfo").and_then(Value::as_object);
    let count = |key: &str| {
        let families = families.into_iter().flatten();
        families.filter_map(|(_, family)| family.get(key)?.as_u64()).sum()
    };
    Some(Session {
        neighbour: text("hostname"),
        peer_group: text("peerGroup"),
        vrf: vrf.to_owned(),
        established: value
            .get("bgpTimerUpEstablishedEpoch")
            .and_then(Value::as_i64)
            .filter(|_| state == "Established"),
        state,
        sent: count("sentPrefixCounter"),
        accepted: count("acceptedPrefixCounter"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_version_8_4_prints_them() {
        let text = r#"{"default":{"vrfId":0,"vrfName":"default",
            "up0":{"hostname":"exit","peerGroup":"FABRIC","bgpState":"Established","bgpTimerUpEstablishedEpoch":1795248581,
                "addressFamilyInfo":{"ipv4Unicast":{"sentPrefixCounter":2,"acceptedPrefixCounter":1},"ipv6Unicast":{"acceptedPrefixCounter":1}}},
            "swp1":{"hostname":"","bgpState":"Clearing","bgpTimerUpEstablishedEpoch":0},
            "swp2":{"bgpState":7}},
            "vrf7":{"vrfId":-1,"vrfName":"vrf7"}}"#;
        let sessions = parse(text).unwrap();
        assert_eq!(sessions.len(), 2);
        assert_eq!(
            sessions["up0"],
            Session {
                neighbour: Some("exit".into()),
                peer_group: Some("FABRIC".into()),
                vrf: "default".into(),
                state: "Established".into(),
                established: Some(1_795_248_581),
                sent: 2,
                accepted: 2,
            }
        );
        assert_eq!(sessions["swp1"].neighbour, None);
        assert_eq!(sessions["swp1"].established, None);
    }

    proptest! {
        #[test]
        fn anything_is_survived(text in "[\\[\\]{}\":,a-z0-9]{0,80}") {
            let _ = parse(&text);
        }
    }
}
