//! What is wrong with machines, judged anew at each call.

use std::collections::{HashMap, HashSet};

use proto::admin;
use proto::api::{self, MachineIssueSeverity as Severity, MachineIssueType as Type};
use store::event::Events;

use super::query;
use crate::rpc::{Call, Error, bmc};
use crate::wire;

/// A BMC agent that was silent for so long is gone.
const BMC_SILENT_US: i64 = 20 * 60 * 1_000_000;
/// An error is news for so long when nothing is asked for.
const ERROR_THRESHOLD_US: i64 = 7 * 24 * 3600 * 1_000_000;
/// Where an issue is explained.
const REFERENCE: &str = "https://metal-stack.io/docs/troubleshooting/#";

/// Everything that judging one machine needs; all of it is about the whole fleet, not only about what was asked for.
struct Fleet {
    events: HashMap<String, Events>,
    reports: HashMap<String, (api::MachineBMCReport, i64)>,
    addresses: HashMap<String, Vec<String>>,
    firewalls: HashMap<u32, Vec<String>>,
    now_us: i64,
    threshold_us: i64,
}

struct Found {
    kind: Type,
    severity: Severity,
    name: &'static str,
    description: &'static str,
    details: String,
}

pub(crate) async fn issues(
    call: &Call,
    request: admin::MachineServiceIssuesRequest,
) -> Result<admin::MachineServiceIssuesResponse, Error> {
    let asked = request.query.into_option().unwrap_or_default();
    let mut tx = call.read().await?;
    let default = api::MachineQuery::default();
    let machines =
        query::run(&mut tx, asked.machine_query.as_option().unwrap_or(&default), None).await?;
    let fleet = fleet(&mut tx, call, &asked).await?;
    let least = asked.severity.as_ref().map_or(1, |severity| severity.to_i32().max(1));
    let only: HashSet<i32> = asked.only.iter().map(|kind| kind.to_i32()).collect();
    let omit: HashSet<i32> = asked.omit.iter().map(|kind| kind.to_i32()).collect();
    let mut answer = admin::MachineServiceIssuesResponse::default();
    for machine in machines {
        let issues: Vec<_> = judge(&machine, &fleet)
            .into_iter()
            .filter(|found| {
                let kind = found.kind as i32;
                found.severity as i32 >= least
                    && (only.is_empty() || only.contains(&kind))
                    && !omit.contains(&kind)
            })
            .map(|found| api::MachineIssue {
                r#type: found.kind.into(),
                severity: found.severity.into(),
                description: found.description.to_owned(),
                reference_url: format!("{REFERENCE}{}", found.name),
                details: found.details,
                ..Default::default()
            })
            .collect();
        if !issues.is_empty() {
            answer.issues.push(api::MachineIssues {
                uuid: machine.uuid,
                issues,
                ..Default::default()
            });
        }
    }
    Ok(answer)
}

async fn fleet(
    tx: &mut store::Tx,
    call: &Call,
    asked: &api::MachineIssuesQuery,
) -> Result<Fleet, Error> {
    let events = store::event::all(tx).await?.into_iter().map(|e| (e.machine.clone(), e)).collect();
    let mut reports = HashMap::new();
    let mut addresses = HashMap::<String, Vec<String>>::new();
    for row in store::machine::bmcs(tx, None).await? {
        if !row.address.is_empty() {
            addresses.entry(row.address.clone()).or_default().push(row.machine.clone());
        }
        reports.insert(row.machine.clone(), (bmc::decode(&row)?, row.updated_at_us));
    }
    let mut firewalls = HashMap::<u32, Vec<String>>::new();
    for row in store::machine::TABLE.select().is_null("project", false).all(tx).await? {
        let machine: api::Machine = wire::decode(&row)?;
        let Some(allocation) = machine.allocation.as_option() else { continue };
        if allocation.allocation_type == api::MachineAllocationType::Firewall
            && let Some(asn) = allocation.networks.first().map(|network| network.asn)
        {
            firewalls.entry(asn).or_default().push(row.id);
        }
    }
    let threshold_us =
        asked.last_error_threshold.as_option().map_or(ERROR_THRESHOLD_US, wire::duration_us);
    Ok(Fleet { events, reports, addresses, firewalls, now_us: call.now_us(), threshold_us })
}

fn ago(us: i64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn others(all: &[String], this: &str) -> String {
    all.iter().filter(|id| *id != this).cloned().collect::<Vec<_>>().join(", ")
}

#[expect(clippy::too_many_lines, reason = "a list of conditions, one after the other")]
fn judge(machine: &api::Machine, fleet: &Fleet) -> Vec<Found> {
    let mut found = Vec::new();
    let mut add = |kind, severity, name, description, details: String| {
        found.push(Found { kind, severity, name, description, details });
    };
    let Some(events) = fleet.events.get(&machine.uuid) else {
        add(
            Type::NoEventContainer,
            Severity::Major,
            "no-event-container",
            "machine has no event container",
            String::new(),
        );
        return found;
    };
    if machine.partition.as_option().is_none_or(|partition| partition.id.is_empty()) {
        add(
            Type::NoPartition,
            Severity::Major,
            "no-partition",
            "machine with no partition",
            String::new(),
        );
    }
    match events.liveliness {
        l if l == api::MachineLiveliness::Alive as i64 => {}
        l if l == api::MachineLiveliness::Dead as i64 => add(
            Type::LivelinessDead,
            Severity::Major,
            "liveliness-dead",
            "the machine is not sending events anymore",
            String::new(),
        ),
        l if l == api::MachineLiveliness::Unknown as i64 => add(
            Type::LivelinessUnknown,
            Severity::Major,
            "liveliness-unknown",
            "the machine is not sending LLDP alive messages anymore",
            String::new(),
        ),
        _ => add(
            Type::LivelinessNotAvailable,
            Severity::Minor,
            "liveliness-not-available",
            "the machine liveliness is not available",
            String::new(),
        ),
    }
    let recent = machine.recent_provisioning_events.as_option();
    let newest = recent.and_then(|recent| recent.events.first()).and_then(|e| e.event.as_known());
    let allocation = machine.allocation.as_option();
    if events.failed_reclaim
        || (allocation.is_none() && newest == Some(api::MachineProvisioningEventType::PhonedHome))
    {
        add(
            Type::FailedMachineReclaim,
            Severity::Critical,
            "failed-machine-reclaim",
            "machine phones home but not allocated",
            String::new(),
        );
    }
    if events.crash_loop && newest != Some(api::MachineProvisioningEventType::Waiting) {
        add(
            Type::CrashLoop,
            Severity::Major,
            "crashloop",
            "machine is in a provisioning crash loop (⭕)",
            String::new(),
        );
    }
    if let Some(error) = recent.and_then(|recent| recent.last_error_event.as_option()) {
        let age = fleet.now_us - error.time.as_option().map_or(0, wire::micros);
        if age < fleet.threshold_us {
            add(
                Type::LastEventError,
                Severity::Minor,
                "last-event-error",
                "the machine had an error during the provisioning lifecycle",
                format!("occurred {}: {}", ago(age), error.message),
            );
        }
    }
    let default = (api::MachineBMCReport::default(), 0);
    let (report, updated_at_us) = fleet.reports.get(&machine.uuid).unwrap_or(&default);
    let bmc = report.bmc.as_option();
    if bmc.is_none_or(|bmc| bmc.mac.is_empty()) {
        add(
            Type::BmcWithoutMac,
            Severity::Major,
            "bmc-without-mac",
            "BMC has no mac address",
            String::new(),
        );
    }
    match bmc.map(|bmc| bmc.address.as_str()).filter(|address| !address.is_empty()) {
        None => add(
            Type::BmcWithoutIp,
            Severity::Major,
            "bmc-without-ip",
            "BMC has no ip address",
            String::new(),
        ),
        Some(address) => {
            let same = fleet.addresses.get(address).map_or(&[][..], Vec::as_slice);
            if same.len() > 1 {
                add(
                    Type::BmcNonDistinctIp,
                    Severity::Major,
                    "bmc-no-distinct-ip",
                    "BMC IP address is not distinct",
                    format!("{address} also belongs to {}", others(same, &machine.uuid)),
                );
            }
        }
    }
    let age = fleet.now_us - updated_at_us;
    if age > BMC_SILENT_US {
        let details = if *updated_at_us == 0 {
            "machine BMC info has never been set".to_owned()
        } else {
            format!("last updated {}", ago(age))
        };
        add(
            Type::BmcInfoOutdated,
            Severity::Major,
            "bmc-info-outdated",
            "BMC has not been updated from either metal-hammer or metal-bmc",
            details,
        );
    }
    if let Some(allocation) = allocation
        && allocation.allocation_type == api::MachineAllocationType::Firewall
        && let Some(asn) = allocation.networks.first().map(|network| network.asn)
    {
        let same = fleet.firewalls.get(&asn).map_or(&[][..], Vec::as_slice);
        if same.len() > 1 {
            add(
                Type::AsnUniqueness,
                Severity::Minor,
                "asn-not-unique",
                "The ASN is not unique (only impact on firewalls)",
                format!("ASN {asn} is also used by {}", others(same, &machine.uuid)),
            );
        }
    }
    found
}
