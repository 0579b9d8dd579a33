//! How many addresses are taken in a second, each in a transaction of its own that is on disk when it is answered.
//!
//!     cargo bench -p server --bench ip_create                # a PostgreSQL of its own, with fsync
//!     BENCH_DATABASE=postgres://… BENCH_SECONDS=30 BENCH_TAKERS=64 cargo bench -p server --bench ip_create
//!
//! One hot /8 that all take from, then one network each; at last all are given back at once.

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::prefix::Block;
use server::ipam;
use store::prefix::{self, Prefix};
use store::{Db, Entity, Tx, Value};

const PROJECT: &str = "bench";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    let (server, url) = match std::env::var("BENCH_DATABASE") {
        Ok(url) => (None, url),
        Err(_) => {
            let server = postgres::Server::durable();
            let url = server.url();
            (Some(server), url)
        }
    };
    let db = Db::open(&url).await.expect("a database");
    let takers = number("BENCH_TAKERS", 32);
    let life = Duration::from_secs(number("BENCH_SECONDS", 10));
    prepare(&db, takers).await;
    for (what, hot) in [("one /8 for all", true), ("a /16 for each", false)] {
        let (count, retries, worst) = run(&db, takers, life, hot).await;
        let rate = count as f64 / life.as_secs_f64();
        println!(
            "{what}: {rate:.0} ip/s durable by {takers} takers, slowest {} ms, {retries} retries",
            worst.as_millis()
        );
    }
    let begin = Instant::now();
    let mut tx = db.begin_write().await.expect("begin");
    let had = ipam::release_machine(&mut tx, "m0", 1).await.expect("release").len();
    tx.commit().await.expect("commit");
    println!("{had} given back in one transaction: {} ms", begin.elapsed().as_millis());
    drop(db);
    drop(server);
}

async fn prepare(db: &Db, takers: u64) {
    let mut tx = db.begin_write().await.expect("begin");
    let row = |id: &str| Entity::new(id, "{}".to_owned(), 1);
    store::tenant::TABLE.insert(&mut tx, &row("bench"), &[]).await.expect("tenant");
    store::project::TABLE.insert(&mut tx, &row(PROJECT), &["bench".into()]).await.expect("project");
    network(&mut tx, "hot", "10.0.0.0", 8).await;
    for taker in 0..takers {
        network(&mut tx, &format!("n{taker}"), &format!("172.{taker}.0.0"), 16).await;
    }
    tx.commit().await.expect("commit");
}

async fn network(tx: &mut Tx, id: &str, first: &str, length: u8) {
    let none = Value::OptText(None);
    let columns = [none.clone(), none.clone(), 1_i64.into(), none, Value::OptInt(None)];
    let row = Entity::new(id, "{}".to_owned(), 1);
    store::network::TABLE.insert(tx, &row, &columns).await.expect("network");
    let prefix = Prefix {
        id: format!("{id}-prefix"),
        network: id.to_owned(),
        namespace: String::new(),
        ordinal: 0,
        block: Block::new(first.parse().expect("address"), length).expect("block"),
        pool: None,
    };
    prefix::insert(tx, &prefix, true).await.expect("prefix");
}

/// Lets all take for a while; how many they got, how often they had to begin anew, and the slowest.
async fn run(db: &Db, takers: u64, life: Duration, hot: bool) -> (u64, u64, Duration) {
    let (count, retries) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..takers)
        .map(|taker| {
            let (db, count, retries) = (db.clone(), Arc::clone(&count), Arc::clone(&retries));
            let network = if hot { "hot".to_owned() } else { format!("n{taker}") };
            tokio::spawn(async move {
                let mut worst = Duration::ZERO;
                while begin.elapsed() < life {
                    let one = Instant::now();
                    match take(&db, &network, &format!("m{taker}")).await {
                        Ok(()) => count.fetch_add(1, Ordering::Relaxed),
                        Err(_) => retries.fetch_add(1, Ordering::Relaxed),
                    };
                    worst = worst.max(one.elapsed());
                }
                worst
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    for task in tasks {
        worst = worst.max(task.await.expect("task"));
    }
    (count.load(Ordering::Relaxed), retries.load(Ordering::Relaxed), worst)
}

/// What the handler of `IPService/Create` does between request and answer.
async fn take(db: &Db, network: &str, machine: &str) -> Result<(), server::rpc::Error> {
    let mut tx = db.begin_write().await?;
    let (_, prefixes) =
        prefix::with_network(&mut tx, network).await?.expect("a network that was made");
    let request = ipam::Request {
        project: PROJECT,
        network,
        machine: Some(machine),
        name: "bench",
        ..Default::default()
    };
    ipam::acquire_from(&mut tx, 1, &request, &prefixes).await?;
    tx.commit().await?;
    Ok(())
}
