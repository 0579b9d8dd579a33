//! How long a human waits for `metalctl`: the start of the program, and a list of a whole data center.
//!
//!     cargo xtask bench cli
//!     BENCH_MACHINES=10000 BENCH_ROUNDS=10 cargo bench -p cli --bench list
//!
//! The server runs in this process, on SQLite; `metalctl` is the real program. Its processor time is told apart from the rest of
//! the time, which is that of the server and of waiting.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use buffa::Message;
use proto::api;
use serde_json::{Value, json};
use store::event::Events;
use store::{Db, Entity};

const ISSUER: &str = "http://metal.bench";
/// Microseconds since 1970 at which everything was made.
const NOW_US: i64 = 1_790_000_000_000_000;
const RACK: u64 = 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let machines = number("BENCH_MACHINES", 10_000);
    let rounds = number("BENCH_ROUNDS", 10);
    let folder = tempfile::tempdir().expect("folder");
    let database = format!("sqlite:{}", folder.path().join("metal.db").display());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let config = server::Config {
        listen: "127.0.0.1:0".to_owned(),
        database: database.clone(),
        issuer: ISSUER.to_owned(),
        rate: server::rate::Config { token_per_minute: 0, address_per_minute: 0 },
        ..server::Config::default()
    };
    let running = runtime.block_on(server::start(config)).expect("server");
    let token = runtime.block_on(fill(&database, machines));
    let url = format!("http://{}", running.address);
    println!("{machines} machines, {rounds} rounds each; milliseconds");
    println!("| | fastest | median | slowest | processor of metalctl | lines |");
    println!("|---|---|---|---|---|---|");
    for line in [
        "version",
        "machine list",
        "machine list -o wide",
        "machine list -o name",
        "machine list --filter size=c1-large --sort-by age",
        "machine list --hostname worker-7",
        "machine list -o json",
    ] {
        measure(line, rounds, &url, &token);
    }
    runtime.block_on(running.stop()).expect("the server stops");
}

fn measure(line: &str, rounds: u64, url: &str, token: &str) {
    let mut times = Vec::new();
    let mut lines = 0;
    let before = children();
    for _ in 0..rounds {
        let begin = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_metalctl"))
            .args(line.split(' '))
            .env("METAL_API_URL", url)
            .env("METAL_TOKEN", token)
            .stderr(Stdio::inherit())
            .output()
            .expect("metalctl starts");
        times.push(begin.elapsed());
        assert!(output.status.success(), "{line}");
        lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    }
    times.sort();
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let own = (children() - before) / u32::try_from(rounds).expect("few");
    println!(
        "| `metalctl {line}` | {} | {} | {} | {} | {lines} |",
        ms(times[0]),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1]),
        ms(own)
    );
}

/// Processor time of the programs that were started and have ended, to hundredths of a second.
fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Stores the machines and returns the token of an operator.
async fn fill(database: &str, machines: u64) -> String {
    let db = Db::open(database).await.expect("database");
    let mut tx = db.begin_write().await.expect("begin");
    let mut token = api::Token {
        user: "operator".to_owned(),
        token_type: api::TokenType::Api.into(),
        admin_role: Some(api::AdminRole::Editor.into()),
        ..Default::default()
    };
    let life = Duration::from_secs(3600);
    let now = jiff::Timestamp::now();
    let secret = server::bootstrap::first_token(&mut tx, ISSUER, &mut token, life, now).await;
    let row = |id: &str, body: &Value| Entity::new(id, body.to_string(), NOW_US);
    let partition = json!({"id": "p1", "bootConfiguration": {"imageUrl": "http://i", "kernelUrl": "http://k", "commandline": "quiet"}});
    store::partition::TABLE.insert(&mut tx, &row("p1", &partition), &[]).await.expect("partition");
    let size = json!({"id": "c1-large", "name": "c1-large", "constraints": [
        {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "32", "max": "32"},
        {"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1", "max": "1099511627776"}]});
    store::size::TABLE.insert(&mut tx, &row("c1-large", &size), &[]).await.expect("size");
    tx.commit().await.expect("commit");
    for first in (0..machines).step_by(1_000) {
        let mut tx = db.begin_write().await.expect("begin");
        for number in first..(first + 1_000).min(machines) {
            let body = machine(number);
            let message: api::Machine = serde_json::from_value(body.clone()).expect("machine");
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let id = text(&body["uuid"]).expect("id");
            let columns = [
                "p1".into(),
                text(&body["rack"]).expect("rack").into(),
                "c1-large".into(),
                text(&body["allocation"]["project"]).as_deref().into(),
                text(&body["allocation"]["uuid"]).as_deref().into(),
                i64::from(api::MachineState::Available as i32).into(),
                message.encode_to_vec().into(),
                0.into(),
            ];
            store::machine::ENCODED
                .insert(&mut tx, &row(&id, &body), &columns)
                .await
                .expect("machine");
            let event = |event: &str, minute: u64| {
                json!({"time": format!("2026-09-21T14:{minute:02}:20Z"), "message": "as it was told",
                    "event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{event}")})
            };
            let events = json!({"events": [event("PHONED_HOME", 15), event("BOOTING_NEW_KERNEL", 14), event("INSTALLING", 14),
                event("WAITING", 13), event("REGISTERING", 12), event("PREPARING", 11), event("PXE_BOOTING", 10)]});
            let events = Events {
                machine: id,
                body: events.to_string(),
                last_event_at_us: NOW_US,
                liveliness: 1,
                crash_loop: false,
                failed_reclaim: false,
            };
            store::event::put(&mut tx, &events).await.expect("events");
        }
        tx.commit().await.expect("commit");
    }
    secret.expect("token")
}

/// Like a real one: two processors, three disks, two ports, four of five allocated.
fn machine(number: u64) -> Value {
    let id = |kind: u64, number: u64| format!("00000000-0000-4000-{kind:04x}-{number:012x}");
    let rack = format!("rack-{}", number / RACK);
    let cpu = json!({"vendor": "GenuineIntel", "model": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", "cores": 16, "threads": 32});
    let nic = |port: u64| {
        let mac = format!("0c:42:00:{port:02x}:{:02x}:{:02x}", number >> 8 & 0xff, number & 0xff);
        json!({"mac": mac, "name": format!("lan{port}"), "identifier": mac, "vendor": "Mellanox Technologies",
            "model": "MT27800 Family [ConnectX-5]", "neighbors": [{"mac": mac, "name": format!("swp{}s0", number % RACK),
                "identifier": format!("swp{}s0", number % RACK), "hostname": format!("{rack}-leaf0{port}")}]})
    };
    let disk = |name: &str| json!({"name": format!("/dev/{name}"), "size": "960197124096"});
    let mut machine = json!({"uuid": id(1, number), "rack": rack, "room": "room-1",
        "partition": {"id": "p1"}, "size": {"id": "c1-large"},
        "meta": {"labels": {"labels": {"machine.metal-stack.io/rack": rack}}},
        "hardware": {"memory": "206158430208", "cpus": [cpu, cpu], "nics": [nic(0), nic(1)],
            "disks": [disk("nvme0n1"), disk("nvme1n1"), disk("sda")]},
        "status": {"condition": {"state": "MACHINE_STATE_AVAILABLE"}, "metalHammerVersion": "v0.13.2"}});
    if number % 5 != 4 {
        let project = id(2, number / RACK);
        machine["allocation"] = json!({"uuid": id(3, number), "name": format!("worker-{number}"), "hostname": format!("worker-{number}"),
            "meta": {"createdAt": "2026-09-21T14:13:20Z", "updatedAt": "2026-09-21T14:13:20Z",
                "labels": {"labels": {"cluster.metal-stack.io/id": project, "kubernetes.io/role": "worker"}}},
            "description": "a worker", "createdBy": "bench", "project": project,
            "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE",
            "image": {"id": "debian-12.0.20260901", "url": "http://images.example/debian-12.tar.zst", "features": ["IMAGE_FEATURE_MACHINE"],
                "classification": "IMAGE_CLASSIFICATION_SUPPORTED", "expiresAt": "2999-01-01T00:00:00Z"},
            "filesystemLayout": {"id": "default", "disks": [{"device": "/dev/nvme0n1", "partitions": [
                    {"number": 1, "label": "efi", "size": "500", "gptType": "GPT_TYPE_BOOT"},
                    {"number": 2, "label": "root", "size": "5000", "gptType": "GPT_TYPE_LINUX"}]}],
                "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_VFAT", "path": "/boot/efi", "label": "efi"},
                    {"device": "/dev/nvme0n1p2", "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
                "constraints": {"sizes": ["c1-large"], "images": {"debian": "*"}}},
            "networks": [{"network": id(4, number / RACK), "prefixes": ["10.0.0.0/20"], "ips": [format!("10.0.15.{}", number % RACK + 1)],
                "networkType": "NETWORK_TYPE_CHILD", "vrf": "1000", "asn": 4_200_000_000_u64 + number, "project": project}],
            "sshPublicKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM9mN3S8Tn1x5HiXJ0Vx2cV0nS1O8q4Jv0m7gq3h8k2p bench"],
            "userdata": "I".repeat(600), "dnsServers": [{"ip": "10.1.1.1"}, {"ip": "10.1.1.2"}]});
    }
    machine
}
