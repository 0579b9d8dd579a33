//! The world behind the exit: a namespace that stands for the internet, and the VRF at the exit that leads to it.
//!
//! Only what is announced into that VRF under its VXLAN id is reached from there, and that is what firewalls announce.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::names;
use crate::netns;
use crate::shell;
use crate::topology::{EXIT, EXIT_ASN, EXIT_LOOPBACK, INTERNET, INTERNET_PREFIXES, INTERNET_VNI};

/// Somebody in the internet.
pub const SOMEBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1)),
];

/// The ends of the link between exit and internet, the exit's first.
const LINK: [[&str; 2]; 2] = [["192.0.2.0", "192.0.2.1"], ["2001:db8:77::", "2001:db8:77::1"]];

/// As everywhere between leaves and firewalls.
const MTU: u32 = 9000;
/// The exit's card to the internet.
pub const CARD: &str = "inet0";
/// The other end of that link.
pub const UPLINK: &str = "up0";

/// Makes namespace, VRF and the link between them. The exit's names are there already.
///
/// # Errors
/// Not root.
pub fn make() -> Result<()> {
    batch(&format!("netns add {INTERNET}\n"))?;
    let internet = File::open(netns::file(INTERNET))?;
    link(&internet).context("cannot make the way to the internet")?;
    netns::within(INTERNET, outside).context("cannot make the internet")?;
    in_names(|| netns::within(&vrf(), inside)).context("cannot make the VRF of the internet")
}

/// Makes the namespace with a tap for an exit that is a guest.
///
/// # Errors
/// Not root.
pub fn make_for_guest() -> Result<()> {
    batch(&format!("netns add {INTERNET}\n"))?;
    netns::within(INTERNET, || {
        batch(&format!("tuntap add dev {UPLINK} mode tap vnet_hdr\n"))?;
        outside()
    })
    .context("cannot make the internet")
}

/// What an exit with VRFs of the kernel makes of its card to the internet.
pub fn inside_guest() -> String {
    let (vrf, bridge, vxlan) = (vrf(), format!("br{INTERNET_VNI}"), format!("vni{INTERNET_VNI}"));
    let [[own4, out4], [own6, out6]] = LINK;
    format!(
        "link add {vrf} type vrf table {INTERNET_VNI}\n\
         link set {vrf} up\n\
         link add {vxlan} mtu {MTU} type vxlan id {INTERNET_VNI} local {EXIT_LOOPBACK} dstport 4789 nolearning\n\
         link add {bridge} mtu {MTU} type bridge\n\
         link set {bridge} master {vrf} addrgenmode none\n\
         link set {vxlan} master {bridge} addrgenmode none\n\
         link set {bridge} up\n\
         link set {vxlan} up\n\
         link set {CARD} master {vrf}\n\
         link set {CARD} up\n\
         address add {own4}/31 dev {CARD}\n\
         address add {own6}/127 dev {CARD} nodad\n\
         route add 0.0.0.0/0 via {out4} dev {CARD} vrf {vrf}\n\
         route add ::/0 via {out6} dev {CARD} vrf {vrf}\n"
    )
}

/// In the exit's namespace with the exit's names.
fn in_names<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    netns::within(EXIT, || names::by(&names::exit(), work))
}

/// The exit sees its own names only, so the internet's namespace is passed on as an open file.
fn link(internet: &File) -> Result<()> {
    let (vrf, internet) =
        (vrf(), format!("/proc/{}/fd/{}", std::process::id(), internet.as_raw_fd()));
    in_names(|| {
        // tunnels are made from the underlay, so that packets with tenants' packets inside travel there
        batch(&format!(
            "netns add {vrf}\n\
             link add vni{INTERNET_VNI} netns {vrf} mtu {MTU} type vxlan id {INTERNET_VNI} local {EXIT_LOOPBACK} dstport 4789 nolearning\n\
             link add inet0 netns {vrf} type veth peer name up0 netns {internet}\n"
        ))
    })
}

fn outside() -> Result<()> {
    let mut commands = "link set lo up\nlink set up0 up\n".to_owned();
    for (index, somebody) in SOMEBODY.into_iter().enumerate() {
        let [exit, own] = LINK[index];
        let (length, host) = if somebody.is_ipv4() { ("31", "32") } else { ("127", "128") };
        let nodad = if somebody.is_ipv4() { "" } else { " nodad" };
        write!(
            commands,
            "address add {own}/{length} dev up0{nodad}\naddress add {somebody}/{host} dev lo{nodad}\n\
             route add {} via {exit} dev up0\n",
            INTERNET_PREFIXES[index]
        )?;
    }
    batch(&commands)
}

/// Inside the VRF: the end of the tunnels, and the way out.
fn inside() -> Result<()> {
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(Path::new("/proc/sys/net").join(switch), "1")?;
    }
    for switch in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{switch}/rp_filter"), "0")?;
    }
    let (bridge, vxlan) = (format!("br{INTERNET_VNI}"), format!("vni{INTERNET_VNI}"));
    let [[own4, out4], [own6, out6]] = LINK;
    batch(&format!(
        "link set lo up\n\
         link add {bridge} mtu {MTU} type bridge\n\
         link set {bridge} addrgenmode none\n\
         link set {vxlan} master {bridge} addrgenmode none\n\
         link set {bridge} up\n\
         link set {vxlan} up\n\
         link set inet0 up\n\
         address add {own4}/31 dev inet0\n\
         address add {own6}/127 dev inet0 nodad\n\
         route add 0.0.0.0/0 via {out4} dev inet0\n\
         route add ::/0 via {out6} dev inet0\n"
    ))
}

fn batch(commands: &str) -> Result<()> {
    shell::feed(&mut shell::command("ip", ["-batch", "-"]), commands).map(drop)
}

fn vrf() -> String {
    format!("vrf{INTERNET_VNI}")
}

/// What the exit's routing daemons must hear first: each reads the file by itself, and `exit` out of what one does not
/// know would end its reading.
pub fn routing_vrf() -> String {
    format!("!\nvrf {}\n vni {INTERNET_VNI}\nexit-vrf\n", vrf())
}

/// The BGP instance: the way out is the kernel's.
pub fn routing() -> String {
    let mut text =
        format!("!\nrouter bgp {EXIT_ASN} vrf {}\n bgp router-id {EXIT_LOOPBACK}\n", vrf());
    for family in ["ipv4", "ipv6"] {
        let _ = write!(
            text,
            " !\n address-family {family} unicast\n  redistribute kernel\n exit-address-family\n"
        );
    }
    text.push_str(
        " !\n address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n exit-address-family\nexit\n",
    );
    text
}
