//! What tables show of each thing.

use super::cells::{
    image_constraints, ip_attached, last_event, machine_ips, machine_marks, network_usage,
    ports_up, range, reservations, switch_os, token_roles,
};
use super::{Column, Form};

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
