//! Debian's cloud kernel, taken out of its package without installing it.
//!
//! NVMe and ext4 are built into it, so an installed machine needs no initramfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::cached;
use crate::{package, shell};

/// The package that depends on the newest kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";
const PREFIX: &str = "kernel";

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub struct Kernel {
    folder: PathBuf,
    /// For instance `6.1.0-56-cloud-amd64`.
    pub version: String,
}

/// A module with everything that must be loaded before it, in order.
pub type LoadOrder = Vec<PathBuf>;

impl Kernel {
    /// The kernel itself.
    pub fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// The folder that holds `lib/modules`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files to load for these modules, dependencies first, each once.
    ///
    /// # Errors
    /// The kernel has no such module.
    pub fn load_order(&self, modules: &[&str]) -> Result<LoadOrder> {
        let mut order = LoadOrder::new();
        for module in modules {
            let mut modprobe = shell::command("modprobe", ["-S", &self.version, "-d"]);
            modprobe.arg(&self.folder).args(["--show-depends", module]);
            let text = shell::run(&mut modprobe)
                .with_context(|| format!("the kernel has no module {module}"))?;
            for path in parse_depends(&text) {
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }
}

/// Lines `insmod PATH [options]`; what is built in needs no loading.
fn parse_depends(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("insmod "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(PathBuf::from)
}

/// The cached kernel, or the newest one of the configured mirror.
///
/// # Errors
/// There is none in the cache and the mirror cannot be reached.
pub fn kernel(cache: &Path) -> Result<(Kernel, bool)> {
    if let Some(version) = newest_cached(cache) {
        return Ok((Kernel { folder: cache.join(format!("{PREFIX}-{version}")), version }, true));
    }
    let package = newest_package()?;
    let version = package.strip_prefix("linux-image-").unwrap_or(&package).to_owned();
    let (folder, cached) = cached(cache, PREFIX, &version, |work| unpack(&package, &version, work))
        .context("cannot get the kernel")?;
    Ok((Kernel { folder, version }, cached))
}

fn newest_cached(cache: &Path) -> Option<String> {
    let names = fs::read_dir(cache).ok()?.flatten();
    names
        .filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix(PREFIX)?.strip_prefix('-').map(str::to_owned)
        })
        .max()
}

fn newest_package() -> Result<String> {
    let depends = || shell::run(&mut shell::command("apt-cache", ["depends", PACKAGE]));
    let parse = |text: String| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
    };
    if let Some(package) = depends().ok().and_then(parse) {
        return Ok(package);
    }
    shell::run(&mut shell::command("apt-get", ["update", "-qq"]))?;
    depends().map(parse)?.with_context(|| format!("apt knows no {PACKAGE}; is this Debian 12?"))
}

fn unpack(name: &str, version: &str, work: &Path) -> Result<()> {
    package::unpack(name, work)?;
    shell::run(shell::command("depmod", ["-b"]).arg(work).arg(version)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_builtins_are_left_out() {
        let text =
            "insmod /k/net/failover.ko \nbuiltin nvme\ninsmod /k/net/virtio_net.ko napi_tx=1\n";
        let paths: Vec<_> = parse_depends(text).collect();
        assert_eq!(paths, [Path::new("/k/net/failover.ko"), Path::new("/k/net/virtio_net.ko")]);
    }
}
