//! The plan's effects on disks.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use uuid::Uuid;

use crate::console::say;
use crate::gpt::Table;
use crate::hardware::{self, Roots, read_text};
use crate::layout::{DiskFact, Make, Plan, partition_device};
use crate::{sys, system};

/// How long a new partition may take to appear.
const APPEAR: Duration = Duration::from_secs(5);

/// The disks of this machine.
pub(super) fn facts(roots: &Roots) -> Vec<DiskFact> {
    hardware::disks(roots)
        .into_iter()
        .map(|disk| {
            let queue = roots.sys.join("block").join(&disk.name).join("queue/logical_block_size");
            let sector = read_text(&queue).parse().unwrap_or(512);
            DiskFact { device: format!("/dev/{}", disk.name), size: disk.size, sector }
        })
        .collect()
}

/// Writes the tables and puts RAIDs and volumes together.
pub(super) fn partition(plan: &Plan) -> Result<((), String)> {
    for (device, table) in &plan.tables {
        write_table(device, table).with_context(|| format!("{device} cannot be partitioned"))?;
    }
    for words in &plan.assemble {
        run(words)?;
    }
    let text =
        plan.tables.iter().map(|(device, table)| format!("{device} in {}", table.partitions.len()));
    Ok(((), text.collect::<Vec<_>>().join(", ")))
}

fn write_table(device: &str, table: &Table) -> Result<()> {
    let image = table.image().context("it is too small for a partition table")?;
    let disk =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(device)?;
    let end = table.sector * table.sectors;
    disk.write_all_at(&image.head, 0)?;
    disk.write_all_at(&image.tail, end - image.tail.len() as u64)?;
    // what an earlier installation left at the start of a partition would be taken for a file system
    let zeros = vec![0; 64 << 10];
    for partition in &table.partitions {
        disk.write_all_at(&zeros, partition.first * table.sector)?;
    }
    disk.sync_data()?;
    let deadline = Instant::now() + APPEAR;
    while let Err(error) = sys::reread_partitions(&disk) {
        if Instant::now() > deadline {
            bail!("the kernel does not read its new table: {error}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    for partition in &table.partitions {
        let device = partition_device(device, partition.number);
        while !Path::new(&device).exists() {
            if Instant::now() > deadline {
                bail!("{device} does not appear");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Makes all file systems at the same time.
pub(super) fn format(plan: &Plan) -> Result<((), String)> {
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = plan.make.iter().map(|make| scope.spawn(move || one(make))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("a panic")))).collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(((), format!("{} file systems", plan.make.len())))
}

fn one(make: &Make) -> Result<()> {
    match make {
        Make::Program(words) => run(words),
        Make::Swap { device, uuid, label } => {
            swap(device, *uuid, label).with_context(|| format!("{device} cannot become swap space"))
        }
    }
}

/// Writes the header that `swapon` looks for: version, last page, identity and label in the first page.
fn swap(device: &str, uuid: Uuid, label: &str) -> io::Result<()> {
    const PAGE: usize = 4096;
    let mut file = OpenOptions::new().read(true).write(true).open(device)?;
    let length = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
    let pages = u32::try_from(length / PAGE as u64).unwrap_or(u32::MAX);
    if pages < 10 {
        return Err(io::Error::other("it is too small"));
    }
    let mut page = vec![0; PAGE];
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&(pages - 1).to_le_bytes());
    page[1036..1052].copy_from_slice(uuid.as_bytes());
    let label = &label.as_bytes()[..label.len().min(16)];
    page[1052..1052 + label.len()].copy_from_slice(label);
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    io::Seek::rewind(&mut file)?;
    file.write_all(&page)?;
    file.sync_data()
}

/// Runs a program of the initrd. What it says is shown when it fails.
fn run(words: &[String]) -> Result<()> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                " (the initrd does not have it)"
            } else {
                ""
            };
            anyhow!("{program} cannot be started: {error}{hint}")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
    bail!("`{}` failed ({}): {}", words.join(" "), output.status, said.trim())
}

/// Mounts everything below `target`, parents first.
pub(super) fn mount(plan: &Plan, target: &Path) -> Result<()> {
    for mount in &plan.mounts {
        let path = target.join(mount.path.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("no folder {}", path.display()))?;
        // inode tables are made ready by the installed system, not while the image is being written
        let options = if mount.kind == "ext4" { "noinit_itable" } else { "" };
        system::mount_device(&mount.device, &path, mount.kind, MountFlags::NOATIME, options)
            .with_context(|| format!("{} cannot be mounted as {}", mount.device, mount.kind))?;
    }
    Ok(())
}

/// Unmounts everything below `target`, children first, which also writes it to the disks.
pub(super) fn release(target: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut paths: Vec<_> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| Path::new(path).starts_with(target))
        .collect();
    paths.sort();
    for path in paths.iter().rev() {
        let deadline = Instant::now() + APPEAR;
        while let Err(error) = unmount(*path, UnmountFlags::empty()) {
            if Instant::now() > deadline {
                say(&format!("install   {path} cannot be unmounted: {error}"));
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_space_is_recognised() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        swap(file.path().to_str().unwrap(), Uuid::from_u128(7), "swap").unwrap();
        let bytes = fs::read(file.path()).unwrap();
        assert_eq!(&bytes[4086..4096], b"SWAPSPACE2");
        assert_eq!(bytes[1028..1032], 255_u32.to_le_bytes());
        assert_eq!(&bytes[1052..1057], b"swap\0");
        assert_eq!(bytes.len(), 1 << 20);
        file.as_file().set_len(4096).unwrap();
        assert!(swap(file.path().to_str().unwrap(), Uuid::from_u128(7), "").is_err());
    }

    #[test]
    fn programs_say_why() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(run(&words("/bin/true")).is_ok());
        let error = run(&words("/bin/ls /nonexistent-folder")).unwrap_err().to_string();
        assert!(error.contains("nonexistent-folder") && error.contains("failed"), "{error}");
        let error = run(&words("/sbin/no-such-program")).unwrap_err().to_string();
        assert!(error.contains("the initrd does not have it"), "{error}");
    }
}
