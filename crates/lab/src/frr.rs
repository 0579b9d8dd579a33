//! Routing daemons: one pair per namespace. The leaves' are configured by their switch agent, the exit's here.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::control::Part;
use crate::internet;
use crate::names;
use crate::topology::{
    EXIT, EXIT_ASN, EXIT_LOOPBACK, Fabric, LEAVES, Leaf, Machine, SERVICE_ADDRESS, SPINE,
    SPINE_ASN, SPINE_LOOPBACK,
};

/// The daemons of a router, in the order of their start.
pub const DAEMONS: [&str; 3] = ["zebra", "bfdd", "bgpd"];

/// Who has routing daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// The exit.
    Exit,
    /// The spine, which is a guest always.
    Spine,
    /// A leaf.
    Leaf(Leaf),
    /// A stand-in for a machine.
    Machine(Machine),
}

impl Router {
    /// Those of a fabric that are namespaces.
    pub fn namespaces(fabric: Fabric) -> Vec<Self> {
        if fabric == Fabric::Vm {
            return Vec::new();
        }
        let mut all = vec![Self::Exit];
        all.extend(LEAVES.map(Self::Leaf));
        all
    }

    /// Name of its sockets and configuration.
    pub fn pathspace(self) -> String {
        match self {
            Self::Exit => "exit".to_owned(),
            Self::Spine => SPINE.to_owned(),
            Self::Leaf(leaf) => leaf.name(),
            Self::Machine(machine) => machine.namespace(),
        }
    }

    fn namespace(self) -> String {
        match self {
            Self::Exit | Self::Spine => EXIT.to_owned(),
            Self::Leaf(leaf) => leaf.namespace(),
            Self::Machine(machine) => machine.namespace(),
        }
    }

    /// What its daemons start with. A leaf's agent brings everything else.
    pub fn config(self, fabric: Fabric) -> String {
        match self {
            Self::Exit => exit(fabric),
            Self::Spine => spine(),
            Self::Leaf(_) | Self::Machine(_) => {
                format!("frr defaults datacenter\nhostname {}\n", self.pathspace())
            }
        }
    }

    fn folders(self) -> [PathBuf; 2] {
        ["/etc/frr", "/run/frr"].map(|parent| Path::new(parent).join(self.pathspace()))
    }

    /// The daemons as parts of the lab.
    pub fn parts(self, fabric: Fabric) -> Vec<Part> {
        DAEMONS.into_iter().map(|daemon| self.part(daemon, fabric)).collect()
    }

    fn part(self, daemon: &str, fabric: Fabric) -> Part {
        let names = match self {
            Self::Leaf(leaf) if fabric == Fabric::Netns => Some(names::file(leaf)),
            Self::Exit if fabric == Fabric::Netns => Some(names::exit()),
            _ => None,
        };
        let pathspace = self.pathspace();
        let config = format!("/etc/frr/{pathspace}/frr.conf");
        let program = format!("/usr/lib/frr/{daemon}");
        // A daemon that does not find zebra tries again after ten seconds.
        let zebra = Path::new("/run/frr").join(&pathspace).join("zserv.api");
        let needs = (daemon != "zebra").then_some(zebra);
        let mut command = [&program, "-N", &pathspace].map(ToString::to_string).to_vec();
        command.extend(arguments(daemon, &config));
        if daemon == "zebra" && names.is_some() {
            // every name is a VRF
            command.push("-n".to_owned());
        }
        Part {
            name: format!("{pathspace}-{daemon}"),
            namespace: Some(self.namespace()),
            names,
            needs,
            taps: Vec::new(),
            command,
            environment: Vec::new(),
            restart: true,
        }
    }
}

/// Arguments of a daemon wherever it runs.
pub fn arguments(daemon: &str, config: &str) -> Vec<String> {
    // no telnet port
    let mut all = ["-P", "0", "-f", config, "-F", "datacenter", "--log", "stdout"].to_vec();
    if daemon == "zebra" {
        all.extend(["-s", "90000000"]);
    }
    all.into_iter().map(str::to_owned).collect()
}

/// Takes every route of the fabric and gives it the default route.
fn exit(fabric: Fabric) -> String {
    let overlay = fabric.has_tenant_networks();
    // First, because each daemon reads the file by itself: `exit` out of what it does not know would end its reading.
    let vrf = if overlay { internet::routing_vrf() } else { String::new() };
    let neighbours = match fabric {
        Fabric::Plain | Fabric::Netns => LEAVES.map(Leaf::name).to_vec(),
        Fabric::Vm => vec![SPINE.to_owned()],
    };
    let mut text = head("exit", &vrf, &neighbours);
    text.push_str(&router(EXIT_ASN, EXIT_LOOPBACK, &neighbours));
    write!(
        text,
        " !\n address-family ipv4 unicast\n  network {EXIT_LOOPBACK}/32\n  network {SERVICE_ADDRESS}/32\n  \
         neighbor LEAF activate\n  neighbor LEAF default-originate\n exit-address-family\n !\n \
         address-family ipv6 unicast\n  neighbor LEAF activate\n  neighbor LEAF default-originate\n \
         exit-address-family\n !\n \
         address-family l2vpn evpn\n  neighbor LEAF activate\n{}exit-address-family\nexit\n",
        if overlay { "  advertise-all-vni\n " } else { " " }
    )
    .expect("text");
    if overlay {
        text.push_str(&internet::routing());
    }
    text
}

/// Passes everything on, and has nothing of its own.
fn spine() -> String {
    let mut neighbours = vec!["exit".to_owned()];
    neighbours.extend(LEAVES.map(Leaf::name));
    let mut text = head(SPINE, "", &neighbours);
    text.push_str(&router(SPINE_ASN, SPINE_LOOPBACK, &neighbours));
    write!(
        text,
        " !\n address-family ipv4 unicast\n  network {SPINE_LOOPBACK}/32\n  neighbor LEAF activate\n \
         exit-address-family\n !\n address-family ipv6 unicast\n  neighbor LEAF activate\n exit-address-family\n !\n \
         address-family l2vpn evpn\n  neighbor LEAF activate\n exit-address-family\nexit\n"
    )
    .expect("text");
    text
}

fn head(name: &str, vrf: &str, neighbours: &[String]) -> String {
    let mut text = format!(
        "frr defaults datacenter\nhostname {name}\nno zebra nexthop kernel enable\n{vrf}!\nbfd\n profile metal\n  transmit-interval 100\n  receive-interval 100\n"
    );
    for name in neighbours {
        write!(text, "!\ninterface {name}\n ipv6 nd ra-interval 1\n ipv6 nd ra-lifetime 0\nexit\n")
            .expect("text");
    }
    text
}

fn router(asn: u32, id: Ipv4Addr, neighbours: &[String]) -> String {
    let mut text = format!(
        "!\nrouter bgp {asn}\n bgp router-id {id}\n no bgp default ipv4-unicast\n \
         bgp bestpath as-path multipath-relax\n coalesce-time 50\n neighbor LEAF peer-group\n neighbor LEAF remote-as external\n \
         neighbor LEAF advertisement-interval 0\n neighbor LEAF timers 3 9\n neighbor LEAF timers connect 1\n \
         neighbor LEAF bfd\n neighbor LEAF bfd profile metal\n \
         neighbor LEAF capability extended-nexthop\n"
    );
    for name in neighbours {
        writeln!(text, " neighbor {name} interface peer-group LEAF").expect("text");
    }
    text
}

/// Says that a folder is the lab's, so that `down` removes it and nobody else's.
const OURS: &str = "made-by-the-lab";

/// Makes the folders of all routers with their first configuration.
///
/// # Errors
/// A folder cannot be made, or somebody else has one of that name.
pub fn prepare(fabric: Fabric) -> Result<()> {
    Router::namespaces(fabric)
        .into_iter()
        .try_for_each(|router| prepare_one(router, &router.config(fabric)))
}

/// Makes the folders of one router.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_one(router: Router, config: &str) -> Result<()> {
    let user = nix::unistd::User::from_name("frr")?.context("package frr is needed")?;
    for folder in router.folders() {
        let there = folder.exists();
        anyhow::ensure!(
            !there || folder.join(OURS).exists(),
            "{} exists and is not the lab's; move it away",
            folder.display()
        );
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(OURS), ""))
            // the daemons give up root as soon as they can
            .and_then(|()| chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())))
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let [etc, _] = router.folders();
    fs::write(etc.join("frr.conf"), config)?;
    // vtysh complains without it
    fs::write(etc.join("vtysh.conf"), "service integrated-vtysh-config\n")?;
    Ok(())
}

/// Folders of ours that are there.
pub fn leftovers() -> Vec<PathBuf> {
    let machines = Machine::every().map(Router::Machine);
    let routers = Router::namespaces(Fabric::Netns);
    let folders = routers.into_iter().chain(machines).flat_map(Router::folders);
    folders.filter(|folder| folder.join(OURS).exists()).collect()
}

/// Removes the folders that [`prepare`] made.
///
/// # Errors
/// One cannot be removed.
pub fn remove() -> io::Result<()> {
    leftovers().into_iter().try_for_each(fs::remove_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_exit_gives_the_default_route() {
        expect![[r#"
            frr defaults datacenter
            hostname exit
            no zebra nexthop kernel enable
            !
            bfd
             profile metal
              transmit-interval 100
              receive-interval 100
            !
            interface leaf01
             ipv6 nd ra-interval 1
             ipv6 nd ra-lifetime 0
            exit
            !
            interface leaf02
             ipv6 nd ra-interval 1
             ipv6 nd ra-lifetime 0
            exit
            !
            router bgp 4200000021
             bgp router-id 10.0.0.21
             no bgp default ipv4-unicast
             bgp bestpath as-path multipath-relax
             coalesce-time 50
             neighbor LEAF peer-group
             neighbor LEAF remote-as external
             neighbor LEAF advertisement-interval 0
             neighbor LEAF timers 3 9
             neighbor LEAF timers connect 1
             neighbor LEAF bfd
             neighbor LEAF bfd profile metal
             neighbor LEAF capability extended-nexthop
             neighbor leaf01 interface peer-group LEAF
             neighbor leaf02 interface peer-group LEAF
             !
             address-family ipv4 unicast
              network 10.0.0.21/32
              network 10.255.0.1/32
              neighbor LEAF activate
              neighbor LEAF default-originate
             exit-address-family
             !
             address-family ipv6 unicast
              neighbor LEAF activate
              neighbor LEAF default-originate
             exit-address-family
             !
             address-family l2vpn evpn
              neighbor LEAF activate
             exit-address-family
            exit
        "#]]
        .assert_eq(&Router::Exit.config(Fabric::Plain));
        let overlay = Router::Exit.config(Fabric::Netns);
        let head: String = overlay.lines().take(7).map(|line| format!("{line}\n")).collect();
        expect![[r#"
            frr defaults datacenter
            hostname exit
            no zebra nexthop kernel enable
            !
            vrf vrf4009
             vni 4009
            exit-vrf
        "#]]
        .assert_eq(&head);
        let tail: String = overlay.lines().rev().take(24).map(|line| format!("{line}\n")).collect();
        expect![[r#"
            exit
             exit-address-family
              advertise ipv6 unicast
              advertise ipv4 unicast
             address-family l2vpn evpn
             !
             exit-address-family
              redistribute kernel
             address-family ipv6 unicast
             !
             exit-address-family
              redistribute kernel
             address-family ipv4 unicast
             !
             bgp router-id 10.0.0.21
            router bgp 4200000021 vrf vrf4009
            !
            exit
             exit-address-family
              advertise-all-vni
              neighbor LEAF activate
             address-family l2vpn evpn
             !
             exit-address-family
        "#]]
        .assert_eq(&tail);
    }

    #[test]
    fn the_spine_passes_everything_on() {
        expect![[r#"
            frr defaults datacenter
            hostname spine
            no zebra nexthop kernel enable
            !
            bfd
             profile metal
              transmit-interval 100
              receive-interval 100
            !
            interface exit
             ipv6 nd ra-interval 1
             ipv6 nd ra-lifetime 0
            exit
            !
            interface leaf01
             ipv6 nd ra-interval 1
             ipv6 nd ra-lifetime 0
            exit
            !
            interface leaf02
             ipv6 nd ra-interval 1
             ipv6 nd ra-lifetime 0
            exit
            !
            router bgp 4200000031
             bgp router-id 10.0.0.31
             no bgp default ipv4-unicast
             bgp bestpath as-path multipath-relax
             coalesce-time 50
             neighbor LEAF peer-group
             neighbor LEAF remote-as external
             neighbor LEAF advertisement-interval 0
             neighbor LEAF timers 3 9
             neighbor LEAF timers connect 1
             neighbor LEAF bfd
             neighbor LEAF bfd profile metal
             neighbor LEAF capability extended-nexthop
             neighbor exit interface peer-group LEAF
             neighbor leaf01 interface peer-group LEAF
             neighbor leaf02 interface peer-group LEAF
             !
             address-family ipv4 unicast
              network 10.0.0.31/32
              neighbor LEAF activate
             exit-address-family
             !
             address-family ipv6 unicast
              neighbor LEAF activate
             exit-address-family
             !
             address-family l2vpn evpn
              neighbor LEAF activate
             exit-address-family
            exit
        "#]]
        .assert_eq(&Router::Spine.config(Fabric::Vm));
        let exit = Router::Exit.config(Fabric::Vm);
        assert!(exit.contains(" neighbor spine interface peer-group LEAF\n"), "{exit}");
        assert!(!exit.contains("leaf01") && exit.contains("vrf vrf4009\n vni 4009\n"), "{exit}");
    }

    #[test]
    fn daemons_run_in_their_namespace() {
        let lines: Vec<_> = Router::Leaf(LEAVES[1])
            .parts(Fabric::Plain)
            .into_iter()
            .map(|part| {
                format!(
                    "{} [{}] {}",
                    part.name,
                    part.namespace.unwrap_or_default(),
                    part.command.join(" ")
                )
            })
            .collect();
        expect![[r#"
            leaf02-zebra [mlab-leaf02] /usr/lib/frr/zebra -N leaf02 -P 0 -f /etc/frr/leaf02/frr.conf -F datacenter --log stdout -s 90000000
            leaf02-bfdd [mlab-leaf02] /usr/lib/frr/bfdd -N leaf02 -P 0 -f /etc/frr/leaf02/frr.conf -F datacenter --log stdout
            leaf02-bgpd [mlab-leaf02] /usr/lib/frr/bgpd -N leaf02 -P 0 -f /etc/frr/leaf02/frr.conf -F datacenter --log stdout"#]].assert_eq(&lines.join("\n"));
    }
}
