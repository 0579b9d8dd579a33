//! Clients that call again and again, and what that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::http::Client;

pub(crate) const HEAD: &str =
    "                              calls/s   p50 ms   p99 ms  server µs  database µs  answer";

/// What is called, and by how many.
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) life: Duration,
    /// Sent one after the other, again and again.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Whether the answer is to be a good one.
    pub(crate) works: bool,
}

/// What it cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    calls: u32,
    server: Duration,
    database: Duration,
}

impl Measured {
    fn each_us(self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / f64::from(self.calls)
    }

    /// Processor time of the server for one call.
    pub(crate) fn server_us(self) -> f64 {
        self.each_us(self.server)
    }

    /// Processor time of the database for one call.
    pub(crate) fn database_us(self) -> f64 {
        self.each_us(self.database)
    }

    /// Processor time of both for one call.
    pub(crate) fn busy_us(self) -> f64 {
        self.server_us() + self.database_us()
    }
}

impl Load {
    /// Calls for a while, prints a line and returns what it cost.
    pub(crate) async fn run(self, ground: &Ground) -> Measured {
        let next = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(self.requests);
        let call = |life: Duration| {
            let (requests, next) = (&requests, &next);
            async move {
                let end = Instant::now() + life;
                let tasks: Vec<_> = (0..self.clients)
                    .map(|_| {
                        let (requests, next) = (Arc::clone(requests), Arc::clone(next));
                        let address = ground.address();
                        tokio::spawn(client(address, requests, next, self.works, end))
                    })
                    .collect();
                let mut times = Vec::new();
                for task in tasks {
                    times.extend(task.await.expect("client"));
                }
                times
            }
        };
        call(self.life / 6).await;
        let before = ground.cpu();
        let begin = Instant::now();
        let mut times = call(self.life).await;
        let took = begin.elapsed();
        let (server, database) = ground.cpu_since(before);
        let measured = Measured {
            calls: u32::try_from(times.len()).expect("not that many"),
            server,
            database,
        };
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].0.as_secs_f64() * 1e3;
        println!(
            "{:<30}{:>7.0} {:>8.1} {:>8.1} {:>10.0} {:>12.0} {:>7} B",
            self.name,
            f64::from(measured.calls) / took.as_secs_f64(),
            at(50),
            at(99),
            measured.server_us(),
            measured.database_us(),
            times[times.len() / 2].1,
        );
        measured
    }
}

/// Calls until the end; how long each call took and how long its answer was.
async fn client(
    address: std::net::SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    works: bool,
    end: Instant,
) -> Vec<(Duration, usize)> {
    let mut client = Client::connect(address).await;
    let mut times = Vec::new();
    // at least one: a slow call is a result, too
    while times.is_empty() || Instant::now() < end {
        let request = &requests[next.fetch_add(1, Ordering::Relaxed) % requests.len()];
        let begin = Instant::now();
        let (head, body) = client.send(request).await;
        times.push((begin.elapsed(), body.len()));
        let status = if works { "HTTP/1.1 200" } else { "HTTP/1.1 4" };
        assert!(head.starts_with(status), "{head} {}", String::from_utf8_lossy(&body));
    }
    times
}
