//! A PostgreSQL server of its own for a test: a fresh cluster in a temporary folder, gone afterwards.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What has not happened by then never will, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
const BIN: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Forgets what it was told when it crashes: tests do not wait for the disk.
    #[allow(dead_code, reason = "benches start the other one")]
    pub(crate) fn start() -> Self {
        Self::with("fsync=off")
    }

    /// Answers when what it was told is on disk.
    #[allow(dead_code, reason = "tests start the other one")]
    pub(crate) fn durable() -> Self {
        Self::with("fsync=on")
    }

    fn with(setting: &str) -> Self {
        assert!(
            Path::new(BIN).exists(),
            "PostgreSQL 15 is missing: apt-get install postgresql, or cargo xtask test"
        );
        let folder = tempfile::tempdir().expect("temporary folder");
        run(Command::new("chown").arg("postgres").arg(folder.path()));
        run(as_postgres(&format!("{BIN}/initdb"))
            .args(["--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(folder.path().join("data")));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = free_port();
            let mut child = Self::spawn(folder.path(), port, setting);
            // Somebody else may have got the port meanwhile: then it ends.
            while child.try_wait().expect("a process").is_none() {
                if ready(folder.path(), port) {
                    return Self { child, port, _folder: folder };
                }
                if Instant::now() > deadline {
                    child.kill().expect("killed");
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not answer");
        }
    }

    fn spawn(folder: &Path, port: u16, setting: &str) -> Child {
        as_postgres(&format!("{BIN}/postgres"))
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                // several tests at a time, each with several replicas
                "-c",
                "max_connections=500",
                "-c",
                setting,
                "-k",
            ])
            .arg(folder)
            .arg("-D")
            .arg(folder.join("data"))
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; `setpriv` has become the server itself
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program])
        .current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

/// Whether it answers at its socket, which is nobody else's.
fn ready(folder: &Path, port: u16) -> bool {
    Command::new(format!("{BIN}/pg_isready"))
        .args(["-q", "-p", &port.to_string(), "-h"])
        .arg(folder)
        .status()
        .is_ok_and(|status| status.success())
}
