//! `cargo xtask lab`: installs and builds what the lab needs and hands over to `metal-lab`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Package};
use crate::shell::{cargo, root, step};

/// Debian packages of the lab. `systemd-boot-efi` is copied into the image, `musl-tools` compile the C parts of the
/// static installer.
pub(crate) const PACKAGES: [Package; 18] = [
    ("cpio", "/usr/bin/cpio"),
    ("dosfstools", "/sbin/mkfs.vfat"),
    ("e2fsprogs", "/sbin/mke2fs"),
    ("frr", "/usr/lib/frr/bgpd"),
    ("iproute2", "/usr/bin/ip"),
    ("ipxe", "/usr/lib/ipxe/undionly.kpxe"),
    ("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom"),
    ("kmod", "/sbin/modprobe"),
    ("lz4", "/usr/bin/lz4"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("musl-tools", "/usr/bin/musl-gcc"),
    ("openssh-client", "/usr/bin/ssh"),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("redis-server", "/usr/bin/redis-server"),
    ("seabios", "/usr/share/seabios/bios-256k.bin"),
    ("systemd-boot-efi", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
    ("zstd", "/usr/bin/zstd"),
];

const MUSL: &str = "x86_64-unknown-linux-musl";

/// Commands of `metal-lab` that only look at a lab or end it: nothing is built for them.
const QUICK: [&str; 7] = ["down", "status", "console", "logs", "power", "ssh", "help"];

/// Prepares as much as the command needs, and becomes `metal-lab`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = root();
    let program = root.join("target/debug/metal-lab");
    let quick = args.first().is_some_and(|arg| QUICK.contains(&arg.as_str()));
    if !quick {
        packages::install(&PACKAGES)?;
        build(&root, args.iter().any(|arg| arg.ends_with("vm")))?;
    } else if !program.exists() {
        cargo(&root, &["build", "--package", "lab"])?;
    }
    let error = Command::new(&program).arg("--root").arg(&root).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// `guests`: leaves that are guests get an agent that is static and optimised, because their processors are emulated.
fn build(root: &Path, guests: bool) -> Result<()> {
    // all of it: another choice of packages means other features of shared crates, which would be compiled once more
    cargo(root, &["build", "--workspace"])?;
    if !has_target()? {
        step(Command::new("rustup").args(["target", "add", MUSL]).current_dir(root))?;
    }
    // together: shared crates are compiled once
    let mut programs = vec!["build", "--profile", "installer", "--target", MUSL];
    programs.extend(["--package", "installer", "--package", "firewall"]);
    if guests {
        // the same features of shared crates, so nothing else is compiled
        programs.extend(["--package", "switch"]);
    }
    cargo(root, &programs)
}

fn has_target() -> Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", MUSL])
        .output()
        .context("cannot start rustc")?;
    Ok(Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists())
}
