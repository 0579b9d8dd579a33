//! What the machine is made of, read from `/sys` and `/proc` and said in the contract's words.

pub mod dmi;
pub mod memory;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proto::api::{
    MachineBios, MachineBlockDevice, MachineFRU, MachineHardware, MachineNic, MetalCPU, MetalGPU,
};

use crate::neighbour::{Neighbour, Neighbours};
use crate::nic::{self, Nic, format_mac};

/// Where to read; a test reads elsewhere.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Usually `/sys`.
    pub sys: PathBuf,
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

/// A disk that can be wiped and installed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Kernel's name, like `nvme0n1`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What the maker calls it; empty when unknown.
    pub model: String,
}

/// Reads everything but the network.
#[must_use]
pub fn read(roots: &Roots) -> MachineHardware {
    MachineHardware {
        memory: memory::total(roots),
        disks: disks(roots)
            .into_iter()
            .map(|disk| MachineBlockDevice {
                name: format!("/dev/{}", disk.name),
                size: disk.size,
                ..Default::default()
            })
            .collect(),
        cpus: cpus(&read_text(&roots.proc.join("cpuinfo"))),
        gpus: gpus(&roots.sys),
        ..Default::default()
    }
}

/// Disks by name. Loops, RAM disks, optical drives, removable and read-only media are none.
#[must_use]
pub fn disks(roots: &Roots) -> Vec<Disk> {
    let Ok(entries) = fs::read_dir(roots.sys.join("block")) else { return Vec::new() };
    let mut disks: Vec<Disk> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let foreign = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd"];
            if foreign.iter().any(|prefix| name.starts_with(prefix)) {
                return None;
            }
            let path = entry.path();
            if read_text(&path.join("removable")) == "1" || read_text(&path.join("ro")) == "1" {
                return None;
            }
            let sectors: u64 = read_text(&path.join("size")).parse().ok()?;
            let model = read_text(&path.join("device/model"));
            (sectors > 0).then_some(Disk { name, size: sectors * 512, model })
        })
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

/// The contract's words for the cards and who is at their other ends.
#[must_use]
pub fn nics(nics: &[Nic], neighbours: &Neighbours) -> Vec<MachineNic> {
    nics.iter().map(|nic| contract_nic(nic, &neighbours.of(nic.index))).collect()
}

fn contract_nic(nic: &Nic, neighbours: &[Neighbour]) -> MachineNic {
    let mac = format_mac(nic.mac);
    MachineNic {
        mac: mac.clone(),
        name: nic.name.clone(),
        identifier: mac,
        vendor: nic.vendor.clone(),
        model: nic.model.clone(),
        speed: nic.speed,
        neighbors: neighbours
            .iter()
            .map(|neighbour| MachineNic {
                mac: neighbour.mac.clone(),
                name: neighbour.name.clone(),
                identifier: neighbour.identifier.clone(),
                hostname: neighbour.hostname.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// One entry for each package. A processor that does not say how many cores it has counts as one per line.
fn cpus(text: &str) -> Vec<MetalCPU> {
    let mut packages: BTreeMap<u32, MetalCPU> = BTreeMap::new();
    for block in text.split("\n\n").filter(|block| block.contains("processor")) {
        let value = |key: &str| {
            block
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.trim() == key)
                .map_or("", |(_, value)| value.trim())
        };
        let package = value("physical id").parse().unwrap_or(0);
        let cpu = packages.entry(package).or_insert_with(|| MetalCPU {
            vendor: value("vendor_id").to_owned(),
            model: value("model name").to_owned(),
            cores: value("cpu cores").parse().unwrap_or(0),
            ..Default::default()
        });
        cpu.threads += 1;
    }
    packages
        .into_values()
        .map(|mut cpu| {
            if cpu.cores == 0 {
                cpu.cores = cpu.threads;
            }
            cpu
        })
        .collect()
}

/// Display controllers that compute: those of NVIDIA, as the contract's sizes count them.
fn gpus(sys: &Path) -> Vec<MetalGPU> {
    let Ok(entries) = fs::read_dir(sys.join("bus/pci/devices")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| {
            read_text(&path.join("class")).starts_with("0x03")
                && read_text(&path.join("vendor")) == "0x10de"
        })
        .map(|path| MetalGPU {
            vendor: "NVIDIA Corporation".into(),
            model: read_text(&path.join("device")),
            ..Default::default()
        })
        .collect()
}

/// Firmware.
#[must_use]
pub fn bios(roots: &Roots) -> MachineBios {
    MachineBios {
        version: dmi::text(roots, "bios_version"),
        vendor: dmi::text(roots, "bios_vendor"),
        date: dmi::text(roots, "bios_date"),
        ..Default::default()
    }
}

/// Serial numbers and makers, as the system's tables have them; those of the BMC may say more.
#[must_use]
pub fn fru(roots: &Roots) -> MachineFRU {
    let field = |name: &str| Some(dmi::text(roots, name)).filter(|text| !text.is_empty());
    MachineFRU {
        chassis_part_serial: field("chassis_serial"),
        board_mfg: field("board_vendor"),
        board_mfg_serial: field("board_serial"),
        board_part_number: field("board_name"),
        product_manufacturer: field("sys_vendor"),
        product_part_number: field("product_sku").or_else(|| field("product_name")),
        product_serial: field("product_serial"),
        ..Default::default()
    }
}

/// What is there beyond the contract's words.
#[must_use]
pub fn tags(roots: &Roots) -> Vec<String> {
    let mut tags = Vec::new();
    if roots.sys.join("class/tpm/tpm0").exists() {
        let version = read_text(&roots.sys.join("class/tpm/tpm0/tpm_version_major"));
        tags.push(format!("tpm:{}", if version.is_empty() { "unknown" } else { &version }));
    }
    if roots.dev.join("ipmi0").exists() {
        tags.push("bmc:ipmi".to_owned());
    }
    tags.push(format!(
        "firmware:{}",
        if roots.sys.join("firmware/efi").exists() { "uefi" } else { "bios" }
    ));
    tags
}

/// The content without the spaces around it; empty when it cannot be read.
pub(crate) fn read_text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// All physical cards.
#[must_use]
pub fn cards(roots: &Roots) -> Vec<Nic> {
    nic::list(&roots.sys)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn roots(dir: &Path) -> Roots {
        Roots { sys: dir.join("sys"), proc: dir.join("proc"), dev: dir.join("dev") }
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn processors_are_counted_by_package() {
        let line = |processor: u32, package: u32| {
            format!(
                "processor\t: {processor}\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nphysical id\t: {package}\ncpu cores\t: 1\n"
            )
        };
        let text = [line(0, 0), line(1, 0), line(2, 1), line(3, 1)].join("\n");
        let cpus = cpus(&text);
        assert_eq!(cpus.iter().map(|c| (c.cores, c.threads)).collect::<Vec<_>>(), [(1, 2), (1, 2)]);
        assert_eq!((cpus[0].vendor.as_str(), cpus[0].model.as_str()), ("GenuineIntel", "Xeon"));
        let silent = super::cpus("processor\t: 0\n\nprocessor\t: 1\n");
        assert_eq!(silent.iter().map(|c| (c.cores, c.threads)).collect::<Vec<_>>(), [(2, 2)]);
    }

    #[test]
    fn only_real_disks_count() {
        let dir = tempfile::tempdir().unwrap();
        let roots = roots(dir.path());
        for (name, size, removable, ro) in [
            ("nvme0n1", 20_971_520, 0, 0),
            ("sda", 1_000_000, 0, 0),
            ("sdb", 1_000, 1, 0),
            ("sdc", 0, 0, 0),
            ("vda", 1_000, 0, 1),
            ("loop0", 1_000, 0, 0),
            ("sr0", 1_000, 0, 0),
        ] {
            let path = roots.sys.join("block").join(name);
            write(path.join("size"), &format!("{size}\n"));
            write(path.join("removable"), &format!("{removable}\n"));
            write(path.join("ro"), &format!("{ro}\n"));
        }
        write(roots.sys.join("block/nvme0n1/device/model"), "QEMU NVMe Ctrl   \n");
        expect![[r#"
            [
                Disk {
                    name: "nvme0n1",
                    size: 10737418240,
                    model: "QEMU NVMe Ctrl",
                },
                Disk {
                    name: "sda",
                    size: 512000000,
                    model: "",
                },
            ]
        "#]]
        .assert_debug_eq(&disks(&roots));
    }

    #[test]
    fn firmware_serials_and_tags() {
        let dir = tempfile::tempdir().unwrap();
        let roots = roots(dir.path());
        write(roots.sys.join("class/dmi/id/bios_vendor"), "SeaBIOS\n");
        write(roots.sys.join("class/dmi/id/product_serial"), "Not Specified\n");
        write(roots.sys.join("class/dmi/id/board_serial"), "b-1\n");
        write(roots.sys.join("class/tpm/tpm0/tpm_version_major"), "2\n");
        write(roots.dev.join("ipmi0"), "");
        assert_eq!(bios(&roots).vendor, "SeaBIOS");
        assert_eq!(
            (fru(&roots).product_serial, fru(&roots).board_mfg_serial),
            (None, Some("b-1".into()))
        );
        assert_eq!(tags(&roots), ["tpm:2", "bmc:ipmi", "firmware:bios"]);
    }

    #[test]
    fn a_neighbour_stands_below_its_card() {
        let nic = Nic {
            index: 2,
            name: "eth0".into(),
            mac: [0x52, 0x54, 0, 0, 0, 1],
            speed: 25_000,
            vendor: "0x1af4".into(),
            model: "0x1041".into(),
        };
        let neighbour = Neighbour {
            hostname: "leaf01".into(),
            identifier: "swp1".into(),
            name: "swp1".into(),
            mac: "02:00:00:00:00:11".into(),
        };
        let nic = contract_nic(&nic, &[neighbour]);
        expect![[r#"{"mac":"52:54:00:00:00:01","name":"eth0","identifier":"52:54:00:00:00:01","vendor":"0x1af4","model":"0x1041","speed":"25000","neighbors":[{"mac":"02:00:00:00:00:11","name":"swp1","identifier":"swp1","hostname":"leaf01"}]}"#]]
        .assert_eq(&serde_json::to_string(&nic).unwrap());
    }
}
