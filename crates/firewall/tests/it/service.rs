//! The program itself, as the service manager starts it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use firewall::filter::forwards;
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::row::{IN, MID, OUT, Row, program, tcp, wish};

/// For what must come at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the service manager has: a folder of the service and an ear.
struct Manager {
    folder: tempfile::TempDir,
    ear: UnixDatagram,
}

/// The service while it runs.
struct Service(Child);

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ear = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, ear }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Something else in the place of `nft`: shell commands that see its arguments and may end before it runs.
    fn nft(&self, before: &str) {
        program(&self.path("nft"), &format!("{before}\nexec nft \"$@\""));
    }

    fn start(&self, row: &Row, api_url: &str) -> Service {
        let config = self.path("firewall.toml");
        let [token, state, nft] = ["token", "state", "nft"].map(|name| self.path(name));
        let show = |path: &Path| format!("\"{}\"", path.display());
        let text = format!(
            "machine = \"m\"\napi_url = \"{api_url}\"\ntoken_file = {}\nstate_dir = {}\nnft = {}\n",
            show(&token),
            show(&state),
            show(&nft)
        );
        std::fs::write(&config, text).unwrap();
        std::fs::write(&token, "secret\n").unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &row.names[MID], env!("CARGO_BIN_EXE_metal-firewall")]);
        command.args(["serve", "--config"]).arg(&config);
        Service(command.env("NOTIFY_SOCKET", self.path("notify")).spawn().unwrap())
    }

    /// What the service says next.
    fn hear(&self, patience: Duration) -> Option<String> {
        self.ear.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.ear.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[track_caller]
    fn until_ready(&self) {
        let said = self.hear(PATIENCE).expect("nothing was said");
        assert!(said.starts_with("READY=1\n"), "{said}");
    }
}

impl Service {
    fn end(&mut self) -> ExitStatus {
        self.0.kill().ok();
        self.0.wait().unwrap()
    }

    fn until_ended(&mut self) -> ExitStatus {
        until("an end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

#[track_caller]
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ready_means_filtered() {
    let Some(row) = Row::new("ready") else { return };
    row.serve(OUT, "203.0.113.100:443");
    assert!(row.passes(IN, "203.0.113.100:443"), "the image forwards, without any filter");
    let manager = Manager::new();
    let (folder, gate) = (manager.folder.path().display(), manager.path("gate"));
    // it is loaded when somebody opens the gate, or is gone
    manager.nft(&format!(
        "[ \"$1\" = -f ] && while [ -d {folder} ] && [ ! -e {} ]; do sleep 0.1; done",
        gate.display()
    ));
    let mut service = manager.start(&row, "http://127.0.0.1:1");
    until("closed door", || (!row.at(MID, forwards)).then_some(()));
    assert_eq!(
        manager.hear(Duration::from_millis(1)),
        None,
        "it is not ready before its filter is"
    );
    assert!(row.is_shut(IN, "203.0.113.100:443"));
    std::fs::write(gate, "").unwrap();
    manager.until_ready();
    row.nft("list chain inet metal forward");
    assert!(row.at(MID, forwards), "and forwards from then on");
    // nothing is known, so nothing passes
    assert!(row.is_shut(IN, "203.0.113.100:443"));
    assert!(service.0.try_wait().unwrap().is_none(), "it runs");
    service.end();
    assert!(row.is_shut(IN, "203.0.113.100:443"), "the filter stays without it");
}

#[test]
fn a_filter_that_cannot_be_loaded_is_a_failure_that_is_told() {
    let Some(row) = Row::new("refused") else { return };
    row.serve(OUT, "203.0.113.100:443");
    row.serve(OUT, "203.0.113.100:8080");
    let only = wish(7, json!([tcp(json!([443]), "0.0.0.0/0")]), json!([]));
    let (control_plane, url) = ControlPlane::start(&row, only);
    let manager = Manager::new();
    manager.nft("[ \"$1\" = -f ] && echo 'Error: Operation not supported' >&2 && exit 1");
    assert!(!manager.start(&row, &url).until_ended().success());
    let said = manager.hear(PATIENCE).expect("nothing was said");
    assert!(said.starts_with("STATUS=No filter") && said.contains("not supported"), "{said}");
    assert_eq!(manager.hear(Duration::from_millis(1)), None, "it was never ready");
    assert!(!row.at(MID, forwards) && row.is_shut(IN, "203.0.113.100:443"));
    let reports = control_plane.reports();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.allocation.as_str(), report.generation), ("a", 0));
    assert!(report.error.contains("there is no filter, so nothing is forwarded"), "{report:?}");
    assert!(report.error.contains("Operation not supported"), "{report:?}");

    // tried again after somebody repaired it
    manager.nft("");
    let mut service = manager.start(&row, &url);
    manager.until_ready();
    until("way out", || row.connect(IN, "203.0.113.100:443"));
    assert!(row.is_shut(IN, "203.0.113.100:8080"));
    until("report", || {
        control_plane.reports().into_iter().find(|r| r.generation == 7 && r.error.is_empty())
    });

    // it is killed and started again: what is allowed goes on all the time
    let (mut kept, _) = row.connect(IN, "203.0.113.100:443").expect("443 passes");
    service.end();
    assert!(kept.echoes());
    let _service = manager.start(&row, &url);
    manager.until_ready();
    assert!(kept.echoes() && row.is_shut(IN, "203.0.113.100:8080"));
}
