//! The image that tenants install: base system, kernel, picked modules, boot loader, sign of life; packed and with digests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use super::{Key, cached, digests, overlay};
use crate::shell;

/// Modules that machines and firewalls of the lab load; NVMe, ext4 and packet sockets are built in.
const MODULES: [&str; 37] = [
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "efivarfs",
    "dummy",
    "veth",
    "tun",
    "bridge",
    "8021q",
    "bonding",
    "vrf",
    "vxlan",
    "nf_tables",
    "nft_chain_nat",
    "nft_connlimit",
    "nft_ct",
    "nft_fib_inet",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_objref",
    "nft_quota",
    "nft_redir",
    "nft_reject_inet",
    "nf_conntrack_netlink",
    "nf_flow_table_inet",
    "nf_log_syslog",
    "nft_flow_offload",
    "overlay",
    "loop",
];

/// systemd-boot, which UEFI machines start from their disk.
const BOOT_LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// A packed image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The `tar.zst`; `.sha256` and `.md5` lie beside it.
    pub file: PathBuf,
    /// SHA-256 in hex.
    pub sha256: String,
    /// The day it was made, `YYYYMMDD`: the patch level of its version.
    pub day: String,
}

/// Makes the image out of the base system.
///
/// # Errors
/// A program is missing or the disk is full.
pub fn image(
    cache: &Path,
    base: &Path,
    kernel: &Kernel,
    phone_home: &Path,
    firewall: &Path,
) -> Result<(Image, bool)> {
    let mut key = Key::default()
        .text(&base.to_string_lossy())
        .text(&kernel.version)
        .text(&MODULES.join(" "))
        .text(&overlay::MASKED.join(" "))
        .file(phone_home)
        .context("metal-phone-home is not built; `cargo xtask lab` builds it")?
        .file(firewall)
        .context("metal-firewall is not built; `cargo xtask lab` builds it")?;
    for file in overlay::FILES {
        key = key.text(file.path).text(file.text).text(&file.mode.to_string());
    }
    for (target, unit) in overlay::ENABLED {
        key = key.text(target).text(unit);
    }
    let (folder, from_cache) = cached(cache, "image", &key.finish(), |work| {
        let root = work.join("root");
        fs::create_dir(&root)?;
        build(&root, base, kernel)?;
        for (path, program) in [(overlay::PHONE_HOME, phone_home), (overlay::FIREWALL, firewall)] {
            put(&inside(&root, path), &fs::read(program)?, 0o755)?;
        }
        pack(&root, &work.join("debian-12.tar.zst"))?;
        fs::remove_dir_all(&root)?;
        fs::write(work.join("day"), jiff::Zoned::now().strftime("%Y%m%d").to_string())?;
        digests(&work.join("debian-12.tar.zst")).map(drop)
    })
    .context("cannot make the image")?;
    let file = folder.join("debian-12.tar.zst");
    let sha256 = fs::read_to_string(super::beside(&file, "sha256"))?;
    let sha256 = sha256.split_whitespace().next().context("the digest is empty")?.to_owned();
    let day = fs::read_to_string(folder.join("day"))?;
    Ok((Image { file, sha256, day }, from_cache))
}

fn build(root: &Path, base: &Path, kernel: &Kernel) -> Result<()> {
    let mut tar = shell::command("tar", ["--extract", "--numeric-owner", "--file"]);
    shell::run(tar.arg(base).arg("--directory").arg(root))?;
    install_kernel(root, kernel)?;
    put(
        &inside(root, BOOT_LOADER),
        &fs::read(BOOT_LOADER).context("systemd-boot-efi is needed")?,
        0o644,
    )?;
    for file in overlay::FILES {
        put(&inside(root, file.path), file.text.as_bytes(), file.mode)?;
    }
    let units = root.join("etc/systemd/system");
    for unit in overlay::MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    for (target, unit) in overlay::ENABLED {
        let ours = units.join(unit).exists();
        let folder = if ours { "/etc/systemd/system" } else { "/lib/systemd/system" };
        link(&format!("{folder}/{unit}"), &units.join(target).join(unit))?;
    }
    // an empty one is filled at first boot: every machine gets its own
    put(&root.join("etc/machine-id"), b"", 0o444)
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn install_kernel(root: &Path, kernel: &Kernel) -> Result<()> {
    let boot = root.join("boot").join(format!("vmlinuz-{}", kernel.version));
    put(&boot, &fs::read(kernel.image())?, 0o644)?;
    let modules = kernel.folder().join("lib/modules").join(&kernel.version);
    let to = root.join("usr/lib/modules").join(&kernel.version);
    for path in kernel.load_order(&MODULES)? {
        let relative = path.strip_prefix(&modules).context("a module outside its folder")?;
        put(&to.join(relative), &fs::read(&path)?, 0o644)?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        put(&to.join(list), &fs::read(modules.join(list))?, 0o644)?;
    }
    shell::run(shell::command("depmod", ["-b"]).arg(root).arg(&kernel.version)).map(drop)
}

fn put(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, contents)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    // a package may have enabled or made it already
    fs::remove_file(path).ok();
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let mut tar = shell::command(
        "tar",
        [
            "--create",
            "--sort=name",
            "--numeric-owner",
            "--use-compress-program=zstd -9 -T0 -q",
            "--file",
        ],
    );
    shell::run(tar.arg(to).arg("--directory").arg(root).arg(".")).map(drop)
}
