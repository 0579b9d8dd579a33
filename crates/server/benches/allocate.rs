//! How many machines are allocated in a second, each durably, by clients that call `MachineService.Create` over HTTP.
//!
//!     cargo xtask bench allocate
//!     BENCH_DATABASE=postgres://… BENCH_POOLS=10000 BENCH_CALLS=2048 BENCH_CLIENTS=64 cargo bench -p server --bench allocate
//!
//! For each size of the pool a fresh database with so many machines that wait, in racks of twenty, and 256 projects with a
//! network each. The server runs in this process, therefore its share of the processor includes the (very thin) clients.
//! A `BENCH_DATABASE` must be empty and allows one pool only.

#[path = "http.rs"]
mod http;
#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "process.rs"]
mod process;
#[path = "allocate/seed.rs"]
mod seed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let pools: Vec<u64> = std::env::var("BENCH_POOLS")
        .unwrap_or_else(|_| "1000,10000,50000".to_owned())
        .split(',')
        .map(|pool| pool.parse().expect("BENCH_POOLS holds numbers"))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let results: Vec<_> = pools.iter().map(|pool| runtime.block_on(measure(*pool))).collect();
    if let (Some(first), Some(last)) = (results.first(), results.last()) {
        println!(
            "cost of one allocation, {} machines against {}: {:.2} × (1 is flat)",
            last.pool,
            first.pool,
            last.busy().as_secs_f64() / first.busy().as_secs_f64()
        );
    }
}

struct Outcome {
    pool: u64,
    allocations: u32,
    server: Duration,
    database: Duration,
}

impl Outcome {
    /// Processor time of everything for one allocation.
    fn busy(&self) -> Duration {
        (self.server + self.database) / self.allocations
    }
}

async fn measure(pool: u64) -> Outcome {
    let (ground, url) = match std::env::var("BENCH_DATABASE") {
        Ok(url) => (None, url),
        Err(_) => {
            let ground = postgres::Server::durable();
            let url = ground.url();
            (Some(ground), url)
        }
    };
    let config = server::Config {
        listen: "127.0.0.1:0".to_owned(),
        database: url.clone(),
        issuer: seed::ISSUER.to_owned(),
        rate: server::rate::Config { token_per_minute: 0, address_per_minute: 0 },
        ..server::Config::default()
    };
    let running = server::start(config).await.expect("server");
    let hall = seed::fill(&url, running.address, pool).await;
    let clients = number("BENCH_CLIENTS", 64);
    // at most half of the pool is taken, so that it is as large as it is called
    let calls = number("BENCH_CALLS", 1024).min(pool / 2);
    let warm = calls / 8;
    allocate(&hall, running.address, clients, warm, 0).await;

    let (server, database) = cpu();
    let begin = Instant::now();
    let mut times = allocate(&hall, running.address, clients, calls - warm, warm).await;
    let took = begin.elapsed();
    let done = u32::try_from(times.len()).expect("few");
    let (server, database) = {
        let now = cpu();
        (now.0 - server, now.1 - database)
    };
    let outcome = Outcome { pool, allocations: done, server, database };
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let ms = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(done);
    println!(
        "{pool} waiting: {:.0} allocations/s durable by {clients} clients, p50 {:.1} ms p99 {:.1} ms, processor per allocation: server {:.2} ms, database {:.2} ms",
        f64::from(done) / took.as_secs_f64(),
        at(50),
        at(99),
        ms(outcome.server),
        ms(outcome.database),
    );
    // clients have closed their connections
    tokio::time::timeout(Duration::from_secs(20), running.stop())
        .await
        .expect("stops in time")
        .expect("stops well");
    drop(ground);
    outcome
}

/// Lets the clients allocate so many machines and returns how long each call took.
async fn allocate(
    hall: &seed::Hall,
    address: std::net::SocketAddr,
    clients: u64,
    calls: u64,
    first: u64,
) -> Vec<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (next, token) = (Arc::clone(&next), hall.user.clone());
            let projects = hall.projects.clone();
            tokio::spawn(async move {
                let mut client = http::Client::connect(address).await;
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= calls {
                        return times;
                    }
                    let place = usize::try_from(first + number).expect("small") % projects.len();
                    let (project, network) = &projects[place];
                    let request = json!({"project": project, "name": "node", "partition": "p1", "size": "c1", "image": "debian-12",
                        "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE", "networks": [{"network": network}]});
                    let begin = Instant::now();
                    client.call(&token, "api.v2.MachineService/Create", &request).await;
                    times.push(begin.elapsed());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("client"));
    }
    times
}

/// Processor time of this process and of those below it: PostgreSQL.
fn cpu() -> (Duration, Duration) {
    let own = process::cpu(std::process::id());
    (own, process::cpu_of_tree(std::process::id()) - own)
}
