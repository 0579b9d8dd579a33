//! Tests that need a kernel that the host does not have: this program goes into a guest with FRR, and one of its tests
//! runs there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guest::{Guest, Image, Spec, kernel};
use switch::config::Config;

use crate::running::settings;

/// Set in the guest.
const INSIDE: &str = "SWITCH_TEST_IN_GUEST";
/// Where this program is in the guest.
const PROGRAM: &str = "/usr/bin/it";
/// Software emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(1500);

/// A leaf with an uplink, two ports and routing daemons; what is at the other ends is up and silent.
const LEAF: &str = r"
for port in up0 swp1 swp2; do
    ip link add $port type veth peer name ${port}-peer
    ip link set $port-peer up
    ip link set $port up
done
ip link add boot type bridge forward_delay 0
ip addr add 10.0.1.1/24 dev boot
ip addr add 10.0.0.11/32 dev lo
ip link set boot up
mkdir -p /run/frr /var/lib/leaf
chown frr:frr /run/frr
for daemon in zebra bfdd bgpd; do
    /usr/lib/frr/$daemon -d -F datacenter -A 127.0.0.1 --log file:/var/log/frr.log
done
";

/// On the host: runs the test of this name in a guest. In the guest: does the work.
pub(crate) fn run(
    test: &str,
    backend: &str,
    image: impl FnOnce(Image) -> Image,
    work: impl AsyncFnOnce(Arc<Config>),
) {
    if inside(backend, work) {
        return;
    }
    if let Some(leaf) = Leaf::start(image) {
        leaf.pass(test);
    }
}

/// In the guest: does the work. False on the host.
pub(crate) fn inside(backend: &str, work: impl AsyncFnOnce(Arc<Config>)) -> bool {
    let is_inside = std::env::var_os(INSIDE).is_some();
    if is_inside {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work(config(backend)));
    }
    is_inside
}

/// What guests are made from.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab-cache")
}

/// A leaf in a guest.
pub(crate) struct Leaf {
    pub(crate) guest: Guest,
    _alone: MutexGuard<'static, ()>,
    _folder: tempfile::TempDir,
}

impl Leaf {
    /// `None` where there is no QEMU or no FRR.
    pub(crate) fn start(image: impl FnOnce(Image) -> Image) -> Option<Self> {
        if !Path::new("/usr/bin/qemu-system-x86_64").exists()
            || !Path::new("/usr/lib/frr/bgpd").exists()
        {
            eprintln!("not run: this needs QEMU and FRR");
            return None;
        }
        // One at a time: each takes a whole core.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let (kernel, _) = kernel::kernel(&cache()).unwrap();
        let disk = folder.path().join("disk");
        let program = std::env::current_exe().unwrap();
        image(
            Image::leaf()
                .file(program, PROGRAM)
                .program("/bin/tail")
                .program("/bin/dmesg")
                .start(LEAF),
        )
        .build(&kernel, &disk)
        .unwrap();
        let built = begin.elapsed();
        let spec = Spec {
            name: "leaf01".into(),
            folder: folder.path().join("run"),
            kernel: kernel.image(),
            disk,
            memory_mb: 256,
            cards: Vec::new(),
        };
        let guest = Guest::start(&spec).unwrap();
        eprintln!("disk after {built:.1?}, guest up after {:.1?}", begin.elapsed());
        Some(Self { guest, _alone: alone, _folder: folder })
    }

    /// Runs one of these tests inside.
    pub(crate) fn pass(&self, test: &str) {
        let begin = Instant::now();
        let inside = format!("{INSIDE}=1");
        let mut command = vec!["env", &inside, PROGRAM, "--exact", test];
        command.extend(["--include-ignored", "--nocapture", "--test-threads=1"]);
        let output = self.guest.run_for(&command, PATIENCE).unwrap();
        eprintln!("{}{}", output.stdout, output.stderr);
        eprintln!("{test} took {:.1?} in the guest", begin.elapsed());
        if output.status != 0 {
            let words = "tail -n 40 /var/log/frr.log; dmesg | tail -n 20; ls /run/frr; free -m";
            let said = self.guest.run(&["sh", "-c", words]).unwrap();
            panic!("it fails in the guest: {}{}", said.stdout, said.stderr);
        }
        assert!(output.stdout.contains("1 passed"), "the guest knows no test {test}");
    }
}

fn config(backend: &str) -> Arc<Config> {
    let mut text = settings("http://127.0.0.1:1", Path::new("/var/lib/leaf"), backend);
    // A host that does much else does not count as a dead neighbour.
    text += "[policy]\nhold_seconds = 180\n";
    Arc::new(toml::from_str(&text).unwrap())
}
