//! The installer's initramfs: our static program as `/init`, kernel modules, and the two programs that make file systems.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::{Key, cached};
use crate::cpio::Archive;
use crate::shell;

/// Bus, network, entropy, the ESP's file system with its character sets, and the firmware's variables.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "efivarfs",
];

/// Programs of the host that the installer calls, where it looks for them.
const PROGRAMS: [&str; 2] = ["/sbin/mke2fs", "/sbin/mkfs.vfat"];

/// Files that those programs read.
const FILES: [&str; 1] = ["/etc/mke2fs.conf"];

/// Load order for `/init`, one absolute path per line.
const MODULES_LIST: &str = "/etc/modules.list";

/// Makes the initrd, compressed the way that the kernel unpacks quickest.
///
/// # Errors
/// The installer is not built or a program is not installed.
pub fn initrd(cache: &Path, kernel: &Kernel, installer: &Path) -> Result<(PathBuf, bool)> {
    let mut key = Key::default()
        .text(&kernel.version)
        .text(&MODULES.join(" "))
        .file(installer)
        .context("the installer is not built; `cargo xtask lab` builds it")?;
    for program in PROGRAMS.into_iter().chain(FILES) {
        key = key.file(Path::new(program)).context("e2fsprogs and dosfstools are needed")?;
    }
    let (folder, from_cache) = cached(cache, "initrd", &key.finish(), |work| {
        let archive = contents(kernel, installer)?;
        compress(&archive, &work.join("initrd"))
    })
    .context("cannot make the installer's initrd")?;
    Ok((folder.join("initrd"), from_cache))
}

fn contents(kernel: &Kernel, installer: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root"] {
        archive.folder(folder);
    }
    archive.file("/init", 0o755, &fs::read(installer)?);
    let mut list = String::new();
    for module in kernel.load_order(&MODULES)? {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        let path = format!("/lib/modules/{name}");
        archive.file(&path, 0o644, &read(&module)?);
        list.push_str(&path);
        list.push('\n');
    }
    archive.file(MODULES_LIST, 0o644, list.as_bytes());
    for file in FILES {
        archive.file(file, 0o644, &read(Path::new(file))?);
    }
    let mut libraries = Vec::new();
    for program in PROGRAMS {
        archive.file(program, 0o755, &read(Path::new(program))?);
        libraries.extend(libraries_of(program)?);
    }
    libraries.sort();
    libraries.dedup();
    for library in &libraries {
        archive.file(library, 0o755, &read(Path::new(library))?);
    }
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn libraries_of(program: &str) -> Result<Vec<String>> {
    Ok(parse_ldd(&shell::run(&mut shell::command("ldd", [program]))?))
}

/// Lines `name => /path (address)` or `/path (address)`.
fn parse_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

fn compress(archive: &[u8], to: &Path) -> Result<()> {
    // the kernel knows the legacy frame of lz4 only
    let mut lz4 = shell::command("lz4", ["-l", "-9", "-q", "-f", "-"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start lz4; is it installed?")?;
    lz4.stdin.take().context("no standard input")?.write_all(archive)?;
    let status = lz4.wait()?;
    if !status.success() {
        bail!("lz4 failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_a_library_too() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse_ldd(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }

    #[test]
    fn a_static_program_has_no_libraries() {
        assert_eq!(parse_ldd("\tstatically linked\n"), Vec::<String>::new());
    }
}
