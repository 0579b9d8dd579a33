//! How much memory is plugged in. What the kernel calls total lacks what firmware and kernel keep for themselves, so
//! that a machine of 1 GiB would not match a size of 1 GiB.

use std::fs;

use crate::hardware::{Roots, dmi, read_text};

/// Bytes of memory: what the firmware says is plugged in; else the blocks that the kernel manages; else the kernel's
/// total, rounded up.
#[must_use]
pub fn total(roots: &Roots) -> u64 {
    let tables = fs::read(roots.sys.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    let meminfo = fs::read_to_string(roots.proc.join("meminfo")).unwrap_or_default();
    [dmi::memory(&tables), blocks(roots), rounded(&meminfo)]
        .into_iter()
        .find(|bytes| *bytes > 0)
        .unwrap_or(0)
}

fn blocks(roots: &Roots) -> u64 {
    let folder = roots.sys.join("devices/system/memory");
    let size = u64::from_str_radix(&read_text(&folder.join("block_size_bytes")), 16).unwrap_or(0);
    let Ok(entries) = fs::read_dir(&folder) else { return 0 };
    let count = entries
        .flatten()
        .filter(|e| {
            e.file_name()
                .to_string_lossy()
                .strip_prefix("memory")
                .is_some_and(|n| n.parse::<u32>().is_ok())
        })
        .count() as u64;
    count * size
}

/// Up to the next multiple of 256 MiB: firmware and kernel keep less than that, and no machine has less more.
fn rounded(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .unwrap_or(0);
    (kib << 10).next_multiple_of(256 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_total_is_rounded_up() {
        assert_eq!(rounded("MemTotal:         987654 kB\nMemFree: 1 kB\n"), 1 << 30);
        assert_eq!(rounded("MemTotal: 262144 kB\n"), 256 << 20);
        assert_eq!(rounded(""), 0);
    }

    #[test]
    fn firmware_goes_before_blocks_before_the_total() {
        let dir = tempfile::tempdir().unwrap();
        let roots =
            Roots { sys: dir.path().join("sys"), proc: dir.path().into(), dev: dir.path().into() };
        assert_eq!(total(&roots), 0);
        fs::write(dir.path().join("meminfo"), "MemTotal: 1000 kB\n").unwrap();
        assert_eq!(total(&roots), 256 << 20);
        let folder = roots.sys.join("devices/system/memory");
        for name in ["memory0", "memory12", "power"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("block_size_bytes"), "8000000\n").unwrap();
        assert_eq!(total(&roots), 256 << 20);
    }
}
