//! What a machine is made of, and where it boots from next.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::shell;
use crate::topology::{Firmware, Machine};

/// The hardware of a machine. The default is what the lab's size asks for; scenarios make misfits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Which machine, that is which ports and addresses.
    pub machine: Machine,
    /// Its firmware.
    pub firmware: Firmware,
    /// Processors.
    pub cores: u8,
    /// Memory in MiB.
    pub memory: u32,
    /// Size of the NVMe disk in MiB; 0 is no disk.
    pub disk: u32,
    /// Network cards that are plugged in, 1 or 2, the first towards the first leaf.
    pub cards: u8,
    /// SMBIOS UUID, when it is not the machine's own.
    pub uuid: Option<String>,
    /// Where it boots from next.
    pub boot: BootDevice,
}

/// First in the order of boot devices; the others follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootDevice {
    /// The network cards.
    #[default]
    Pxe,
    /// The disk.
    Disk,
}

impl Shape {
    /// A machine as the lab's size describes it.
    pub fn usual(machine: Machine, firmware: Firmware) -> Self {
        Self {
            machine,
            firmware,
            cores: 1,
            memory: 1024,
            disk: 4096,
            cards: 2,
            uuid: None,
            boot: BootDevice::Pxe,
        }
    }

    /// What firmware and operating system see as the machine's UUID.
    pub fn uuid(&self) -> String {
        self.uuid.clone().unwrap_or_else(|| self.machine.uuid())
    }

    /// Reads the shape of a machine of this lab.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn load(paths: &Paths, machine: Machine) -> Result<Self> {
        let file = paths.machine(machine).join("shape.json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("there is no machine {machine} in this lab"))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// Writes it down, at once or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, paths: &Paths) -> Result<()> {
        let folder = paths.machine(self.machine);
        fs::create_dir_all(&folder)?;
        let (new, file) = (folder.join("shape.new"), folder.join("shape.json"));
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(new, file)?)
    }

    /// Makes disk and firmware variables if they are not there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn prepare(&self, paths: &Paths) -> Result<()> {
        let folder = paths.machine(self.machine);
        fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.raw");
        if self.disk > 0 && !disk.exists() {
            // a sparse file: space is taken when it is written
            fs::File::create(&disk)?.set_len(u64::from(self.disk) << 20)?;
        }
        let variables = folder.join("vars.fd");
        if self.firmware == Firmware::Uefi && !variables.exists() {
            fs::copy(OVMF_VARIABLES, variables).context("package ovmf is needed")?;
        }
        Ok(())
    }
}

/// Firmware of UEFI machines.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Whether the bytes stand anywhere on a disk.
///
/// # Errors
/// The disk cannot be read.
pub fn disk_holds(disk: &Path, marker: &str) -> Result<bool> {
    // with lines that end in zeros `grep` skips the holes of a sparse file
    let mut grep = shell::command("grep", ["--null-data", "--text", "--fixed-strings", "--quiet"]);
    let status = grep.env("LC_ALL", "C").arg("--").arg(marker).arg(disk).status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => anyhow::bail!("cannot read {}", disk.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_anywhere_and_nowhere() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = folder.path().join("disk");
        let mut bytes = vec![0; 3 << 20];
        fs::write(&disk, &bytes).expect("write");
        assert!(!disk_holds(&disk, "tenant-one").expect("readable"));
        bytes[2_345_678..2_345_688].copy_from_slice(b"tenant-one");
        fs::write(&disk, &bytes).expect("write");
        assert!(disk_holds(&disk, "tenant-one").expect("readable"));
        disk_holds(&folder.path().join("none"), "x").expect_err("no disk");
    }
}
