//! Which kernel of the installed system is started, and what it is told.

use std::cmp::Ordering;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::layout::Root;
use crate::sys;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Version in the file's name.
    pub version: String,
    /// The kernel below the root.
    pub image: PathBuf,
    /// Its initial RAM disk, if the system has one.
    pub initrd: Option<PathBuf>,
}

/// The newest kernel below a root.
///
/// # Errors
/// When there is none: the image cannot be started.
pub fn find(root: &Path) -> Result<Kernel> {
    let boot = root.join("boot");
    let names: Vec<String> = fs::read_dir(&boot)
        .with_context(|| "the image has no folder /boot")?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let versions = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
    let version = versions
        .max_by(|a, b| compare(a, b))
        .context("the image has no kernel: there is no /boot/vmlinuz-VERSION")?
        .to_owned();
    let initrd = [format!("initrd.img-{version}"), format!("initramfs-{version}.img")]
        .into_iter()
        .find(|name| names.contains(name))
        .map(|name| boot.join(name));
    Ok(Kernel { image: boot.join(format!("vmlinuz-{version}")), initrd, version })
}

/// Numbers inside versions count as numbers: 6.10 comes after 6.9.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<Result<u64, String>> {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .map(|part| part.parse().map_err(|_| part.to_owned()))
            .collect()
    };
    parts(a).cmp(&parts(b))
}

/// Arguments of our own command line that are about the hardware and so true for the installed system as well.
const KEPT: [&str; 9] = [
    "console",
    "earlyprintk",
    "no_timer_check",
    "panic",
    "quiet",
    "loglevel",
    "nvme_core.io_timeout",
    "iommu",
    "intel_iommu",
];

/// The installed system's kernel command line. Everybody on the machine can read it.
#[must_use]
pub fn command_line(ours: &str, root: &Root) -> String {
    let mut words = vec![format!("root={}", root.argument), format!("rootfstype={}", root.kind)];
    words.extend(["rw", "init=/sbin/init", "net.ifnames=0", "biosdevname=0"].map(Into::into));
    let kept = ours
        .split_whitespace()
        .filter(|word| KEPT.contains(&word.split('=').next().unwrap_or_default()));
    for word in kept {
        if !words.iter().any(|w| w == word) {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

/// Loads the kernel; starting it is a reboot with `Kexec`.
///
/// A kernel without an initial RAM disk gets an empty one: started by UEFI firmware, our own kernel was told of ours by a table
/// that outlives kexec, and the next kernel would take whatever lies there then for its RAM disk.
///
/// # Errors
/// What the kernel says, with a hint.
pub fn load(kernel: &Kernel, command_line: &str) -> Result<()> {
    let open = |path: &Path| {
        File::open(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let image = open(&kernel.image)?;
    let initrd = match &kernel.initrd {
        Some(path) => open(path)?,
        None => {
            fs::write(EMPTY, empty_archive()).context("no place for an empty RAM disk")?;
            open(Path::new(EMPTY))?
        }
    };
    let text = CString::new(command_line).context("the kernel command line holds a zero byte")?;
    sys::kexec_file_load(image.as_fd(), Some(initrd.as_fd()), &text)
        .map_err(explain)
        .with_context(|| format!("the kernel {} of the image cannot be loaded", kernel.version))
}

/// Where the empty RAM disk lies; in memory.
const EMPTY: &str = "/run/empty.cpio";

/// A cpio archive without entries: only the mark of its end.
fn empty_archive() -> Vec<u8> {
    let mut archive = b"070701".to_vec();
    // thirteen numbers of eight digits; only the number of links and the length of the name are not zero
    for field in 0..13 {
        let value = match field {
            4 => 1,
            11 => 11,
            _ => 0,
        };
        archive.extend(format!("{value:08X}").bytes());
    }
    archive.extend(b"TRAILER!!!\0");
    archive.resize(512, 0);
    archive
}

fn explain(error: io::Error) -> anyhow::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the installer's kernel is built without kexec_file_load",
        Some(libc::ENOEXEC) => "the file is no kernel, or damaged",
        Some(libc::EPERM) => "kexec is forbidden, possibly by Secure Boot's lockdown",
        Some(libc::ENOMEM) => "there is not enough memory for a second kernel",
        _ => "see the lines of the kernel above",
    };
    anyhow::anyhow!("{error}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot");
        assert!(find(dir.path()).is_err());
        fs::create_dir(&boot).unwrap();
        assert!(format!("{:#}", find(dir.path()).unwrap_err()).contains("no kernel"));
        for name in [
            "vmlinuz-6.1.0-9-amd64",
            "vmlinuz-6.1.0-56-amd64",
            "initrd.img-6.1.0-56-amd64",
            "System.map-6.1.0-56-amd64",
        ] {
            fs::write(boot.join(name), "").unwrap();
        }
        let kernel = find(dir.path()).unwrap();
        assert_eq!(kernel.version, "6.1.0-56-amd64");
        assert_eq!(kernel.initrd, Some(boot.join("initrd.img-6.1.0-56-amd64")));
        fs::write(boot.join("vmlinuz-6.10.0-1-amd64"), "").unwrap();
        let kernel = find(dir.path()).unwrap();
        assert_eq!((kernel.version.as_str(), kernel.initrd), ("6.10.0-1-amd64", None));
    }

    #[test]
    fn the_empty_archive_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.cpio");
        fs::write(&path, empty_archive()).unwrap();
        let cpio = std::process::Command::new("cpio").args(["-it", "-F"]).arg(&path).output();
        let Ok(output) = cpio else {
            eprintln!("cpio is not installed: nothing to compare with");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty());
    }

    #[test]
    fn only_words_about_the_hardware_are_kept() {
        let root =
            Root { device: "/dev/nvme0n1p2".into(), kind: "ext4", argument: "PARTUUID=x".into() };
        let ours = "initrd=initrd console=ttyS0,115200n8 no_timer_check panic=1 quiet quiet rdinit=/init token=secret";
        assert_eq!(
            command_line(ours, &root),
            "root=PARTUUID=x rootfstype=ext4 rw init=/sbin/init net.ifnames=0 biosdevname=0 console=ttyS0,115200n8 no_timer_check panic=1 quiet"
        );
    }
}
