//! What the control plane is told: pure functions from what was observed to messages.

use std::collections::BTreeMap;
use std::time::Duration;

use buffa_types::google::protobuf::{Duration as WireDuration, Timestamp};
use proto::{api, infra};

use crate::backend::Port;
use crate::config::{Config, Vendor};
use crate::frr::neighbours::Session;

/// Errors are for people; the end of a very long one helps nobody.
const ERROR_MAX: usize = 2000;

/// How the last pass went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Generation of the desired state that it was about.
    pub generation: u64,
    /// How long it took.
    pub took: Duration,
    /// What went wrong; empty when nothing did.
    pub errors: Vec<String>,
    /// Whether everybody who has to leave a network has left it, looked at afterwards. Errors of others do not count.
    pub closed: bool,
    /// Ports afterwards.
    pub ports: BTreeMap<String, Port>,
}

/// The switch for its registration.
pub fn switch(config: &Config, ports: &BTreeMap<String, Port>, kernel: &str) -> api::Switch {
    let vendor = match config.vendor {
        Vendor::Cumulus => api::SwitchOSVendor::SWITCH_OS_VENDOR_CUMULUS,
        Vendor::Sonic => api::SwitchOSVendor::SWITCH_OS_VENDOR_SONIC,
    };
    let nic = |(name, port): (&String, &Port)| api::SwitchNic {
        name: name.clone(),
        identifier: name.clone(),
        mac: Some(mac(port.mac)),
        state: api::NicState { actual: status(Some(port)).into(), ..Default::default() }.into(),
        ..Default::default()
    };
    api::Switch {
        id: config.id.clone(),
        rack: config.rack.clone(),
        room: config.room.clone(),
        partition: config.partition.clone(),
        replace_mode: api::SwitchReplaceMode::SWITCH_REPLACE_MODE_OPERATIONAL.into(),
        management_ip: config.management_ip.unwrap_or(config.loopback.into()).to_string(),
        nics: ports.iter().map(nic).collect(),
        os: api::SwitchOS {
            vendor: vendor.into(),
            version: format!("Linux {kernel}"),
            metal_core_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    }
}

/// The heartbeat. `known` are the ports that the control plane knows: the state of all of them must be named.
///
/// Sessions of the `uplinks` are named, too: without any session in the message nothing would be said about sessions,
/// and the control plane would go on showing the last one of a machine that is gone.
pub fn heartbeat<'a>(
    id: &str,
    report: &Report,
    known: impl Iterator<Item = &'a String>,
    uplinks: &[String],
    sessions: &BTreeMap<String, Session>,
) -> infra::SwitchServiceHeartbeatRequest {
    let mut request = infra::SwitchServiceHeartbeatRequest {
        id: id.to_owned(),
        duration: WireDuration {
            seconds: i64::try_from(report.took.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(report.took.subsec_nanos()).unwrap_or_default(),
            ..Default::default()
        }
        .into(),
        error: error(&report.errors),
        ..Default::default()
    };
    for name in known {
        request.port_states.insert(name.clone(), status(report.ports.get(name)).into());
    }
    for (name, session) in sessions {
        if request.port_states.contains_key(name) || uplinks.contains(name) {
            request.bgp_port_states.insert(name.clone(), session_state(session));
        }
    }
    request
}

/// What somebody changed by hand, and what was done about it.
pub(crate) fn healed(done: &str) -> String {
    format!("somebody changed the switch; taken back by: {done}")
}

/// What is over, as an error. What is wrong still is said first.
pub(crate) fn over(over: &[String], errors: &[String]) -> Option<String> {
    error(&errors.iter().chain(over).cloned().collect::<Vec<_>>())
}

fn error(errors: &[String]) -> Option<String> {
    let mut text = errors.join("; ");
    text.truncate(text.floor_char_boundary(ERROR_MAX));
    (!text.is_empty()).then_some(text)
}

/// A port that is gone is unknown, one that is shut down is down.
fn status(port: Option<&Port>) -> api::SwitchPortStatus {
    match port {
        None => api::SwitchPortStatus::SWITCH_PORT_STATUS_UNKNOWN,
        Some(port) if port.up && port.link => api::SwitchPortStatus::SWITCH_PORT_STATUS_UP,
        Some(_) => api::SwitchPortStatus::SWITCH_PORT_STATUS_DOWN,
    }
}

/// Names shorter than two characters are refused by the contract, and one refused session would cost the whole
/// heartbeat.
fn session_state(session: &Session) -> api::SwitchBGPPortState {
    let named = |name: &str| {
        if (2..=128).contains(&name.len()) { name.to_owned() } else { "unknown".to_owned() }
    };
    let established =
        session.established.map(|seconds| Timestamp { seconds, ..Default::default() });
    api::SwitchBGPPortState {
        neighbor: session.neighbour.clone().filter(|name| (2..=128).contains(&name.len())),
        peer_group: named(session.peer_group.as_deref().unwrap_or_default()),
        vrf_name: named(&session.vrf),
        bgp_state: match session.state.as_str() {
            "Idle" => api::BGPState::BGP_STATE_IDLE,
            "Connect" => api::BGPState::BGP_STATE_CONNECT,
            "Active" => api::BGPState::BGP_STATE_ACTIVE,
            "OpenSent" => api::BGPState::BGP_STATE_OPEN_SENT,
            "OpenConfirm" => api::BGPState::BGP_STATE_OPEN_CONFIRM,
            "Established" => api::BGPState::BGP_STATE_ESTABLISHED,
            _ => api::BGPState::BGP_STATE_UNSPECIFIED,
        }
        .into(),
        bgp_timer_up_established: established.into(),
        sent_prefix_counter: session.sent,
        accepted_prefix_counter: session.accepted,
        ..Default::default()
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Place;

    fn port(up: bool, link: bool) -> Port {
        Port { mac: [2, 0, 0, 0, 0, 1], up, link, place: Place::Boot }
    }

    #[test]
    fn every_known_port_is_named_and_no_other() {
        let report = Report {
            generation: 7,
            took: Duration::from_millis(1500),
            errors: vec!["swp2: refused".into(), "swp3: refused".into()],
            closed: true,
            ports: [
                ("swp1".into(), port(true, true)),
                ("swp2".into(), port(true, false)),
                ("new1".into(), port(true, true)),
            ]
            .into(),
        };
        let session = |state: &str, neighbour: Option<&str>| Session {
            state: state.into(),
            neighbour: neighbour.map(Into::into),
            vrf: "default".into(),
            peer_group: Some("MACHINE".into()),
            established: (state == "Established").then_some(5),
            sent: 1,
            accepted: 2,
        };
        let sessions = [
            ("swp1".into(), session("Established", Some("m"))),
            ("swp2".into(), session("Clearing", Some("m2"))),
            ("up0".into(), session("Idle", None)),
            ("10.9.9.9".into(), session("Idle", None)),
        ];
        let known = ["swp1", "swp2", "swp9"].map(String::from);
        let request = heartbeat("leaf01", &report, known.iter(), &["up0".into()], &sessions.into());
        assert_eq!(request.error.as_deref(), Some("swp2: refused; swp3: refused"));
        let states: BTreeMap<_, _> = request
            .port_states
            .iter()
            .map(|(name, state)| (name.as_str(), state.to_i32()))
            .collect();
        assert_eq!(states, [("swp1", 1), ("swp2", 2), ("swp9", 3)].into());
        let mut named: Vec<_> = request.bgp_port_states.keys().map(String::as_str).collect();
        named.sort_unstable();
        assert_eq!(named, ["swp1", "swp2", "up0"]);
        // A name of one character is not sent: the contract would refuse everything.
        assert_eq!(request.bgp_port_states["swp1"].neighbor, None);
        assert_eq!(request.bgp_port_states["swp2"].neighbor.as_deref(), Some("m2"));
        assert!(request.bgp_port_states["swp2"].bgp_timer_up_established.is_unset());
        assert_eq!(request.duration.nanos, 500_000_000);
        protovalidate_buffa::Validate::validate(&request).unwrap();
    }

    #[test]
    fn what_was_changed_by_hand_comes_after_what_is_still_wrong() {
        let said = over(&[healed("make vrf7")], &["swp2: refused".into()]).unwrap();
        assert_eq!(said, "swp2: refused; somebody changed the switch; taken back by: make vrf7");
        assert_eq!(over(&[], &[]), None);
    }

    #[test]
    fn success_says_nothing() {
        assert_eq!(error(&[]), None);
        assert_eq!(error(&["ä".repeat(5000)]).unwrap().len(), 2000);
    }

    #[test]
    fn the_registration_names_every_port() {
        let config: Config = toml::from_str(crate::config::tests::EXAMPLE).unwrap();
        let ports = [("swp1".into(), port(true, true)), ("swp2".into(), port(false, false))].into();
        let switch = switch(&config, &ports, "6.18");
        assert_eq!(switch.management_ip, "10.0.0.11");
        assert_eq!(switch.os.version, "Linux 6.18");
        let names: Vec<_> =
            switch.nics.iter().map(|nic| (&nic.name[..], &nic.identifier[..])).collect();
        assert_eq!(names, [("swp1", "swp1"), ("swp2", "swp2")]);
        assert!(switch.nics.iter().all(|nic| nic.vrf.is_none()));
        protovalidate_buffa::Validate::validate(&switch).unwrap();
    }
}
