//! What tables show of each thing, and how a value reads in a cell.

use jiff::Timestamp;
use serde_json::Value;

use crate::contract;
use crate::path;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Only shown by `-o wide`.
    pub(crate) wide: bool,
    /// Where the value stands, by the names of the JSON.
    pub(crate) path: &'static str,
    /// How it reads.
    pub(crate) form: Form,
}

/// How a value reads in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As it is; enum values by their short name, lists with commas.
    Plain,
    /// Time since, `3d 4h`.
    Age,
    /// Time until, `3d 4h`; `expired` when it is over.
    Until,
    /// Number of entries.
    Count,
    /// A number, 0 where there is none; the last line of a table has the sum.
    Sum,
    /// The beginning, where a cell may be as long as a page.
    Short,
    /// Made of the whole object.
    Whole(fn(&Value) -> String),
}

/// Letters of a shortened cell.
const SHORT: usize = 100;

const fn col(title: &'static str, path: &'static str) -> Column {
    Column { title, wide: false, path, form: Form::Plain }
}

const fn wide(title: &'static str, path: &'static str) -> Column {
    Column { title, wide: true, path, form: Form::Plain }
}

const fn form(column: Column, form: Form) -> Column {
    Column { form, ..column }
}

pub(crate) const NONE: &[Column] = &[];

pub(crate) const MACHINE: &[Column] = &[
    col("ID", "uuid"),
    form(col("", ""), Form::Whole(machine_marks)),
    form(col("LAST EVENT", ""), Form::Whole(last_event)),
    form(col("WHEN", "recentProvisioningEvents.lastEventTime"), Form::Age),
    form(col("AGE", "allocation.meta.createdAt"), Form::Age),
    col("HOSTNAME", "allocation.hostname"),
    wide("NAME", "allocation.name"),
    wide("DESCRIPTION", "allocation.description"),
    col("PROJECT", "allocation.project"),
    form(wide("IPS", ""), Form::Whole(machine_ips)),
    col("SIZE", "size.id"),
    col("IMAGE", "allocation.image.id"),
    col("PARTITION", "partition.id"),
    col("RACK", "rack"),
    wide("TYPE", "allocation.allocationType"),
    wide("STATE", "status.condition.state"),
    wide("LIVELINESS", "status.liveliness"),
    wide("LABELS", "allocation.meta.labels.labels"),
];

pub(crate) const NETWORK: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("TYPE", "type"),
    col("PROJECT", "project"),
    col("PARTITION", "partition"),
    col("NAT", "natType"),
    col("PREFIXES", "prefixes"),
    form(col("IPS", ""), Form::Whole(network_usage)),
    wide("VRF", "vrf"),
    wide("PARENT", "parentNetwork"),
    wide("DESTINATIONS", "destinationPrefixes"),
    wide("DESCRIPTION", "description"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const IP: &[Column] = &[
    col("IP", "ip"),
    col("PROJECT", "project"),
    col("ID", "uuid"),
    col("NETWORK", "network"),
    col("TYPE", "type"),
    col("NAME", "name"),
    form(col("ATTACHED TO", ""), Form::Whole(ip_attached)),
    wide("DESCRIPTION", "description"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const PROJECT: &[Column] = &[
    col("ID", "uuid"),
    col("TENANT", "tenant"),
    col("NAME", "name"),
    col("DESCRIPTION", "description"),
    form(col("AGE", "meta.createdAt"), Form::Age),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const TENANT: &[Column] = &[
    col("ID", "login"),
    col("NAME", "name"),
    col("EMAIL", "email"),
    form(col("AGE", "meta.createdAt"), Form::Age),
    wide("DESCRIPTION", "description"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const TOKEN: &[Column] = &[
    col("TYPE", "tokenType"),
    col("ID", "uuid"),
    col("ADMIN", "adminRole"),
    wide("INFRA", "infraRole"),
    col("USER", "user"),
    col("DESCRIPTION", "description"),
    form(col("ROLES", ""), Form::Whole(token_roles)),
    form(col("PERMS", "permissions"), Form::Count),
    form(col("EXPIRES IN", "expires"), Form::Until),
];

pub(crate) const IMAGE: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("DESCRIPTION", "description"),
    col("FEATURES", "features"),
    form(col("EXPIRES IN", "expiresAt"), Form::Until),
    col("STATUS", "classification"),
    wide("URL", "url"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const IMAGE_USAGE: &[Column] = &[
    col("ID", "image.id"),
    col("STATUS", "image.classification"),
    form(col("EXPIRES IN", "image.expiresAt"), Form::Until),
    form(col("MACHINES", "usedBy"), Form::Count),
    wide("USED BY", "usedBy"),
];

pub(crate) const SIZE: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("DESCRIPTION", "description"),
    form(col("CPU", ""), Form::Whole(|size| range(size, "cores"))),
    form(col("MEMORY", ""), Form::Whole(|size| range(size, "memory"))),
    form(col("STORAGE", ""), Form::Whole(|size| range(size, "storage"))),
    form(col("GPU", ""), Form::Whole(|size| range(size, "gpu"))),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const SIZE_RESERVATION: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("PROJECT", "project"),
    col("SIZE", "size"),
    col("PARTITIONS", "partitions"),
    col("AMOUNT", "amount"),
    wide("DESCRIPTION", "description"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const SIZE_IMAGE_CONSTRAINT: &[Column] = &[
    col("SIZE", "size"),
    col("NAME", "name"),
    col("DESCRIPTION", "description"),
    form(col("IMAGES", ""), Form::Whole(image_constraints)),
];

pub(crate) const FILESYSTEM: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("DESCRIPTION", "description"),
    col("FILESYSTEMS", "filesystems[*].path"),
    col("SIZES", "constraints.sizes"),
    col("IMAGES", "constraints.images"),
    wide("DISKS", "disks[*].device"),
];

pub(crate) const PARTITION: &[Column] = &[
    col("ID", "id"),
    col("DESCRIPTION", "description"),
    wide("IMAGE URL", "bootConfiguration.imageUrl"),
    wide("KERNEL URL", "bootConfiguration.kernelUrl"),
    wide("DNS", "dnsServers[*].ip"),
    wide("NTP", "ntpServers[*].address"),
    wide("LABELS", "meta.labels.labels"),
];

pub(crate) const CAPACITY: &[Column] = &[
    col("PARTITION", "partition"),
    col("SIZE", "size"),
    form(col("ALLOCATED", "allocated"), Form::Sum),
    form(col("FREE", "free"), Form::Sum),
    form(col("UNAVAILABLE", "unavailable"), Form::Sum),
    form(col("RESERVATIONS", ""), Form::Whole(reservations)),
    form(col("TOTAL", "total"), Form::Sum),
    form(col("FAULTY", "faulty"), Form::Sum),
    form(wide("PHONED HOME", "phonedHome"), Form::Sum),
    form(wide("WAITING", "waiting"), Form::Sum),
    form(wide("OTHER", "other"), Form::Sum),
];

pub(crate) const SWITCH: &[Column] = &[
    col("ID", "id"),
    col("PARTITION", "partition"),
    col("RACK", "rack"),
    form(col("OS", ""), Form::Whole(switch_os)),
    col("AGENT", "os.metalCoreVersion"),
    form(col("PORTS UP", ""), Form::Whole(ports_up)),
    form(col("MACHINES", "machineConnections"), Form::Count),
    form(col("LAST SYNC", "lastSync.time"), Form::Age),
    wide("IP", "managementIp"),
    wide("MODE", "replaceMode"),
    wide("SYNC TOOK", "lastSync.duration"),
    wide("LAST ERROR", "lastSyncError.error"),
];

pub(crate) const CONNECTED: &[Column] = &[
    col("SWITCH", "switch"),
    col("PORT", "nic.name"),
    col("IDENTIFIER", "nic.identifier"),
    col("MACHINE", "machine.uuid"),
    col("PARTITION", "machine.partition.id"),
    col("RACK", "machine.rack"),
    col("SIZE", "machine.size.id"),
    col("PRODUCT SERIAL", "fru.productSerial"),
    wide("CHASSIS SERIAL", "fru.chassisPartSerial"),
];

pub(crate) const PORT: &[Column] = &[
    col("SWITCH", "switch"),
    col("PORT", "name"),
    col("DESIRED", "state.desired"),
    col("ACTUAL", "state.actual"),
    col("VRF", "vrf"),
    col("MACHINE", "machine"),
    col("BGP", "bgpPortState.bgpState"),
    wide("VNI FILTER", "bgpFilter.vnis"),
    wide("CIDR FILTER", "bgpFilter.cidrs"),
];

pub(crate) const BMC: &[Column] = &[
    col("ID", "uuid"),
    col("POWER", "bmcReport.bmc.powerState"),
    col("IP", "bmcReport.bmc.address"),
    col("MAC", "bmcReport.bmc.mac"),
    col("BOARD", "bmcReport.fru.boardPartNumber"),
    col("BIOS", "bmcReport.bios.version"),
    col("BMC", "bmcReport.bmc.version"),
    col("SIZE", "size"),
    col("PARTITION", "partition"),
    col("RACK", "rack"),
    form(col("REPORTED", "bmcReport.updatedAt"), Form::Age),
    wide("LED", "bmcReport.ledState.value"),
    wide("PRODUCT SERIAL", "bmcReport.fru.productSerial"),
    wide("CHASSIS SERIAL", "bmcReport.fru.chassisPartSerial"),
];

pub(crate) const ISSUE: &[Column] = &[
    col("MACHINE", "machine"),
    col("SEVERITY", "severity"),
    col("ISSUE", "type"),
    col("DESCRIPTION", "description"),
    col("DETAILS", "details"),
    wide("REFERENCE", "referenceUrl"),
];

pub(crate) const AUDIT: &[Column] = &[
    form(col("WHEN", "timestamp"), Form::Age),
    col("REQUEST", "uuid"),
    col("USER", "user"),
    col("PROJECT", "project"),
    col("METHOD", "method"),
    col("PHASE", "phase"),
    col("CODE", "resultCode"),
    wide("SOURCE IP", "sourceIp"),
    form(wide("BODY", "body"), Form::Short),
];

pub(crate) const COMPONENT: &[Column] = &[
    col("ID", "uuid"),
    col("TYPE", "type"),
    col("IDENTIFIER", "identifier"),
    form(col("STARTED", "startedAt"), Form::Age),
    form(col("REPORTED", "reportedAt"), Form::Age),
    col("VERSION", "version.version"),
    wide("TOKEN", "token.uuid"),
    form(col("TOKEN EXPIRES IN", "token.expires"), Form::Until),
];

pub(crate) const TASK: &[Column] = &[
    col("ID", "id"),
    col("QUEUE", "queue"),
    form(col("NEXT", "nextProcessAt"), Form::Until),
    col("TYPE", "type"),
    col("STATE", "state"),
    col("RETRIED", "retried"),
    col("LAST ERROR", "lastError"),
];

pub(crate) const VPN: &[Column] = &[
    col("ID", "id"),
    col("NAME", "name"),
    col("PROJECT", "project"),
    col("IPS", "ipAddresses"),
    col("ONLINE", "online"),
    form(col("LAST SEEN", "lastSeen"), Form::Age),
];

pub(crate) const USER: &[Column] = &[
    col("LOGIN", "login"),
    col("NAME", "name"),
    col("EMAIL", "email"),
    wide("TENANTS", "tenants[*].login"),
    wide("PROJECTS", "projects[*].name"),
];

pub(crate) const HEALTH: &[Column] =
    &[col("STATUS", "status"), col("NAME", "name"), col("MESSAGE", "message")];

pub(crate) const MEMBER: &[Column] = &[
    col("ID", "id"),
    col("ROLE", "role"),
    col("INHERITED", "inheritedMembership"),
    form(col("SINCE", "createdAt"), Form::Age),
    wide("PROJECTS", "projects"),
];

pub(crate) const INVITE: &[Column] = &[
    col("SECRET", "secret"),
    col("TENANT", "tenant"),
    col("PROJECT", "project"),
    col("ROLE", "role"),
    form(col("EXPIRES IN", "expiresAt"), Form::Until),
];

pub(crate) const FIREWALL: &[Column] = &[
    col("ID", "uuid"),
    col("NAME", "name"),
    col("PROJECT", "project"),
    col("GENERATION", "generation"),
    col("EGRESS", "rules.egress"),
    col("INGRESS", "rules.ingress"),
];

pub(crate) const PHASE: &[Column] = &[
    col("PHASE", "name"),
    col("STARTED", "startedAt"),
    col("DURATION", "duration"),
    col("MESSAGE", "message"),
];

pub(crate) const EVENT: &[Column] = &[
    col("TIME", "time"),
    form(col("WHEN", "time"), Form::Age),
    col("AFTER", "after"),
    col("EVENT", "event"),
    col("MESSAGE", "message"),
];

/// The columns for things of this message.
pub(crate) fn of_message(message: &str) -> &'static [Column] {
    match message.rsplit('.').next().unwrap_or_default() {
        "ProjectMember" | "TenantMember" => MEMBER,
        "ProjectInvite" | "TenantInvite" => INVITE,
        "MachineBMCDetails" => BMC,
        "ImageUsage" => IMAGE_USAGE,
        "HealthStatus" => HEALTH,
        "Phase" => PHASE,
        _ => crate::noun::NOUNS
            .iter()
            .find(|noun| noun.message == message)
            .map_or(NONE, |noun| noun.columns),
    }
}

impl Column {
    /// The text of the cell; pure, so `now` is given.
    pub(crate) fn cell(&self, item: &Value, now: Timestamp) -> String {
        if let Form::Whole(made) = self.form {
            return made(item);
        }
        let values = path::get(item, self.path);
        match self.form {
            Form::Count => {
                values.first().map_or(0, |value| value.as_array().map_or(0, Vec::len)).to_string()
            }
            Form::Sum => values.first().map_or("0".to_owned(), |value| plain(value)),
            Form::Short => {
                let text = values.first().map_or(String::new(), |value| plain(value));
                match text.char_indices().nth(SHORT) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text,
                }
            }
            Form::Age => time(&values).map_or(String::new(), |then| span(seconds(then, now))),
            Form::Until => time(&values).map_or(String::new(), |then| match seconds(now, then) {
                left if left <= 0 => "expired".to_owned(),
                left => span(left),
            }),
            Form::Plain | Form::Whole(_) => match values.as_slice() {
                [value] => plain(value),
                values => values.iter().map(|value| plain(value)).collect::<Vec<_>>().join(","),
            },
        }
    }
}

/// A value in one line for people.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match contract::short(text) {
            text if text.contains(['\n', '\r']) => text.replace(['\n', '\r'], " "),
            text => text.to_owned(),
        },
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match plain(value) {
                value if value.is_empty() => key.clone(),
                value => format!("{key}={value}"),
            })
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    }
}

/// A number, also one that JSON writes as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn time(values: &[&Value]) -> Option<Timestamp> {
    values.first()?.as_str()?.parse().ok()
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

/// The two largest units of a time, `3d 4h`.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(31_536_000, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(length, _)| seconds >= *length) else {
        return "0s".to_owned();
    };
    let (length, unit) = units[first];
    let mut text = format!("{}{unit}", seconds / length);
    if let Some((next, unit)) = units.get(first + 1)
        && seconds % length / next > 0
    {
        text.push_str(&format!(" {}{unit}", seconds % length / next));
    }
    text
}

/// Bytes with the largest unit that leaves a short number.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, bits) in units {
        let whole = bytes >> bits;
        if whole >= 1 {
            let tenths = (bytes >> (bits - 10)) % 1024 * 10 / 1024;
            return if tenths == 0 || whole >= 100 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenths} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

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
fn machine_marks(machine: &Value) -> String {
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

fn machine_ips(machine: &Value) -> String {
    path::get(machine, "allocation.networks[*].ips")
        .iter()
        .map(|ips| plain(ips))
        .filter(|ips| !ips.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// Used and available addresses of both families.
fn network_usage(network: &Value) -> String {
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

fn ip_attached(ip: &Value) -> String {
    let Some(labels) = ip.pointer("/meta/labels/labels").and_then(Value::as_object) else {
        return String::new();
    };
    ["machine.metal-stack.io/id", "cluster.metal-stack.io/id/namespace/service"]
        .iter()
        .find_map(|key| labels.get(*key)?.as_str())
        .unwrap_or_default()
        .to_owned()
}

fn token_roles(token: &Value) -> String {
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

fn range(size: &Value, kind: &str) -> String {
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

fn image_constraints(constraint: &Value) -> String {
    list(constraint, "/imageConstraints")
        .iter()
        .map(|c| format!("{} {}", text(c, "image"), text(c, "semverMatch")))
        .collect::<Vec<_>>()
        .join(", ")
}

fn reservations(capacity: &Value) -> String {
    let of = |name: &str| capacity.get(name).and_then(number).unwrap_or_default();
    match of("reservations") {
        0 => String::new(),
        all => format!("{} ({} used)", all, of("usedReservations")),
    }
}

fn switch_os(switch: &Value) -> String {
    format!("{} {}", contract::short(text(switch, "os.vendor")), text(switch, "os.version"))
        .trim()
        .to_owned()
}

fn ports_up(switch: &Value) -> String {
    let nics = list(switch, "/nics");
    let up = nics.iter().filter(|nic| contract::short(text(nic, "state.actual")) == "up").count();
    format!("{up}/{}", nics.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_and_sizes() {
        let spans = [0, 59, 60, 3_661, 93_600, 40_000_000].map(span);
        assert_eq!(spans, ["0s", "59s", "1m", "1h 1m", "1d 2h", "1y 97d"]);
        let sizes = [0, 1_023, 1 << 30, 3 << 29, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1 GiB", "1.5 GiB", "5 TiB"]);
    }

    #[test]
    fn cells() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let machine = json!({
            "status": {"liveliness": "MACHINE_LIVELINESS_DEAD", "condition": {"state": "MACHINE_STATE_LOCKED"}},
            "recentProvisioningEvents": {
                "lastEventTime": "2026-01-01T22:00:00Z",
                "events": [
                    {"time": "2026-01-01T22:00:00Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME"},
                    {"time": "2026-01-01T21:00:00Z", "event": "MACHINE_PROVISIONING_EVENT_TYPE_WAITING"},
                ],
            },
            "allocation": {"networks": [{"ips": ["10.0.0.1"]}, {"ips": ["1.2.3.4", "::1"]}]},
        });
        let cells: Vec<String> = MACHINE.iter().map(|column| column.cell(&machine, now)).collect();
        assert_eq!(cells[1..4], ["🔒💀", "Phoned Home", "2h"]);
        assert_eq!(cells[9], "10.0.0.1,1.2.3.4,::1");
    }

    #[test]
    fn every_path_leads_somewhere() {
        for noun in crate::noun::NOUNS {
            let Some(message) = contract::Message::find(noun.message) else { continue };
            for column in noun.columns.iter().filter(|column| !column.path.is_empty()) {
                let mut at = Some(message);
                for step in column.path.split('.') {
                    let name = step.trim_end_matches("[*]");
                    let field = at.and_then(|message| message.field(name));
                    let field = field.unwrap_or_else(|| panic!("{}: {}", noun.name, column.path));
                    at = field.message();
                }
            }
        }
    }
}
