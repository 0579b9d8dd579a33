//! The world behind the exit: a namespace that stands for the internet, and the VRF at the exit that leads to it.
//!
//! Only what is announced into that VRF under its VXLAN id is reached from there, and that is what firewalls announce.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// Makes namespace, VRF and the link between them. The exit's names are there already.
///
/// # Errors
/// Not root.
pub fn make() -> Result<()> {
    batch(&format!("netns add {INTERNET}\n"))?;
    // the exit sees its own names only
    let internet = fs::File::open(netns::file(INTERNET))?;
    let internet = format!("/proc/{}/fd/{}", std::process::id(), {
        use std::os::fd::AsRawFd;
        internet.as_raw_fd()
    });
    let vrf = vrf();
    netns::within(EXIT, || {
        names::by(&names::exit(), || {
            batch(&format!("netns add {vrf}\n"))?;
            // made from the underlay, so that packets with tenants' packets inside travel there
            batch(&format!(
                "link add vni{INTERNET_VNI} netns {vrf} mtu {MTU} type vxlan id {INTERNET_VNI} local {EXIT_LOOPBACK} dstport 4789 nolearning\n\
                 link add inet0 netns {vrf} type veth peer name up0 netns {internet}\n"
            ))?;
            netns::within(&vrf, || inside())
        })
    })
    .context("cannot make the way to the internet")?;
    netns::within(INTERNET, || {
        forwards(false)?;
        let mut commands = "link set lo up\nlink set up0 up\n".to_owned();
        for (index, somebody) in SOMEBODY.into_iter().enumerate() {
            let [exit, own] = LINK[index];
            let (length, host) = if somebody.is_ipv4() { (31, 32) } else { (127, 128) };
            write!(
                commands,
                "address add {own}/{length} dev up0\naddress add {somebody}/{host} dev lo\n\
                 route add {} via {exit} dev up0\n",
                INTERNET_PREFIXES[index]
            )?;
        }
        batch(&commands)
    })
    .context("cannot make the internet")
}

/// Inside the VRF: the end of the tunnels, and the way out.
fn inside() -> Result<()> {
    forwards(true)?;
    let mut commands = format!(
        "link set lo up\nlink add br{INTERNET_VNI} mtu {MTU} type bridge\n\
         link set br{INTERNET_VNI} addrgenmode none\nlink set vni{INTERNET_VNI} master br{INTERNET_VNI} addrgenmode none\n\
         link set br{INTERNET_VNI} up\nlink set vni{INTERNET_VNI} up\nlink set inet0 up\n"
    );
    for ([own, internet], length) in LINK.into_iter().zip([31, 127]) {
        let default = if length == 31 { "0.0.0.0/0" } else { "::/0" };
        write!(
            commands,
            "address add {own}/{length} dev inet0\nroute add {default} via {internet} dev inet0\n"
        )?;
    }
    batch(&commands)
}

/// Addresses are usable at once: nobody else has them.
fn forwards(router: bool) -> Result<()> {
    let mut switches =
        vec![("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")];
    for name in ["up0", "inet0"] {
        if Path::new("/proc/sys/net/ipv6/conf").join(name).exists() {
            switches.push((
                ["ipv6/conf/up0/accept_dad", "ipv6/conf/inet0/accept_dad"]
                    [usize::from(name == "inet0")],
                "0",
            ));
        }
    }
    if router {
        switches.extend([
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ]);
    }
    for (switch, value) in switches {
        let path = Path::new("/proc/sys/net").join(switch);
        fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))?;
    }
    Ok(())
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
        let unicast = " unicast\n  redistribute kernel\n exit-address-family\n";
        text.push_str(&format!(" !\n address-family {family}{unicast}"));
    }
    text.push_str(
        " !\n address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n exit-address-family\nexit\n",
    );
    text
}
