//! `cargo xtask bench …` of the server alone; how numbers are to be read is told in docs/performance.md.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::shell::{cargo, root, step};
use crate::test::PACKAGES;

/// Idle means that nobody has called for so long.
const IDLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// Allocations on a PostgreSQL of its own.
pub(crate) fn allocate(profile: &str) -> Result<()> {
    packages::install(&PACKAGES)?;
    cargo(&root(), &["bench", "--package", "server", "--bench", "allocate", "--profile", profile])
}

/// The command line: its start, and a list of 10,000 machines.
pub(crate) fn cli(profile: &str) -> Result<()> {
    cargo(&root(), &["bench", "--package", "cli", "--bench", "list", "--profile", profile])
}

/// Calls and open streams, with fleets of several sizes.
pub(crate) fn api(profile: &str, fleets: &str, databases: &str, only: &str) -> Result<()> {
    packages::install(&PACKAGES)?;
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--package", "server", "--bench", "api", "--profile", profile])
        .env("BENCH_FLEETS", fleets)
        .env("BENCH_DATABASES", databases)
        .env("BENCH_ONLY", only)
        .current_dir(root());
    step(&mut command)
}

/// The server on SQLite: once with a new database, then with that of the former start.
pub(crate) fn start(profile: &str) -> Result<()> {
    let root = root();
    cargo(&root, &["build", "--package", "server", "--profile", profile])?;
    // where cargo puts what it builds for these two
    let folder = match profile {
        "dev" => "debug",
        "bench" => "release",
        other => other,
    };
    let binary = root.join("target").join(folder).join("metal-server");
    let data = root.join("target/bench-start");
    // what an interrupted run left
    std::fs::remove_dir_all(&data).ok();
    std::fs::create_dir_all(&data)?;
    for what in ["new database", "existing database"] {
        let (took, idle) = once(&binary, &data)?;
        println!(
            "{what}: first answer after {} ms, resident when idle {:.1} MB",
            took.as_millis(),
            idle as f64 / 1e3
        );
    }
    std::fs::remove_dir_all(&data).context("cannot remove the database of the bench")
}

/// A server that ends with the measurement.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended by itself, which was noticed then
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn once(binary: &Path, data: &Path) -> Result<(Duration, u64)> {
    // free until now, and nobody else is expected on this machine
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let begin = Instant::now();
    let child = Command::new(binary)
        .args(["serve", "--listen", &address.to_string(), "--database"])
        .arg(format!("sqlite:{}", data.join("metal.db").display()))
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let server = Server(child);
    while !answers(address) {
        if begin.elapsed() > PATIENCE {
            bail!("no answer within a minute");
        }
        sleep(Duration::from_millis(2));
    }
    let took = begin.elapsed();
    sleep(IDLE);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id()))?;
    let resident = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        })
        .context("the server ended")?;
    Ok((took, resident * 1024 / 1000))
}

/// Whether a call is answered well; health reads the database.
fn answers(address: SocketAddr) -> bool {
    let request = "POST /metalstack.api.v2.HealthService/Get HTTP/1.1\r\nHost: metal\r\n\
        Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let call = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    call().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}
