//! What calls cost, with a fleet of 10,000 and of 100,000 machines, on SQLite and on PostgreSQL.
//!
//!     cargo xtask bench api
//!     BENCH_FLEETS=10000 BENCH_DATABASES=postgres BENCH_ONLY=get,ip BENCH_SECONDS=10 cargo bench -p server --bench api
//!
//! The server is the real program in a process of its own, so that its processor time and memory are told apart from those of
//! the clients, which are in this process, and of PostgreSQL, which this process starts, too. How the numbers are to be read is told in
//! docs/performance.md.

#[path = "api/fleet.rs"]
mod fleet;
#[path = "api/ground.rs"]
mod ground;
#[path = "http.rs"]
mod http;
#[path = "api/load.rs"]
mod load;
#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "process.rs"]
mod process;
#[path = "api/streams.rs"]
mod streams;

use std::time::Duration;

use buffa::Message;
use proto::{admin, api};

use fleet::Fleet;
use ground::{Engine, Ground};
use load::{Load, Measured};

/// What is measured, in this order.
const ALL: &str = "get,list,project,ip,rights,streams";

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    for database in setting("BENCH_DATABASES", "sqlite,postgres").split(',') {
        let mut by_project = Vec::new();
        for fleet in setting("BENCH_FLEETS", "10000,100000").split(',') {
            let machines = fleet.parse().expect("BENCH_FLEETS holds numbers");
            by_project.extend(runtime.block_on(measure(Engine::named(database), machines)));
        }
        if let [first, .., last] = by_project.as_slice() {
            println!(
                "{database}: a list by project costs in the largest fleet {:.2} × of what it costs in the smallest (1: independent of the fleet)\n",
                last.busy_us() / first.busy_us()
            );
        }
    }
}

/// Measures everything that is asked for and returns what a list by project costs.
async fn measure(engine: Engine, machines: u64) -> Option<Measured> {
    let only = setting("BENCH_ONLY", ALL);
    let asked = |name: &str| only.split(',').any(|asked| asked == name);
    let life = Duration::from_secs(number("BENCH_SECONDS", 6));
    let mut ground = Ground::new(engine);
    let fleet = Fleet::seed(&ground, machines).await;
    ground.serve();
    println!(
        "{}, {machines} machines, {} bytes each as stored, {} MB resident after the start",
        ground.name(),
        fleet.bytes,
        ground.resident() >> 20
    );
    println!("{}", load::HEAD);
    let load = |name: &str, clients, requests| Load {
        name: name.to_owned(),
        clients,
        life,
        requests,
        works: true,
    };
    if asked("get") {
        load("machine get", 16, gets(&fleet)).run(&ground).await;
    }
    if asked("list") {
        let query = api::MachineQuery { partition: Some("p0".to_owned()), ..Default::default() };
        let body = admin::MachineServiceListRequest { query: query.into(), ..Default::default() }
            .encode_to_vec();
        let method = "admin.v2.MachineService/List";
        for kind in ["proto", "json"] {
            let name = format!("list 10,000 machines, {kind}");
            let body = if kind == "json" {
                br#"{"query":{"partition":"p0"}}"#.to_vec()
            } else {
                body.clone()
            };
            load(&name, 1, vec![http::encode(kind, &fleet.admin, method, &body)])
                .run(&ground)
                .await;
        }
    }
    let mut by_project = None;
    if asked("project") {
        by_project = Some(load("list by project", 4, lists(&fleet)).run(&ground).await);
    }
    if asked("ip") {
        load("ip create, a network each", 64, ips(&fleet, false)).run(&ground).await;
        load("ip create, one /8 for all", 64, ips(&fleet, true)).run(&ground).await;
    }
    if asked("rights") {
        rights(&ground, &fleet, life).await;
    }
    if asked("streams") {
        streams::measure(&ground, &fleet, number("BENCH_STREAMS", 10_000)).await;
    }
    println!();
    ground.stop().await;
    by_project
}

fn gets(fleet: &Fleet) -> Vec<Vec<u8>> {
    let all = fleet.allocated.iter();
    all.map(|(uuid, project)| {
        let request = api::MachineServiceGetRequest {
            uuid: uuid.clone(),
            project: project.clone(),
            ..Default::default()
        };
        http::encode("proto", &fleet.user, "api.v2.MachineService/Get", &request.encode_to_vec())
    })
    .collect()
}

fn lists(fleet: &Fleet) -> Vec<Vec<u8>> {
    let all = fleet.projects.iter();
    all.map(|project| {
        let request =
            api::MachineServiceListRequest { project: project.id.clone(), ..Default::default() };
        http::encode("proto", &fleet.user, "api.v2.MachineService/List", &request.encode_to_vec())
    })
    .collect()
}

fn ips(fleet: &Fleet, hot: bool) -> Vec<Vec<u8>> {
    let all = fleet.projects.iter().take(64);
    all.map(|project| {
        let request = api::IPServiceCreateRequest {
            project: project.id.clone(),
            network: if hot { fleet::INTERNET.to_owned() } else { project.network.clone() },
            name: Some("bench".to_owned()),
            ..Default::default()
        };
        http::encode("proto", &fleet.user, "api.v2.IPService/Create", &request.encode_to_vec())
    })
    .collect()
}

/// A call that is refused for want of rights against one that asks for none: the difference is what the decision costs.
async fn rights(ground: &Ground, fleet: &Fleet, life: Duration) {
    let request = api::MachineServiceGetRequest {
        uuid: fleet.allocated[0].0.clone(),
        project: fleet.foreign.clone(),
        ..Default::default()
    };
    let refused =
        http::encode("proto", &fleet.user, "api.v2.MachineService/Get", &request.encode_to_vec());
    let open = http::encode("proto", "", "api.v2.VersionService/Get", &[]);
    let load = |name: &str, requests, works| Load {
        name: name.to_owned(),
        clients: 16,
        life,
        requests,
        works,
    };
    let open = load("version, without a token", vec![open], true).run(ground).await;
    let refused = load("machine get, refused", vec![refused], false).run(ground).await;
    println!(
        "authorization: processor of the server {:.0} µs, of the database {:.0} µs per call",
        refused.server_us() - open.server_us(),
        refused.database_us() - open.database_us()
    );
}
