//! The routers of the fabric `vm`: two leaves, a spine and the exit, each a guest with a kernel of its own. What each does
//! when it starts is a script; [`Node::script`] has it, and [`Node::cards`] has where its cables go.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use guest::kernel::Kernel;
use guest::{Card, Channel, Image, Link, Spec};

use crate::control::Part;
use crate::fabric::{self, ROUTER, UNDERLAY_MTU};
use crate::frr::{self, DAEMONS, Router};
use crate::launch::Tap;
use crate::paths::Paths;
use crate::topology::{
    CONTROL_LINK, EXIT, EXIT_LOOPBACK, Fabric, HOST_NETWORK, INTERNET, LEAVES, Leaf, Machine,
    SERVICE_ADDRESS, SPINE, SPINE_LOOPBACK,
};
use crate::{config, internet, spec};

/// MiB of memory of a guest.
const MEMORY: u32 = 160;
/// Where sockets and consoles are, seen from the lab's folder.
const FOLDER: &str = "run";
/// The exit's card to the control plane.
const CONTROL: &str = "host0";
/// Programs that `lab ssh` needs on a leaf, to come from inside a tenant's network.
const SSH: &str = "/usr/bin/ssh";

/// A router that is a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Between all others.
    Spine,
    /// The way to the control plane and to the internet.
    Exit,
    /// A leaf.
    Leaf(Leaf),
}

/// A cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cable {
    /// To another guest.
    To(Node),
    /// A tap of the host.
    Tap(Tap),
}

impl Node {
    /// All of them, in the order of their start.
    pub fn all() -> [Self; 4] {
        let [one, two] = LEAVES;
        [Self::Spine, Self::Exit, Self::Leaf(one), Self::Leaf(two)]
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::Spine => SPINE.to_owned(),
            Self::Exit => "exit".to_owned(),
            Self::Leaf(leaf) => leaf.name(),
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|node| node.name() == name)
    }

    /// The way to run commands in it, for who works in the lab's folder.
    pub fn channel(self) -> Channel {
        Channel::new(Path::new(FOLDER), &self.name())
    }

    /// QEMU's control socket, seen from the lab's folder.
    pub fn qmp(self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.qmp", self.name()))
    }

    /// QEMU's name for the wire of a card.
    pub fn wire(self, card: &str, ports: u8) -> Option<String> {
        let cards = self.cards(ports);
        let index = cards.iter().position(|(name, _)| name == card)?;
        Some(format!("net{index}"))
    }

    /// Its cards by name, with their cables.
    pub fn cards(self, ports: u8) -> Vec<(String, Cable)> {
        let tap = |places: &[(&str, &str)]| {
            let places = places.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Cable::Tap(Tap::Either(places.collect()))
        };
        match self {
            Self::Spine => {
                let others = [Self::Exit].into_iter().chain(LEAVES.map(Self::Leaf));
                others.map(|node| (node.name(), Cable::To(node))).collect()
            }
            Self::Exit => vec![
                (SPINE.to_owned(), Cable::To(Self::Spine)),
                (CONTROL.to_owned(), tap(&[(EXIT, fabric::TO_EXIT)])),
                (internet::CARD.to_owned(), tap(&[(INTERNET, internet::UPLINK)])),
            ],
            Self::Leaf(leaf) => {
                let mut cards = vec![("up0".to_owned(), Cable::To(Self::Spine))];
                cards.extend(Machine::all(ports).map(|machine| {
                    // a stand-in takes it along
                    let here = (&leaf.namespace()[..], &fabric::end(machine)[..]);
                    let there = (&machine.namespace()[..], &fabric::card(leaf)[..]);
                    (machine.port(), tap(&[here, there]))
                }));
                cards
            }
        }
    }

    fn mac(self, card: usize) -> String {
        let number = match self {
            Self::Spine => 1,
            Self::Exit => 2,
            Self::Leaf(leaf) => 16 + leaf.number,
        };
        format!("52:54:00:6c:{number:02x}:{card:02x}")
    }

    fn router(self) -> Router {
        match self {
            Self::Spine => Router::Spine,
            Self::Exit => Router::Exit,
            Self::Leaf(leaf) => Router::Leaf(leaf),
        }
    }

    /// Addresses and devices, for `ip -batch`.
    fn network(self, ports: u8) -> String {
        match self {
            Self::Leaf(leaf) => fabric::inside_leaf(leaf, ports),
            Self::Spine => self.underlay(&SPINE_LOOPBACK.to_string()),
            Self::Exit => {
                let [control, own] = CONTROL_LINK;
                let mut text = self.underlay(&EXIT_LOOPBACK.to_string());
                write!(
                    text,
                    "address add {own}/30 dev {CONTROL}\n\
                     link set {CONTROL} up\n\
                     route add {SERVICE_ADDRESS}/32 via {control} dev {CONTROL}\n\
                     route add {HOST_NETWORK} via {control} dev {CONTROL}\n"
                )
                .expect("text");
                text + &internet::inside_guest()
            }
        }
    }

    fn underlay(self, loopback: &str) -> String {
        let mut text = format!("link set lo up\naddress add {loopback}/32 dev lo\n");
        for (card, cable) in self.cards(0) {
            if matches!(cable, Cable::To(_)) {
                writeln!(text, "link set {card} mtu {UNDERLAY_MTU} up").expect("text");
            }
        }
        text
    }

    /// What it does when it starts: its network, then programs that are started again when they end.
    pub fn script(self, ports: u8) -> String {
        let mut text = String::new();
        for (switch, value) in ROUTER {
            writeln!(text, "echo {value} >/proc/sys/net/{switch}").expect("text");
        }
        write!(
            text,
            "ip -batch - <<'END'\n{}END\n\
             mkdir -p {PIDS} /run/frr\n\
             chown frr:frr /run/frr\n\
             export NO_COLOR=1\n\
             keep() {{\n    name=$1\n    shift\n    while :; do\n        \"$@\" &\n        echo $! >{PIDS}/$name\n        wait $!\n        sleep 1\n    done &\n}}\n",
            self.network(ports)
        )
        .expect("text");
        for daemon in DAEMONS {
            let arguments = frr::arguments(daemon, "/etc/frr/frr.conf").join(" ");
            writeln!(text, "keep {daemon} /usr/lib/frr/{daemon} {arguments}").expect("text");
            if daemon == "zebra" {
                // one that does not find it tries again after ten seconds
                text.push_str("until [ -S /run/frr/zserv.api ]; do sleep 0.1; done\n");
            }
        }
        if let Self::Leaf(leaf) = self {
            for agent in AGENTS {
                let config = Paths::in_guest().leaf(leaf).join(format!("{agent}.toml"));
                let config = config.display();
                writeln!(text, "keep {agent} /usr/sbin/metal-{agent} serve --config {config}")
                    .expect("text");
            }
        }
        text
    }

    /// What its disk is made of.
    fn image(self, paths: &Paths, lab: spec::Spec) -> Image {
        let inside = Paths::in_guest();
        let mut image = Image::leaf()
            .text("/etc/frr/frr.conf", 0o644, &self.router().config(Fabric::Vm))
            .text("/etc/frr/vtysh.conf", 0o644, "service integrated-vtysh-config\n")
            .start(&self.script(lab.ports()));
        if let Self::Leaf(leaf) = self {
            for agent in AGENTS {
                let program = format!("metal-{agent}");
                image = image
                    .file(stripped(paths, &program), format!("/usr/sbin/{program}"))
                    .file(paths.token(agent), inside.token(agent));
            }
            let text = |name: &str| inside.leaf(leaf).join(name).display().to_string();
            image = image
                .text(&text("switch.toml"), 0o644, &config::switch(&inside, leaf, lab))
                .text(&text("boot.toml"), 0o644, &config::boot(&inside, leaf))
                .file(paths.ssh_key(), inside.ssh_key())
                .program(SSH)
                .tree("/usr/lib/ipxe")
                .module("nf_tables");
        }
        image
    }

    fn disk(self, paths: &Paths) -> PathBuf {
        paths.lab().join("guests").join(format!("{}.ext4", self.name()))
    }

    /// The guest as a part of the lab. It works in the lab's folder, so its paths are relative.
    pub fn part(self, paths: &Paths, kernel: &Path, ports: u8) -> Part {
        let mut taps = Vec::new();
        let cards = self.cards(ports).into_iter().enumerate().map(|(index, (name, cable))| {
            let link = match cable {
                Cable::To(other) => {
                    Link::Socket { local: end(self, other), remote: end(other, self) }
                }
                Cable::Tap(tap) => {
                    taps.push(tap);
                    Link::Fd(format!("{{tap{}}}", taps.len() - 1))
                }
            };
            Card { name, mac: self.mac(index), link }
        });
        let spec = Spec {
            name: self.name(),
            folder: FOLDER.into(),
            kernel: kernel.to_owned(),
            disk: self.disk(paths),
            memory_mb: MEMORY,
            cards: cards.collect(),
        };
        Part {
            name: self.name(),
            namespace: None,
            names: None,
            needs: None,
            taps,
            command: spec.command(),
            environment: Vec::new(),
            restart: true,
        }
    }
}

/// Agents of a leaf; their tokens are called so, too.
const AGENTS: [&str; 2] = ["switch", "boot"];
/// Who runs in a guest, by name.
pub const PIDS: &str = "/run/metal";

/// Where frames from one to the other arrive.
fn end(at: Node, from: Node) -> PathBuf {
    Path::new(FOLDER).join(format!("{}-{}.wire", at.name(), from.name()))
}

/// A program of the workspace without what only debuggers read, which is most of it.
fn stripped(paths: &Paths, program: &str) -> PathBuf {
    paths.lab().join("guests").join(program)
}

/// Makes the disks.
///
/// # Errors
/// A program is not built or not installed.
pub fn build(paths: &Paths, kernel: &Kernel, lab: spec::Spec) -> Result<()> {
    let folder = paths.lab().join("guests");
    fs::create_dir_all(&folder)?;
    for agent in AGENTS {
        let program = format!("metal-{agent}");
        let built = match agent {
            // what it costs is most of what a leaf does
            "switch" => paths.static_program(&program),
            _ => paths.program(&program),
        };
        let mut strip = guest::shell::command("strip", ["-o"]);
        strip.arg(stripped(paths, &program)).arg(built);
        guest::shell::run(&mut strip).context("package binutils is needed")?;
    }
    std::thread::scope(|scope| {
        let build = |node: Node| move || node.image(paths, lab).build(kernel, &node.disk(paths));
        let all = Node::all().map(|node| (node, scope.spawn(build(node))));
        for (node, thread) in all {
            let built = thread.join().map_err(|_| anyhow::anyhow!("a panic"))?;
            built.with_context(|| format!("cannot make the guest {}", node.name()))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn paths() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().expect("folder");
        let paths = Paths::new(root.path()).expect("folder");
        (root, paths)
    }

    #[test]
    fn cables_have_two_ends() {
        for node in Node::all() {
            assert_eq!(Node::parse(&node.name()), Some(node));
            for (_, cable) in node.cards(3) {
                let Cable::To(other) = cable else { continue };
                let back = other.cards(3).into_iter().any(|(_, back)| back == Cable::To(node));
                assert!(back, "{} has no cable to {}", other.name(), node.name());
            }
        }
        let leaf = Node::Leaf(LEAVES[0]);
        assert_eq!(leaf.wire("swp2", 3).as_deref(), Some("net2"));
        assert_eq!(leaf.wire("swp4", 3), None);
    }

    #[test]
    fn a_leaf_starts_so() {
        let text = Node::Leaf(LEAVES[0]).script(1);
        expect![[r#"
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
            echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
            echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy
            echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
            ip -batch - <<'END'
            link set lo up
            address add 10.0.0.11/32 dev lo
            link set up0 mtu 9216 up
            link add boot type bridge forward_delay 0 stp_state 0 mcast_snooping 0
            address add 10.0.1.1/24 dev boot
            address add fd99:0:0:1::1/64 dev boot nodad
            link set boot up
            link set swp1 mtu 9216
            link set swp1 master boot
            link set swp1 up
            END
            mkdir -p /run/metal /run/frr
            chown frr:frr /run/frr
            export NO_COLOR=1
            keep() {
                name=$1
                shift
                while :; do
                    "$@" &
                    echo $! >/run/metal/$name
                    wait $!
                    sleep 1
                done &
            }
            keep zebra /usr/lib/frr/zebra -P 0 -f /etc/frr/frr.conf -F datacenter --log stdout -s 90000000
            until [ -S /run/frr/zserv.api ]; do sleep 0.1; done
            keep bfdd /usr/lib/frr/bfdd -P 0 -f /etc/frr/frr.conf -F datacenter --log stdout
            keep bgpd /usr/lib/frr/bgpd -P 0 -f /etc/frr/frr.conf -F datacenter --log stdout
            keep switch /usr/sbin/metal-switch serve --config /lab/target/lab/leaf01/switch.toml
            keep boot /usr/sbin/metal-boot serve --config /lab/target/lab/leaf01/boot.toml
        "#]].assert_eq(&text);
    }

    #[test]
    fn the_exit_starts_so() {
        let text = Node::Exit.script(1);
        let network = text.split("END\n").next().expect("text");
        expect![[r#"
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
            echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
            echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy
            echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
            ip -batch - <<'END'
            link set lo up
            address add 10.0.0.21/32 dev lo
            link set spine mtu 9216 up
            address add 169.254.78.2/30 dev host0
            link set host0 up
            route add 10.255.0.1/32 via 169.254.78.1 dev host0
            route add 169.254.77.0/30 via 169.254.78.1 dev host0
            link add vrf4009 type vrf table 4009
            link set vrf4009 up
            link add vni4009 mtu 9000 type vxlan id 4009 local 10.0.0.21 dstport 4789 nolearning
            link add br4009 mtu 9000 type bridge
            link set br4009 master vrf4009 addrgenmode none
            link set vni4009 master br4009 addrgenmode none
            link set br4009 up
            link set vni4009 up
            link set inet0 master vrf4009
            link set inet0 up
            address add 192.0.2.0/31 dev inet0
            address add 2001:db8:77::/127 dev inet0 nodad
            route add 0.0.0.0/0 via 192.0.2.1 dev inet0 vrf vrf4009
            route add ::/0 via 2001:db8:77::1 dev inet0 vrf vrf4009
        "#]]
        .assert_eq(network);
    }

    #[test]
    fn a_leaf_is_plugged_in_so() {
        let (_root, paths) = paths();
        let part = Node::Leaf(LEAVES[1]).part(&paths, Path::new("vmlinuz"), 2);
        let wires: Vec<_> = part.command.iter().filter(|word| word.contains(",id=net")).collect();
        expect![[r#"
            (
                [
                    "dgram,local.type=unix,local.path=run/leaf02-spine.wire,remote.type=unix,remote.path=run/spine-leaf02.wire,id=net0",
                    "tap,fd={tap0},id=net1",
                    "tap,fd={tap1},id=net2",
                ],
                [
                    Either(
                        [
                            (
                                "mlab-leaf02",
                                "end1",
                            ),
                            (
                                "mlab-m1",
                                "lan1",
                            ),
                        ],
                    ),
                    Either(
                        [
                            (
                                "mlab-leaf02",
                                "end2",
                            ),
                            (
                                "mlab-m2",
                                "lan1",
                            ),
                        ],
                    ),
                ],
            )
        "#]].assert_debug_eq(&(wires, part.taps));
    }
}
