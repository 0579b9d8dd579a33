//! A fleet like a real one: partitions of 10,000 machines, racks of twenty, four of five machines allocated, a project in each rack.

use std::time::Duration;

use buffa::Message;
use model::prefix::Block;
use proto::api;
use serde_json::{Value, json};
use store::event::Events;
use store::machine::Bmc;
use store::prefix::{self, Prefix};
use store::{Db, Entity, Tx};
use uuid::Uuid;

use crate::ground::{Engine, Ground, ISSUER};

/// Machines of a partition.
const PARTITION: u64 = 10_000;
/// Machines of a rack, of which four of five belong to one project.
const RACK: u64 = 20;
/// Machines stored in one transaction.
const BATCH: u64 = 1_000;
/// A network that everybody may take addresses from.
pub(crate) const INTERNET: &str = "internet";
/// Owner of the projects.
const USER: &str = "bench";
/// Microseconds since 1970 at which everything was made.
const NOW_US: i64 = 1_790_000_000_000_000;
const IMAGE: &str = "debian-12.0.20260901";

pub(crate) struct Fleet {
    /// Token of the owner of the projects.
    pub(crate) user: String,
    /// Token of an operator.
    pub(crate) admin: String,
    /// Token of all machines.
    pub(crate) agent: String,
    pub(crate) projects: Vec<Project>,
    /// A project that the user has nothing to do with.
    pub(crate) foreign: String,
    /// Ids with the project.
    pub(crate) allocated: Vec<(String, String)>,
    /// Ids of those that nobody has, the first ones in partition p0.
    pub(crate) free: Vec<String>,
    /// Length of what is stored of an allocated machine.
    pub(crate) bytes: usize,
}

#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) network: String,
}

/// The id of the machine, project… with a number: the same in each run, and in no order.
fn id(kind: u64, number: u64) -> String {
    // the mixing step of splitmix64
    let mix = |number: u64| {
        let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let bits = (mix(number * 8 + kind), mix(!number ^ (kind << 60)));
    uuid::Builder::from_random_bytes(
        ((u128::from(bits.0) << 64) | u128::from(bits.1)).to_be_bytes(),
    )
    .into_uuid()
    .to_string()
}

fn is_free(machine: u64) -> bool {
    machine % 5 == 4
}

impl Fleet {
    /// Fills an empty database.
    pub(crate) async fn seed(ground: &Ground, machines: u64) -> Self {
        let db = Db::open(ground.url()).await.expect("database");
        let token = async |token: api::Token| {
            let mut tx = db.begin_write().await.expect("begin");
            let (mut token, life) = (token, Duration::from_secs(24 * 3600));
            let now = jiff::Timestamp::now();
            let secret = server::bootstrap::first_token(&mut tx, ISSUER, &mut token, life, now);
            let secret = secret.await.expect("token");
            tx.commit().await.expect("commit");
            secret
        };
        let named = |user: &str, kind: api::TokenType| api::Token {
            user: user.to_owned(),
            token_type: kind.into(),
            ..Default::default()
        };
        let user = token(named(USER, api::TokenType::User)).await;
        let mut operator = named("operator", api::TokenType::Api);
        operator.admin_role = Some(api::AdminRole::Editor.into());
        let admin = token(operator).await;
        let mut agent = named("agent", api::TokenType::Api);
        agent.machine_roles.insert("*".to_owned(), api::MachineRole::Editor.into());
        let agent = token(agent).await;

        let mut tx = db.begin_write().await.expect("begin");
        catalog(&mut tx, machines.div_ceil(PARTITION)).await;
        let mut projects = Vec::new();
        for number in 0..machines.div_ceil(RACK) {
            projects.push(project(&mut tx, number, USER).await);
        }
        let foreign = project(&mut tx, machines.div_ceil(RACK), "operator").await.id;
        tx.commit().await.expect("commit");

        // SQLite has one writer
        let writers = if ground.engine == Engine::Sqlite { 1 } else { 4 };
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let db = db.clone();
                tokio::spawn(async move {
                    for first in (writer * BATCH..machines)
                        .step_by(usize::try_from(writers * BATCH).expect("few"))
                    {
                        let mut tx = db.begin_write().await.expect("begin");
                        for number in first..(first + BATCH).min(machines) {
                            machine(&mut tx, number).await;
                        }
                        tx.commit().await.expect("commit");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("seed");
        }
        let owner = |machine: u64| id(1, machine / RACK);
        Self {
            user,
            admin,
            agent,
            projects,
            foreign,
            allocated: (0..machines)
                .filter(|m| !is_free(*m))
                .map(|m| (id(0, m), owner(m)))
                .collect(),
            free: (0..machines).filter(|m| is_free(*m)).map(|m| id(0, m)).collect(),
            bytes: body(0).to_string().len(),
        }
    }
}

/// A request for a machine of partition p0.
pub(crate) fn allocation(project: &Project) -> api::MachineServiceCreateRequest {
    api::MachineServiceCreateRequest {
        project: project.id.clone(),
        name: "node".to_owned(),
        partition: Some("p0".to_owned()),
        size: Some("c1-large".to_owned()),
        image: "debian-12.0".to_owned(),
        allocation_type: api::MachineAllocationType::Machine.into(),
        networks: vec![api::MachineAllocationNetwork {
            network: project.network.clone(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn row(id: &str, body: &Value) -> Entity {
    Entity::new(id, body.to_string(), NOW_US)
}

async fn catalog(tx: &mut Tx, partitions: u64) {
    for number in 0..partitions {
        let id = format!("p{number}");
        let body = json!({"id": id, "description": "a partition", "dnsServers": [{"ip": "10.1.1.1"}, {"ip": "10.1.1.2"}],
            "ntpServers": [{"address": "ntp1.example"}],
            "bootConfiguration": {"imageUrl": "http://images.example/initrd", "kernelUrl": "http://images.example/kernel",
                "commandline": "console=ttyS1,115200n8 quiet"}});
        store::partition::TABLE.insert(tx, &row(&id, &body), &[]).await.expect("partition");
    }
    let size = json!({"id": "c1-large", "name": "c1-large", "constraints": [
        {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "32", "max": "32"},
        {"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1", "max": "1099511627776"},
        {"type": "SIZE_CONSTRAINT_TYPE_STORAGE", "min": "0", "max": "10995116277760"}]});
    store::size::TABLE.insert(tx, &row("c1-large", &size), &[]).await.expect("size");
    store::image::TABLE
        .insert(tx, &row(IMAGE, &image()), &["debian".into(), i64::MAX.into()])
        .await
        .expect("image");
    store::filesystem_layout::TABLE
        .insert(tx, &row("default", &layout()), &[])
        .await
        .expect("layout");
    let body = json!({"id": INTERNET, "name": INTERNET, "type": "NETWORK_TYPE_EXTERNAL", "vrf": 104,
        "prefixes": ["100.0.0.0/8"], "destinationPrefixes": ["0.0.0.0/0"]});
    network(tx, INTERNET, &body, (None, None), 1, ("100.0.0.0", 8)).await;
}

fn image() -> Value {
    json!({"id": IMAGE, "url": "http://images.example/debian/12/img.tar.zst", "name": "Debian 12", "description": "Debian 12",
        "features": ["IMAGE_FEATURE_MACHINE"], "classification": "IMAGE_CLASSIFICATION_SUPPORTED",
        "expiresAt": "2999-01-01T00:00:00Z"})
}

fn layout() -> Value {
    let part = |number: u32, label: &str, size: &str| json!({"number": number, "label": label, "size": size, "gptType": "GPT_TYPE_LINUX"});
    let fs = |number: u32, format: &str, path: &str, label: &str| json!({"device": format!("/dev/nvme0n1p{number}"), "format": format, "path": path, "label": label});
    json!({"id": "default", "description": "one disk",
        "disks": [{"device": "/dev/nvme0n1", "partitions": [part(1, "efi", "500"), part(2, "root", "5000"), part(3, "varlib", "0")]}],
        "filesystems": [fs(1, "FORMAT_VFAT", "/boot/efi", "efi"), fs(2, "FORMAT_EXT4", "/", "root"), fs(3, "FORMAT_EXT4", "/var/lib", "varlib")],
        "constraints": {"sizes": ["c1-large"], "images": {"debian": "*"}}})
}

/// A project with a network.
async fn project(tx: &mut Tx, number: u64, tenant: &str) -> Project {
    let (id, network_id) = (id(1, number), id(2, number));
    let body = json!({"uuid": id, "name": format!("project-{number}"), "description": "a project", "tenant": tenant});
    store::project::TABLE.insert(tx, &row(&id, &body), &[tenant.into()]).await.expect("project");
    // a /20 of a namespace of its own
    let body = json!({"id": network_id, "name": "private", "project": id, "type": "NETWORK_TYPE_CHILD", "vrf": 1000 + number,
        "prefixes": ["10.0.0.0/20"], "namespace": id});
    network(tx, &network_id, &body, (Some(&id), None), 5, ("10.0.0.0", 20)).await;
    Project { id, network: network_id }
}

async fn network(
    tx: &mut Tx,
    id: &str,
    body: &Value,
    (project, partition): (Option<&str>, Option<&str>),
    kind: i64,
    (first, length): (&str, u8),
) {
    let vrf = body["vrf"].as_i64();
    let columns = [project.into(), partition.into(), kind.into(), None::<&str>.into(), vrf.into()];
    store::network::TABLE.insert(tx, &row(id, body), &columns).await.expect("network");
    let prefix = Prefix {
        id: Uuid::new_v4().to_string(),
        network: id.to_owned(),
        namespace: project.unwrap_or_default().to_owned(),
        ordinal: 0,
        block: Block::new(first.parse().expect("address"), length).expect("block"),
        pool: None,
    };
    prefix::insert(tx, &prefix, true).await.expect("prefix");
}

/// What is stored of the machine with a number.
fn body(number: u64) -> Value {
    let rack = format!("rack-{}", number / RACK);
    let mac = |port: u64| {
        let bytes = (number * 4 + port).to_be_bytes();
        format!("0c:42:{:02x}:{:02x}:{:02x}:{:02x}", bytes[4], bytes[5], bytes[6], bytes[7])
    };
    let nic = |port: u64| {
        json!({"mac": mac(port), "name": format!("lan{port}"), "identifier": mac(port), "vendor": "Mellanox Technologies",
            "model": "MT27800 Family [ConnectX-5]", "speed": "25000", "neighbors": [{"mac": mac(port + 2),
                "name": format!("swp{}s0", number % RACK), "identifier": format!("swp{}s0", number % RACK),
                "hostname": format!("{rack}-leaf0{port}")}]})
    };
    let disk =
        |name: &str, size: u64| json!({"name": format!("/dev/{name}"), "size": size.to_string()});
    let mut machine = json!({"uuid": id(0, number), "rack": rack, "room": "room-1",
        "partition": {"id": format!("p{}", number / PARTITION)}, "size": {"id": "c1-large"},
        "meta": {"labels": {"labels": {"machine.metal-stack.io/rack": rack, "machine.metal-stack.io/chassis": format!("CH{}", number / 4)}}},
        "hardware": {"memory": "206158430208", "cpus": [
                {"vendor": "GenuineIntel", "model": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", "cores": 16, "threads": 32},
                {"vendor": "GenuineIntel", "model": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", "cores": 16, "threads": 32}],
            "disks": [disk("nvme0n1", 960_197_124_096), disk("nvme1n1", 960_197_124_096), disk("sda", 240_057_409_536)],
            "nics": [nic(0), nic(1)]},
        "status": {"condition": {"state": "MACHINE_STATE_AVAILABLE"}, "metalHammerVersion": "v0.13.2"}});
    if !is_free(number) {
        let project = id(1, number / RACK);
        let ip = format!("10.0.15.{}", number % RACK + 1);
        machine["allocation"] = json!({"uuid": id(3, number), "name": format!("shoot-worker-{number}"),
            "meta": {"createdAt": "2026-09-21T14:13:20Z", "updatedAt": "2026-09-21T14:13:20Z",
                "labels": {"labels": {"cluster.metal-stack.io/id": project, "cluster.metal-stack.io/name": "production", "kubernetes.io/role": "worker"}}},
            "description": "a worker", "createdBy": "bench", "project": project, "hostname": format!("shoot-worker-{number}"),
            "image": image(), "filesystemLayout": layout(), "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE",
            "networks": [
                {"network": id(2, number / RACK), "prefixes": ["10.0.0.0/20"], "ips": [ip], "networkType": "NETWORK_TYPE_CHILD",
                    "vrf": (1000 + number / RACK).to_string(), "asn": 4_200_000_000_u32 + u32::try_from(number).expect("few"), "project": project}],
            "sshPublicKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM9mN3S8Tn1x5HiXJ0Vx2cV0nS1O8q4Jv0m7gq3h8k2p bench"],
            "userdata": "I".repeat(600), "dnsServers": [{"ip": "10.1.1.1"}, {"ip": "10.1.1.2"}],
            "ntpServers": [{"address": "ntp1.example"}]});
    }
    machine
}

async fn machine(tx: &mut Tx, number: u64) {
    let id = id(0, number);
    let body = body(number);
    let message: api::Machine = serde_json::from_value(body.clone()).expect("machine");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let columns = [
        text(&body["partition"]["id"]).unwrap_or_default().into(),
        text(&body["rack"]).unwrap_or_default().into(),
        "c1-large".into(),
        text(&body["allocation"]["project"]).as_deref().into(),
        text(&body["allocation"]["uuid"]).as_deref().into(),
        i64::from(api::MachineState::Available as i32).into(),
        message.encode_to_vec().into(),
        0.into(),
    ];
    store::machine::ENCODED.insert(tx, &row(&id, &body), &columns).await.expect("machine");
    let event = |event: &str, minute: u32, message: &str| {
        json!({"time": format!("2026-09-21T14:{minute:02}:20Z"),
        "event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{event}"), "message": message})
    };
    let events = if is_free(number) {
        json!([
            event("WAITING", 13, "waiting for an allocation"),
            event("REGISTERING", 12, "registering the hardware"),
            event("PREPARING", 11, "starting the installer"),
            event("PXE_BOOTING", 10, "the machine asks what to boot")
        ])
    } else {
        json!([
            event("PHONED_HOME", 15, "provisioned since 2026-09-21"),
            event("BOOTING_NEW_KERNEL", 14, "booting the installed system"),
            event("INSTALLING", 14, "installing debian-12.0"),
            event("WAITING", 13, "waiting for an allocation"),
            event("REGISTERING", 12, "registering the hardware"),
            event("PREPARING", 11, "starting the installer")
        ])
    };
    let events = Events {
        machine: id.clone(),
        body: json!({"events": events}).to_string(),
        last_event_at_us: NOW_US,
        liveliness: 1,
        crash_loop: false,
        failed_reclaim: false,
    };
    store::event::put(tx, &events).await.expect("events");
    let address = format!("172.16.{}.{}:623", number / 250, number % 250);
    let report = json!({"uuid": id, "bmc": {"address": address, "mac": "ac:1f:6b:00:00:01", "user": "metal", "password": "a long password",
            "interface": "lanplus", "version": "1.73.06", "powerState": "ON"},
        "bios": {"version": "3.3", "vendor": "American Megatrends Inc.", "date": "02/21/2020"},
        "fru": {"chassisPartNumber": "CSE-217BHQ+-R2K22BP2", "chassisPartSerial": format!("C217BAI{number}"), "boardMfg": "Supermicro",
            "boardMfgSerial": format!("HM20AS{number}"), "boardPartNumber": "X11DPT-B", "productManufacturer": "Supermicro",
            "productPartNumber": "SYS-2029BT-HNTR", "productSerial": format!("A328789X{number}")},
        "powerMetric": {"averageConsumedWatts": 222.5, "intervalInMin": 1.0, "maxConsumedWatts": 333.0, "minConsumedWatts": 111.0},
        "powerSupplies": [{"health": "OK", "state": "Enabled"}, {"health": "OK", "state": "Enabled"}],
        "ledState": {"value": "LED-OFF"}});
    let bmc = Bmc { machine: id, address, body: report.to_string(), updated_at_us: NOW_US };
    store::machine::set_bmc(tx, &bmc).await.expect("bmc");
}
