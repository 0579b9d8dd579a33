//! A boot network in network namespaces: one with the bridge, the boot service and everything behind it, and one for each machine.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::control::Fake;

const API: &str = "127.0.0.1:8080";
const ORIGIN: &str = "127.0.0.1:8081";
static COUNT: AtomicU32 = AtomicU32::new(0);
/// What has not happened by then never will, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) server: String,
    pub(crate) fake: Arc<Fake>,
    pub(crate) directory: TempDir,
    api: Mutex<Option<tokio::runtime::Runtime>>,
    boot: Mutex<Option<Boot>>,
    foreign: Mutex<Option<(Child, String)>>,
}

struct Boot {
    process: Child,
    log: Arc<Mutex<String>>,
}

/// Whether namespaces can be made; says so if not.
pub(crate) fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Does something inside of a network namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    let work = move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Makes a network namespace.
pub(crate) fn add(namespace: &str) {
    run(&format!("ip netns add {namespace}"));
    run(&format!("ip -n {namespace} link set lo up"));
}

pub(crate) fn delete(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
}

/// Asks until there is an answer; else shows what was said last.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(said) => assert!(begin.elapsed() < PATIENCE, "no {what}:\n{said}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    /// `files` are served by the origin under their names; the first is the kernel, the second the initrd.
    pub(crate) fn new(files: [(&str, Vec<u8>); 2], cmdline: &str) -> Self {
        let server =
            format!("mboot-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        add(&server);
        let fake = Arc::new(Fake {
            kernel: format!("http://{ORIGIN}/{}", files[0].0),
            initrd: format!("http://{ORIGIN}/{}", files[1].0),
            cmdline: cmdline.to_owned(),
            ..Fake::default()
        });
        let world = Self {
            server,
            fake,
            directory: tempfile::tempdir().unwrap(),
            api: Mutex::default(),
            boot: Mutex::default(),
            foreign: Mutex::default(),
        };
        world.make_bridge();
        fs::write(world.directory.path().join("token"), "secret-of-the-boot-service\n").unwrap();
        let listener = inside(&world.server, || TcpListener::bind(ORIGIN).unwrap());
        let files = files.map(|(name, content)| (format!("/{name}"), content));
        std::thread::spawn(move || origin(&listener, &files));
        world.control_plane_up();
        world
    }

    pub(crate) fn make_bridge(&self) {
        self.ip("link add boot type bridge stp_state 0 forward_delay 0");
        self.ip("addr add 10.0.1.1/24 dev boot");
        self.ip("addr add fd99:0:0:1::1/64 dev boot nodad");
        self.ip("link set boot up");
    }

    /// `ip` in the server's namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.server));
    }

    pub(crate) fn control_plane_up(&self) {
        let fake = self.fake.clone();
        *self.api.lock().unwrap() = Some(inside(&self.server, move || fake.serve(API)));
    }

    pub(crate) fn control_plane_down(&self) {
        // Its address is free when this returns.
        self.api.lock().unwrap().take().unwrap().shutdown_timeout(PATIENCE);
    }

    /// Starts the boot service as DHCP server and waits until it serves.
    pub(crate) fn start(&self) {
        self.start_as("dhcp");
    }

    /// Starts the boot service beside a foreign DHCP server, which is dnsmasq on another machine.
    pub(crate) fn start_beside_dnsmasq(&self) {
        let foreign = format!("{}-x", self.server);
        add(&foreign);
        self.ip(&format!("link add foreign type veth peer name eth0 netns {foreign}"));
        self.ip("link set foreign master boot up");
        run(&format!("ip -n {foreign} addr add 10.0.1.2/24 dev eth0"));
        run(&format!("ip -n {foreign} link set eth0 up"));
        let directory = self.directory.path().display();
        let process = Command::new("ip")
            .args([
                "netns",
                "exec",
                &foreign,
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--no-ping",
            ])
            .args([
                "--interface=eth0",
                "--dhcp-authoritative",
                "--dhcp-range=10.0.1.150,10.0.1.160,1h",
                "--user=root",
            ])
            .args([
                format!("--dhcp-leasefile={directory}/leases"),
                format!("--pid-file={directory}/dnsmasq.pid"),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.foreign.lock().unwrap() = Some((process, foreign));
        self.start_as("proxy");
    }

    fn start_as(&self, mode: &str) {
        let directory = self.directory.path().display();
        let text = format!(
            "partition = \"lab\"\napi_url = \"http://{API}\"\ntoken_file = \"{directory}/token\"\ncache_dir = \"{directory}/cache\"\n\
             switch = \"leaf01\"\nmetrics_address = \"127.0.0.1:9100\"\n[network]\nmode = \"{mode}\"\ninterface = \"boot\"\naddress = \"10.0.1.1\"\n\
             prefix_length = 24\npool_start = \"10.0.1.100\"\npool_end = \"10.0.1.199\"\nipv6_prefix = \"fd99:0:0:1::/64\"\n\
             [machine]\napi_url = \"http://10.255.0.1:8080\"\nntp_servers = [\"ntp.example\"]\n"
        );
        let config = self.directory.path().join("boot.toml");
        fs::write(&config, text).unwrap();
        let mut process = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.server,
                env!("CARGO_BIN_EXE_metal-boot"),
                "serve",
                "--config",
            ])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (lines, to) = (BufReader::new(process.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = to.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        *self.boot.lock().unwrap() = Some(Boot { process, log });
        self.logged("serving");
    }

    pub(crate) fn log(&self) -> String {
        self.boot.lock().unwrap().as_ref().unwrap().log.lock().unwrap().clone()
    }

    /// Waits for a line in the log of the boot service.
    pub(crate) fn logged(&self, text: &str) {
        let said = || self.log().contains(text).then_some(()).ok_or_else(|| self.log());
        eventually(&format!("{text:?} in the log"), said);
    }

    /// Ends the boot service as systemd does.
    pub(crate) fn stop(&self) {
        let mut boot = self.boot.lock().unwrap().take().unwrap();
        kill(Pid::from_raw(boot.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        let log = boot.log.clone();
        let ended = || boot.process.try_wait().unwrap().ok_or_else(|| log.lock().unwrap().clone());
        let status = eventually("end", ended);
        assert!(status.success(), "{status}: {}", log.lock().unwrap());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut boot) = self.boot.lock().unwrap().take() {
            let _ = boot.process.kill();
            let _ = boot.process.wait();
            if std::thread::panicking() {
                eprintln!("{}", boot.log.lock().unwrap());
            }
        }
        if let Some(api) = self.api.lock().unwrap().take() {
            api.shutdown_background();
        }
        if let Some((mut process, namespace)) = self.foreign.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
            delete(&namespace);
        }
        delete(&self.server);
    }
}

/// Serves files to one after another.
fn origin(listener: &TcpListener, files: &[(String, Vec<u8>)]) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut head = String::new();
        let mut reader = BufReader::new((&mut stream).take(4096));
        while !head.ends_with("\r\n\r\n")
            && reader.read_line(&mut head).is_ok_and(|count| count > 0)
        {}
        let path = head.split(' ').nth(1).unwrap_or_default();
        let _ = match files.iter().find(|(name, _)| name == path) {
            Some((_, content)) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    content.len()
                );
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(content))
            }
            None => stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
        };
    }
}
