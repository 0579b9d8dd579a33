//! A leaf, an exit and a machine as network namespaces with real FRR. Everything goes when it is dropped.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use switch::config::Config;

use crate::running::settings;

const DAEMONS: &str = "/usr/lib/frr";

pub(crate) struct World {
    name: String,
    /// Where names of namespaces are the host's.
    host: File,
    /// Where they are the leaf's: its VRFs.
    leaf: Option<File>,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    /// `None` when this machine cannot have one: no root or no FRR.
    pub(crate) fn new() -> Option<Self> {
        Self::make(false)
    }

    /// With a leaf whose VRFs are network namespaces.
    pub(crate) fn with_vrfs() -> Option<Self> {
        Self::make(true)
    }

    fn make(vrfs: bool) -> Option<Self> {
        if !Uid::effective().is_root() || !Path::new(DAEMONS).join("bgpd").exists() {
            eprintln!("not run: this needs root and FRR");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mswitch-{}-{count}", std::process::id());
        let host = File::open("/proc/thread-self/ns/mnt").unwrap();
        // The first namespace of all makes the folder.
        run(&format!("ip netns add {name}"));
        run(&format!("ip netns del {name}"));
        let leaf = vrfs.then(|| std::thread::spawn(private_names).join().unwrap());
        let world = Self { name, host, leaf, folder: tempfile::tempdir().unwrap() };
        let (leaf, exit, machine) = (world.space("leaf"), world.space("exit"), world.space("m1"));
        for space in [&leaf, &exit, &machine] {
            run(&format!("ip netns add {space}"));
            run(&format!("ip -n {space} link set lo up"));
        }
        run(&format!("ip link add up0 netns {leaf} type veth peer name leaf netns {exit}"));
        run(&format!("ip link add swp1 netns {leaf} type veth peer name lan0 netns {machine}"));
        run(&format!("ip link add swp2 netns {leaf} type veth peer name other2 netns {machine}"));
        for (space, link) in [
            (&leaf, "up0"),
            (&leaf, "swp1"),
            (&leaf, "swp2"),
            (&exit, "leaf"),
            (&machine, "lan0"),
            (&machine, "other2"),
        ] {
            run(&format!("ip -n {space} link set {link} up"));
        }
        run(&format!("ip -n {leaf} link add boot type bridge forward_delay 0"));
        run(&format!("ip -n {leaf} addr add 10.0.1.1/24 dev boot"));
        run(&format!("ip -n {leaf} addr add 10.0.0.11/32 dev lo"));
        run(&format!("ip -n {leaf} link set boot up"));
        for address in ["10.128.0.1/32", "10.66.0.1/32", "2001:db8:1::1/128"] {
            run(&format!("ip -n {machine} addr add {address} dev lo"));
        }
        std::thread::scope(|scope| {
            for space in ["leaf", "exit", "m1"] {
                scope.spawn(|| world.start_frr(space));
            }
        });
        world.vtysh("exit", "router bgp 4200000021\nbgp router-id 10.0.0.21\nno bgp ebgp-requires-policy\nneighbor leaf interface remote-as external\naddress-family ipv4 unicast\nneighbor leaf default-originate\nexit-address-family\naddress-family ipv6 unicast\nneighbor leaf activate\nneighbor leaf default-originate\n");
        world.vtysh("m1", "route-map loopback permit 10\nmatch interface lo\nexit\nrouter bgp 4210000001\nbgp router-id 10.128.0.1\nno bgp ebgp-requires-policy\nneighbor lan0 interface remote-as external\naddress-family ipv4 unicast\nredistribute connected route-map loopback\nexit-address-family\naddress-family ipv6 unicast\nredistribute connected route-map loopback\nneighbor lan0 activate\n");
        Some(world)
    }

    /// Name of a namespace and of its daemons' pathspace.
    pub(crate) fn space(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    pub(crate) fn start_frr(&self, of: &str) {
        let space = self.space(of);
        for folder in ["/var/run/frr", "/etc/frr"] {
            let folder = Path::new(folder).join(&space);
            fs::create_dir_all(&folder).unwrap();
            run(&format!("chown frr:frr {}", folder.display()));
        }
        let vrfs = of == "leaf" && self.leaf.is_some();
        self.within(of, async || {
            for daemon in ["zebra", "bfdd", "bgpd"] {
                let own = match daemon {
                    "zebra" if vrfs => " -s 90000000 -n",
                    "bfdd" => "",
                    _ => " -s 90000000",
                };
                run(&format!("{DAEMONS}/{daemon} -d -N {space} -F datacenter -A 127.0.0.1{own}"));
            }
        });
    }

    /// A crash of all of them.
    pub(crate) fn kill_frr(&self, of: &str) {
        self.kill(of, &["bgpd", "bfdd", "zebra"]);
    }

    /// A crash of some of them.
    pub(crate) fn kill(&self, of: &str, daemons: &[&str]) {
        for daemon in daemons {
            let file = format!("/var/run/frr/{}/{daemon}.pid", self.space(of));
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let Ok(pid) = text.trim().parse() else { continue };
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            while is_running(pid) {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let _ = fs::remove_file(file);
        }
    }

    /// Configures the daemons of a namespace, or with `show` asks them.
    pub(crate) fn vtysh(&self, of: &str, lines: &str) -> String {
        let space = self.space(of);
        let mut command = Command::new("vtysh");
        command.args(["-N", &space]);
        if lines.starts_with("show ") {
            command.args(["-c", lines]);
        } else {
            command.args(["-c", "configure terminal"]);
            for line in lines.lines() {
                command.args(["-c", line]);
            }
        }
        let output = command.stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What bgpd of a namespace says about a neighbour.
    pub(crate) fn neighbour(&self, of: &str, name: &str) -> serde_json::Value {
        let text = self.vtysh(of, &format!("show bgp neighbors {name} json"));
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        value[name].take()
    }

    /// The answer of `ip` in a namespace.
    pub(crate) fn ip(&self, of: &str, arguments: &str) -> String {
        let line = format!("ip -n {} {arguments}", self.space(of));
        self.on_host(|| run(&line))
    }

    /// The answer of `ip` in the VRF of a tenant on the leaf.
    pub(crate) fn ip_in_vrf(&self, vrf: &str, arguments: &str) -> String {
        let line = format!("ip -n {vrf} {arguments}");
        self.within("leaf", async || run(&line))
    }

    /// With the host's names of namespaces.
    fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let host = self.host.try_clone().unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).unwrap();
                setns(host, CloneFlags::CLONE_NEWNS).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn config(&self, api_url: &str) -> Arc<Config> {
        Arc::new(toml::from_str(&self.config_text(api_url)).unwrap())
    }

    pub(crate) fn config_text(&self, api_url: &str) -> String {
        let backend = if self.leaf.is_some() { "netns" } else { "plain" };
        let text = settings(api_url, self.folder.path(), backend);
        format!("{text}\n[frr]\npathspace = \"{}\"\n", self.space("leaf"))
    }

    /// Runs something inside a namespace, beside what runs here.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        of: &str,
        work: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> T {
        let (file, names) = (self.file(of), self.names(of));
        let (send, receive) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || send.send(inside(file, names, work)).ok());
        receive.await.unwrap()
    }

    fn file(&self, of: &str) -> File {
        let path = format!("/run/netns/{}", self.space(of));
        self.on_host(|| File::open(path).unwrap())
    }

    fn names(&self, of: &str) -> File {
        let leaf = self.leaf.as_ref().filter(|_| of == "leaf");
        leaf.unwrap_or(&self.host).try_clone().unwrap()
    }

    /// Starts something inside a namespace, on a thread of its own.
    pub(crate) fn spawn(
        &self,
        of: &str,
        work: impl AsyncFnOnce() + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let (file, names) = (self.file(of), self.names(of));
        std::thread::spawn(move || inside(file, names, work))
    }

    /// Runs something inside a namespace, on a thread of its own.
    pub(crate) fn within<T: Send>(&self, of: &str, work: impl AsyncFnOnce() -> T + Send) -> T {
        let (file, names) = (self.file(of), self.names(of));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| inside(file, names, work));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Dead but not yet buried is dead, as soon as no thread of it holds its sockets.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let lives = |rest: &str| !rest.is_empty() && (!rest.starts_with('Z') || threads > 1);
    stat.rsplit(") ").next().is_some_and(lives)
}

/// A mount namespace in which no network namespace has a name yet; it lasts as long as the file is open.
fn private_names() -> File {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    mount(Some("none"), "/run/netns", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    File::open("/proc/thread-self/ns/mnt").unwrap()
}

/// One thread only: others would be outside.
fn inside<T>(namespace: File, names: File, work: impl AsyncFnOnce() -> T) -> T {
    unshare(CloneFlags::CLONE_FS).unwrap();
    setns(names, CloneFlags::CLONE_NEWNS).unwrap();
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work())
}

impl Drop for World {
    fn drop(&mut self) {
        for of in ["leaf", "exit", "m1"] {
            self.kill_frr(of);
            let space = self.space(of);
            self.on_host(|| Command::new("ip").args(["netns", "del", &space]).status().ok());
            for folder in ["/var/run/frr", "/etc/frr"] {
                let _ = fs::remove_dir_all(Path::new(folder).join(&space));
            }
        }
    }
}

fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
