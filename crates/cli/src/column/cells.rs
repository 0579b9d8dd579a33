//! Cells that are made of a whole object.

use serde_json::Value;

use super::{bytes, number, plain};
use crate::{contract, path};

fn text<'a>(item: &'a Value, at: &str) -> &'a str {
    path::get(item, at).first().and_then(|value| value.as_str()).unwrap_or_default()
}

fn list<'a>(item: &'a Value, at: &str) -> &'a [Value] {
    item.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The newest event that was stored.
pub(crate) fn last_event(machine: &Value) -> String {
    list(machine, "/recentProvisioningEvents/events")
        .iter()
        .max_by_key(|event| text(event, "time"))
        .map_or(String::new(), |event| contract::short(text(event, "event")).to_owned())
}

/// What an operator should see at a glance.
pub(super) fn machine_marks(machine: &Value) -> String {
    let mut marks = String::new();
    match contract::short(text(machine, "status.condition.state")) {
        "tainted" => marks.push('🚧'),
        "locked" => marks.push('🔒'),
        _ => {}
    }
    match contract::short(text(machine, "status.liveliness")) {
        "dead" => marks.push('💀'),
        "unknown" => marks.push('❓'),
        _ => {}
    }
    match contract::short(text(machine, "recentProvisioningEvents.state")) {
        "crashloop" => marks.push('⭕'),
        "failed-reclaim" => marks.push('🚑'),
        _ => {}
    }
    if machine.pointer("/allocation/vpn/connected") == Some(&Value::Bool(true)) {
        marks.push('🛡');
    }
    marks
}

pub(super) fn machine_ips(machine: &Value) -> String {
    path::get(machine, "allocation.networks[*].ips")
        .iter()
        .map(|ips| plain(ips))
        .filter(|ips| !ips.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// Used and available addresses of both families.
pub(super) fn network_usage(network: &Value) -> String {
    let mut parts = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let Some(usage) = network.pointer(&format!("/consumption/{family}")) else { continue };
        let of = |name: &str| usage.get(name).and_then(number).unwrap_or_default();
        if of("availableIps") > 0 {
            parts.push(format!("{}/{}", of("usedIps"), of("availableIps")));
        }
    }
    parts.join(" ")
}

pub(super) fn ip_attached(ip: &Value) -> String {
    let Some(labels) = ip.pointer("/meta/labels/labels").and_then(Value::as_object) else {
        return String::new();
    };
    ["machine.metal-stack.io/id", "cluster.metal-stack.io/id/namespace/service"]
        .iter()
        .find_map(|key| labels.get(*key)?.as_str())
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn token_roles(token: &Value) -> String {
    let mut roles = Vec::new();
    for (kind, name) in
        [("projectRoles", "project"), ("tenantRoles", "tenant"), ("machineRoles", "machine")]
    {
        let count = token.get(kind).and_then(Value::as_object).map_or(0, |roles| roles.len());
        if count > 0 {
            roles.push(format!("{count} {name}"));
        }
    }
    if let Some(role) = token.get("infraRole") {
        roles.push(format!("infra {}", plain(role)));
    }
    roles.join(", ")
}

pub(super) fn range(size: &Value, kind: &str) -> String {
    list(size, "/constraints")
        .iter()
        .filter(|constraint| contract::short(text(constraint, "type")) == kind)
        .map(|constraint| {
            let of = |name: &str| constraint.get(name).and_then(number).unwrap_or_default();
            let shown = |n: u64| {
                if matches!(kind, "memory" | "storage") { bytes(n) } else { n.to_string() }
            };
            let (min, max) = (of("min"), of("max"));
            let range =
                if min == max { shown(min) } else { format!("{} - {}", shown(min), shown(max)) };
            match text(constraint, "identifier") {
                "" => range,
                identifier => format!("{range} {identifier}"),
            }
        })
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn image_constraints(constraint: &Value) -> String {
    list(constraint, "/imageConstraints")
        .iter()
        .map(|c| format!("{} {}", text(c, "image"), text(c, "semverMatch")))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn reservations(capacity: &Value) -> String {
    let of = |name: &str| capacity.get(name).and_then(number).unwrap_or_default();
    match of("reservations") {
        0 => String::new(),
        all => format!("{} ({} used)", all, of("usedReservations")),
    }
}

pub(super) fn switch_os(switch: &Value) -> String {
    format!("{} {}", contract::short(text(switch, "os.vendor")), text(switch, "os.version"))
        .trim()
        .to_owned()
}

pub(super) fn ports_up(switch: &Value) -> String {
    let nics = list(switch, "/nics");
    let up = nics.iter().filter(|nic| contract::short(text(nic, "state.actual")) == "up").count();
    format!("{up}/{}", nics.len())
}
