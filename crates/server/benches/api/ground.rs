//! A database and the server on it, each in processes of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{postgres, process};

pub(crate) const ISSUER: &str = "http://metal.bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "sqlite" => Self::Sqlite,
            "postgres" => Self::Postgres,
            other => panic!("{other} is no database: sqlite or postgres"),
        }
    }
}

pub(crate) struct Ground {
    pub(crate) engine: Engine,
    url: String,
    // the server ends before its database
    server: Option<Child>,
    address: Option<SocketAddr>,
    _postgres: Option<postgres::Server>,
    _folder: tempfile::TempDir,
}

impl Ground {
    /// An empty database.
    pub(crate) fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (url, postgres) = match engine {
            Engine::Sqlite => {
                (format!("sqlite:{}", folder.path().join("metal.db").display()), None)
            }
            Engine::Postgres => {
                let server = postgres::Server::durable();
                (server.url(), Some(server))
            }
        };
        Self { engine, url, server: None, address: None, _postgres: postgres, _folder: folder }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn serve(&mut self) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_metal-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--url", ISSUER])
            .args(["--max-requests-per-minute", "0"])
            .args(["--max-unauthenticated-requests-per-minute", "0"])
            .env("METAL_DATABASE", &self.url)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("log")).lines();
        let address = loop {
            let line = lines.next().expect("the server ended").expect("text");
            if let Some((_, address)) = line.split_once("address=") {
                break address.split_whitespace().next().expect("an address").to_owned();
            }
        };
        // what it complains about is shown, everything else is news of every allocation
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("WARN") || line.contains("ERROR") {
                    eprintln!("{line}");
                }
            }
        });
        self.server = Some(child);
        self.address = Some(address.parse().expect("an address"));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("the server runs")
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// Processor time of the server and of the database beside it. `SQLite` has no process of its own.
    pub(crate) fn cpu(&self) -> (Duration, Duration) {
        let own = process::cpu(std::process::id());
        let server = process::cpu(self.pid());
        let database = match self.engine {
            Engine::Sqlite => Duration::ZERO,
            // what the others did between the looks counts here: next to nothing
            Engine::Postgres => process::cpu_of_tree(std::process::id()) - own - server,
        };
        (server, database)
    }

    /// Processor time since an earlier look.
    pub(crate) fn cpu_since(
        &self,
        (server, database): (Duration, Duration),
    ) -> (Duration, Duration) {
        let now = self.cpu();
        // a database that did nothing may seem to have done a hundredth of a second less than that
        (now.0.saturating_sub(server), now.1.saturating_sub(database))
    }

    /// Bytes of memory that the server occupies.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Ends the server in order.
    pub(crate) async fn stop(mut self) {
        let Some(mut child) = self.server.take() else { return };
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let ended = tokio::task::spawn_blocking(move || child.wait());
        let _ = tokio::time::timeout(Duration::from_secs(20), ended).await;
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(child) = &mut self.server {
            // it may have ended by itself, which was noticed then
            child.kill().ok();
            child.wait().ok();
        }
    }
}
