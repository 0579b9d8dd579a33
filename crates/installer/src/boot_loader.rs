//! Makes the installed system start from its disk by UEFI, without running anything of the image.
//!
//! Firmware without entries of its own starts `EFI/BOOT/BOOTX64.EFI` of the EFI system partition.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::Kernel;
use crate::layout::Plan;

/// Where firmware without entries of its own looks.
const STARTED: &str = "EFI/BOOT/BOOTX64.EFI";
/// Where the loader lies until the disk may be started.
const PREPARED: &str = "EFI/metal/loader.efi";
/// systemd-boot inside images that bring it.
const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Copies loader and kernel to the EFI system partition, where firmware does not find them before [`activate`]. Returns false
/// when the image or the layout has none: then the machine starts by the network, which knows what is installed. Only worth
/// calling on a machine with UEFI.
///
/// # Errors
/// What the file system says.
pub fn prepare(root: &Path, plan: &Plan, kernel: &Kernel, command_line: &str) -> io::Result<bool> {
    let loader = root.join(LOADER);
    let Some(esp) = partition(root, plan).filter(|_| loader.exists()) else { return Ok(false) };
    fs::create_dir_all(esp.join("EFI/metal"))?;
    fs::create_dir_all(esp.join("EFI/BOOT"))?;
    fs::create_dir_all(esp.join("loader/entries"))?;
    fs::copy(&loader, esp.join(PREPARED))?;
    fs::copy(&kernel.image, esp.join("vmlinuz"))?;
    if let Some(initrd) = &kernel.initrd {
        fs::copy(initrd, esp.join("initrd"))?;
    }
    fs::write(esp.join("loader/loader.conf"), "timeout 0\ndefault metal.conf\n")?;
    fs::write(esp.join("loader/entries/metal.conf"), entry(kernel, command_line))?;
    Ok(true)
}

/// Makes the disk startable, if a loader was prepared: the very last step of an installation.
///
/// # Errors
/// What the file system says.
pub fn activate(root: &Path, plan: &Plan) -> io::Result<()> {
    let Some(esp) = partition(root, plan).filter(|esp| esp.join(PREPARED).exists()) else {
        return Ok(());
    };
    fs::rename(esp.join(PREPARED), esp.join(STARTED))
}

fn partition(root: &Path, plan: &Plan) -> Option<PathBuf> {
    let mount = plan.mounts.iter().find(|m| m.kind == "vfat" && m.path.starts_with("/boot"))?;
    Some(root.join(mount.path.trim_start_matches('/')))
}

fn entry(kernel: &Kernel, command_line: &str) -> String {
    let initrd = if kernel.initrd.is_some() { "initrd /initrd\n" } else { "" };
    format!("title Linux {}\nlinux /vmlinuz\n{initrd}options {command_line}\n", kernel.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Mount, Root};

    fn plan(kind: &'static str) -> Plan {
        Plan {
            tables: Vec::new(),
            assemble: Vec::new(),
            make: Vec::new(),
            mounts: vec![Mount {
                device: "/dev/x1".into(),
                kind,
                path: "/boot/efi".into(),
                options: Vec::new(),
            }],
            fstab: String::new(),
            root: Root { device: "/dev/x2".into(), kind: "ext4", argument: "PARTUUID=x".into() },
        }
    }

    #[test]
    fn the_partition_can_be_started() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let kernel = Kernel {
            version: "6.1.0".into(),
            image: root.join("boot/vmlinuz-6.1.0"),
            initrd: None,
        };
        fs::create_dir_all(root.join("boot/efi")).unwrap();
        fs::write(&kernel.image, "kernel").unwrap();
        assert!(
            !prepare(root, &plan("vfat"), &kernel, "root=x").unwrap(),
            "the image has no loader"
        );
        fs::create_dir_all(root.join(LOADER).parent().unwrap()).unwrap();
        fs::write(root.join(LOADER), "loader").unwrap();
        assert!(
            !prepare(root, &plan("ext4"), &kernel, "root=x").unwrap(),
            "there is no such partition"
        );
        assert!(prepare(root, &plan("vfat"), &kernel, "root=x").unwrap());
        let read = |path: &str| fs::read_to_string(root.join("boot/efi").join(path)).unwrap();
        assert!(!root.join("boot/efi").join(STARTED).exists(), "nothing is installed yet");
        activate(root, &plan("vfat")).unwrap();
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI"), "loader");
        activate(root, &plan("vfat")).unwrap();
        assert_eq!(read("vmlinuz"), "kernel");
        assert_eq!(
            read("loader/entries/metal.conf"),
            "title Linux 6.1.0\nlinux /vmlinuz\noptions root=x\n"
        );
    }
}
