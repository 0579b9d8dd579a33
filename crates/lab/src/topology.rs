//! What the lab consists of, as values: names, addresses, hardware addresses. No I/O.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The namespace that stands for the rest of the world: control plane, image server, exit router.
pub const EXIT: &str = "mlab-exit";
/// The host's end of the link into the lab.
pub const HOST_LINK: &str = "mlab-host";
/// The exit's end of that link.
pub const EXIT_HOST_LINK: &str = "host0";
/// The host as the lab sees it.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);
/// The exit as the host sees it.
pub const EXIT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 2);
/// The link between them.
pub const HOST_NETWORK: &str = "169.254.77.0/30";
/// The exit's router id.
pub const EXIT_LOOPBACK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);
/// Where machines and agents find the control plane and the images.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// Port of the control plane.
pub const API_PORT: u16 = 8080;
/// Port of the image file server.
pub const IMAGE_PORT: u16 = 8081;
/// The exit's autonomous system.
pub const EXIT_ASN: u32 = 4_200_000_021;
/// The spine, where there is one: between leaves and exit.
pub const SPINE: &str = "spine";
/// The spine's router id.
pub const SPINE_LOOPBACK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 31);
/// The spine's autonomous system.
pub const SPINE_ASN: u32 = 4_200_000_031;
/// The ends of the link between the control plane and the exit, where the exit is a guest; the control plane's first.
pub const CONTROL_LINK: [Ipv4Addr; 2] =
    [Ipv4Addr::new(169, 254, 78, 1), Ipv4Addr::new(169, 254, 78, 2)];
/// Prefixes that machines and firewalls may have; the host routes them into the lab.
pub const TENANT_PREFIXES: [&str; 2] = ["10.100.0.0/14", UNDERLAY_PREFIX];
/// Addresses of firewalls in the underlay.
pub const UNDERLAY_PREFIX: &str = "10.254.0.0/16";
/// The rest of the world, behind the exit.
pub const INTERNET: &str = "mlab-internet";
/// VXLAN id of the network between firewalls and the internet.
pub const INTERNET_VNI: u32 = 4009;
/// Addresses that firewalls and machines can have in the internet.
pub const INTERNET_PREFIXES: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/48"];
/// Somebody on the boot network who is no machine of ours; there only while a scenario needs it.
pub const THIEF: &str = "mlab-thief";
/// The one partition.
pub const PARTITION: &str = "lab";
/// The one rack.
pub const RACK: &str = "rack-01";
/// More machines than these two cores can bear are refused.
pub const MACHINES_MAX: u8 = 16;

/// URL of the control plane as the lab and the host see it.
pub fn api_url() -> String {
    format!("http://{SERVICE_ADDRESS}:{API_PORT}")
}

/// URL of a file on the image server.
pub fn image_url(file: &str) -> String {
    format!("http://{SERVICE_ADDRESS}:{IMAGE_PORT}/{file}")
}

/// A top-of-rack switch: one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// 1 or 2.
    pub number: u8,
}

/// The two leaves of the one rack.
pub const LEAVES: [Leaf; 2] = [Leaf { number: 1 }, Leaf { number: 2 }];

impl Leaf {
    /// Id of the switch, for instance `leaf01`.
    pub fn name(self) -> String {
        format!("leaf{:02}", self.number)
    }

    /// Name of its namespace.
    pub fn namespace(self) -> String {
        format!("mlab-{}", self.name())
    }

    /// Router id and tunnel end.
    pub fn loopback(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, 10 + self.number)
    }

    /// Its autonomous system.
    pub fn asn(self) -> u32 {
        4_200_000_010 + u32::from(self.number)
    }

    /// Address on the boot bridge; the network is a /24.
    pub fn boot_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.number, 1)
    }

    /// The boot network.
    pub fn boot_prefix(self) -> String {
        format!("10.0.{}.0/24", self.number)
    }

    /// IPv6 prefix of the boot network, a /64.
    pub fn boot_prefix6(self) -> String {
        format!("fd99:0:0:{}::/64", self.number)
    }

    /// IPv6 address on the boot bridge.
    pub fn boot_address6(self) -> String {
        format!("fd99:0:0:{}::1", self.number)
    }
}

/// What the leaves are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fabric {
    /// Tenants share one routing table on each leaf.
    Plain,
    /// Each tenant has a network namespace on each leaf, and EVPN between the leaves.
    #[default]
    Netns,
    /// Leaves, a spine and the exit are guests with a kernel of their own, and tenants have VRFs of that kernel.
    Vm,
}

impl Fabric {
    /// Whether each tenant has networks of its own, so that several may have the same addresses.
    pub fn has_tenant_networks(self) -> bool {
        self != Self::Plain
    }

    /// How much more time than on the host's own processor something may take on a leaf.
    pub fn slowness(self) -> u32 {
        match self {
            Self::Plain | Self::Netns => 1,
            Self::Vm => 5,
        }
    }
}

/// What firmware a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS with the iPXE ROM of the network card. It cannot start an installed system from the disk, so such a
    /// machine does not survive a power cycle while it is allocated.
    Bios,
    /// OVMF with the iPXE ROM of the network card.
    #[default]
    Uefi,
}

/// A machine: one QEMU with two network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Machine {
    /// Counted from 1.
    pub number: u8,
}

impl Machine {
    /// All machines of a lab with so many.
    pub fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(|number| Self { number })
    }

    /// All machines that a lab can have, with those on spare ports.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::all(MACHINES_MAX + 6)
    }

    /// Reads `m1`, `m2`… or the id of the machine.
    pub fn parse(text: &str) -> Option<Self> {
        let by_name = text.strip_prefix('m').and_then(|n| n.parse().ok());
        let number = by_name.or_else(|| {
            Self::every().find(|m| m.uuid().eq_ignore_ascii_case(text)).map(|m| m.number)
        })?;
        Self::every().find(|machine| machine.number == number)
    }

    /// Its SMBIOS UUID, the same in every lab.
    pub fn uuid(self) -> String {
        format!("4d4c4142-0000-4000-8000-{:012}", self.number)
    }

    /// Hardware address of its card towards a leaf.
    pub fn mac(self, leaf: Leaf) -> String {
        format!("52:54:00:6d:{:02x}:{:02x}", self.number, leaf.number)
    }

    /// Hardware address of its BMC.
    pub fn bmc_mac(self) -> String {
        format!("52:54:00:6d:{:02x}:bc", self.number)
    }

    /// Name of the leaf's port that it hangs on.
    pub fn port(self) -> String {
        format!("swp{}", self.number)
    }

    /// Namespace of a stand-in for it.
    pub fn namespace(self) -> String {
        format!("mlab-{self}")
    }

    /// Serial number of the chassis.
    pub fn serial(self) -> String {
        format!("LAB{:05}", self.number)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_by_name_and_by_id() {
        for machine in Machine::every() {
            assert_eq!(Machine::parse(&machine.to_string()), Some(machine));
            assert_eq!(Machine::parse(&machine.uuid().to_uppercase()), Some(machine));
        }
        for wrong in ["", "m", "m0", "m23", "m256", "leaf01", "1"] {
            assert_eq!(Machine::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_two_cards_share_an_address() {
        let mut macs: Vec<_> = Machine::every()
            .flat_map(|m| [m.mac(LEAVES[0]), m.mac(LEAVES[1]), m.bmc_mac()])
            .collect();
        let count = macs.len();
        macs.sort();
        macs.dedup();
        assert_eq!(macs.len(), count);
    }
}
