//! The root file system of a guest: files of the host, with their libraries, in an ext4 file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::remove_tree;
use crate::elf;
use crate::kernel::Kernel;
use crate::shell;

/// What the kernel starts.
const INIT: &str = include_str!("init.sh");
/// Needed to answer at all.
const PROGRAMS: [&str; 24] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/base64",
    "/bin/cat",
    "/bin/chmod",
    "/bin/chown",
    "/bin/cp",
    "/bin/grep",
    "/bin/ln",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/mount",
    "/bin/mv",
    "/bin/rm",
    "/bin/sed",
    "/bin/sleep",
    "/bin/stat",
    "/bin/sync",
    "/bin/timeout",
    "/bin/umount",
    "/usr/bin/env",
    "/usr/bin/setsid",
    "/sbin/ip",
    "/sbin/modprobe",
];
/// Files that those read.
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];
/// Bus, cards, and the lanes.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "virtio_console"];
const FOLDERS: [&str; 14] = [
    "dev",
    "etc",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/lib",
    "var/log",
    "var/tmp",
];
/// As on Debian since 12.
const LINKS: [(&str, &str); 6] = [
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
];
/// Free space in MiB, for logs, configuration and what machines boot, twice while it changes. The host gives it when it is
/// written to.
const ROOM_MB: u64 = 96;

/// What is in a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    files: BTreeMap<PathBuf, PathBuf>,
    trees: Vec<(PathBuf, PathBuf)>,
    texts: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    links: BTreeMap<PathBuf, PathBuf>,
    modules: BTreeSet<String>,
    start: String,
}

impl Image {
    /// A shell, its usual tools, `ip` and kernel modules for cards.
    pub fn new() -> Self {
        let mut image = Self::default();
        for path in PROGRAMS.into_iter().chain(FILES) {
            image = image.program(path);
        }
        for module in MODULES {
            image = image.module(module);
        }
        image
            .text("/sbin/init", 0o755, INIT)
            .text("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n")
            .text("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n")
    }

    /// With what a leaf has: FRR with zebra, bgpd, bfdd, staticd and `vtysh`, and devices for EVPN.
    pub fn leaf() -> Self {
        let daemons = ["zebra", "bgpd", "bfdd", "staticd", "watchfrr"];
        let mut image = Self::new().program("/sbin/bridge").program("/usr/bin/vtysh");
        for daemon in daemons {
            image = image.program(&format!("/usr/lib/frr/{daemon}"));
        }
        for module in ["8021q", "bridge", "dummy", "veth", "vrf", "vxlan"] {
            image = image.module(module);
        }
        // vtysh asks PAM whether root may use it
        let pam = "account sufficient pam_permit.so\nauth sufficient pam_permit.so\n";
        image
            .program("/lib/x86_64-linux-gnu/security/pam_permit.so")
            .text("/etc/pam.d/frr", 0o644, pam)
            .text("/etc/frr/vtysh.conf", 0o644, "")
            .tree("/etc/iproute2")
    }

    /// A program of the host, at the same place.
    #[must_use]
    pub fn program(self, path: &str) -> Self {
        self.file(path, path)
    }

    /// A file of the host. Libraries of programs come along.
    #[must_use]
    pub fn file(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.files.insert(guest.into(), host.into());
        self
    }

    /// A folder of the host with all that is in it, at the same place.
    #[must_use]
    pub fn tree(self, path: &str) -> Self {
        self.tree_at(path, path)
    }

    /// A folder of the host with all that is in it, at another place.
    #[must_use]
    pub fn tree_at(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.trees.push((host.into(), guest.into()));
        self
    }

    /// A file with this text and these permission bits.
    #[must_use]
    pub fn text(mut self, guest: &str, mode: u32, text: &str) -> Self {
        self.texts.insert(guest.into(), (mode, text.into()));
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, guest: &str, target: &str) -> Self {
        self.links.insert(guest.into(), target.into());
        self
    }

    /// A kernel module that is loaded at the start, with those that it needs.
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.insert(name.to_owned());
        self
    }

    /// Lines of a shell script that runs before the guest answers; more lines come after earlier ones.
    #[must_use]
    pub fn start(mut self, script: &str) -> Self {
        self.start.push_str(script);
        self.start.push('\n');
        self
    }

    /// Makes the disk. It belongs to one guest, which writes to it.
    ///
    /// # Errors
    /// A file of the host is missing, or the kernel has no such module.
    pub fn build(&self, kernel: &Kernel, disk: &Path) -> Result<()> {
        let mut tree = disk.to_owned().into_os_string();
        tree.push(".tree");
        let tree = PathBuf::from(tree);
        remove_tree(&tree)?;
        let made = self.fill(kernel, &tree).and_then(|()| format(&tree, disk));
        remove_tree(&tree)?;
        made.with_context(|| format!("cannot make {}", disk.display()))
    }

    fn fill(&self, kernel: &Kernel, tree: &Path) -> Result<()> {
        for folder in FOLDERS {
            fs::create_dir_all(tree.join(folder))?;
        }
        for (link, target) in LINKS {
            symlink(target, tree.join(link))?;
        }
        fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for (host, guest) in &self.trees {
            let to = place(tree, guest)?;
            // times stay: programs compare them
            shell::run(shell::command("cp", ["-a", "-T"]).arg(host).arg(&to))?;
        }
        for (guest, host) in &self.files {
            let from = host
                .canonicalize()
                .with_context(|| format!("{} is not on this host", host.display()))?;
            copy(&from, &place(tree, guest)?)?;
        }
        let mut programs: Vec<_> =
            self.files.values().filter(|path| is_program(path)).cloned().collect();
        for (host, _) in &self.trees {
            elf::find(host, &mut programs)?;
        }
        for library in elf::libraries(&programs)? {
            let to = place(tree, &library)?;
            if !to.exists() {
                copy(&library.canonicalize()?, &to)?;
            }
        }
        for (guest, (mode, text)) in &self.texts {
            put(&place(tree, guest)?, *mode, text)?;
        }
        for (guest, target) in &self.links {
            symlink(target, place(tree, guest)?)?;
        }
        self.add_modules(kernel, tree)?;
        put(&place(tree, Path::new("/etc/guest/start"))?, 0o644, self.start.as_bytes())
    }

    fn add_modules(&self, kernel: &Kernel, tree: &Path) -> Result<()> {
        let names: Vec<_> = self.modules.iter().map(String::as_str).collect();
        let all = kernel.folder().join("lib/modules").join(&kernel.version);
        let to = tree.join("usr/lib/modules").join(&kernel.version);
        fs::create_dir_all(&to)?;
        for path in kernel.load_order(&names)? {
            let relative = path.strip_prefix(&all).context("a module outside its folder")?;
            let to = to.join(relative);
            fs::create_dir_all(to.parent().unwrap_or(&to))?;
            copy(&path, &to)?;
        }
        for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            copy(&all.join(list), &to.join(list))?;
        }
        shell::run(shell::command("depmod", ["-b"]).arg(tree).arg(&kernel.version))?;
        let names = names.join("\n");
        put(&place(tree, Path::new("/etc/guest/modules"))?, 0o644, names.as_bytes())
    }
}

/// Where a path of the guest is in the tree: links to folders, like `/bin`, stay inside it.
fn place(tree: &Path, guest: &Path) -> Result<PathBuf> {
    let guest = guest.strip_prefix("/").unwrap_or(guest);
    let rest = |(link, target): &(&str, &str)| {
        let target = target.trim_start_matches('/');
        Some(Path::new(target).join(guest.strip_prefix(link).ok()?))
    };
    let path = tree.join(LINKS.iter().find_map(rest).as_deref().unwrap_or(guest));
    fs::create_dir_all(path.parent().unwrap_or(tree))?;
    Ok(path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
}

fn put(to: &Path, mode: u32, text: &[u8]) -> Result<()> {
    fs::write(to, text)?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
}

fn format(tree: &Path, disk: &Path) -> Result<()> {
    let used = shell::run(shell::command("du", ["-s", "-m"]).arg(tree))?;
    let used: u64 = used.split_whitespace().next().context("du says nothing")?.parse()?;
    // inodes and tables take their part
    let size = used + used / 8 + ROOM_MB;
    if let Err(error) = fs::remove_file(disk)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    let options = ["-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-J", "size=4", "-d"];
    let mut mkfs = shell::command("/sbin/mke2fs", options);
    shell::run(mkfs.arg(tree).arg(disk).arg(format!("{size}M"))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_folders_stay_inside() {
        let folder = tempfile::tempdir().expect("folder");
        let place = |guest: &str| {
            let path = super::place(folder.path(), Path::new(guest)).expect("place");
            path.strip_prefix(folder.path()).expect("inside").to_owned()
        };
        assert_eq!(place("/bin/sh"), Path::new("usr/bin/sh"));
        assert_eq!(place("/lib64/ld.so"), Path::new("usr/lib64/ld.so"));
        assert_eq!(place("/library/x"), Path::new("library/x"));
        assert_eq!(place("/etc/frr/frr.conf"), Path::new("etc/frr/frr.conf"));
        assert!(folder.path().join("etc/frr").is_dir());
    }

    #[test]
    fn scripts_add_up() {
        let image = Image::default().start("one").start("two");
        assert_eq!(image.start, "one\ntwo\n");
    }
}
