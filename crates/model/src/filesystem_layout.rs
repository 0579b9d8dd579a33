//! Filesystem layouts: whether one contradicts itself, fits a machine's disks, and for which size and image it is chosen.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{Version, Versions};

/// What a layout does with disks, as far as it can contradict itself. The steps are done in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Disks that get a new partition table.
    pub disks: Vec<Disk>,
    /// Software RAIDs.
    pub raids: Vec<Raid>,
    /// Volume groups.
    pub groups: Vec<Group>,
    /// Logical volumes.
    pub volumes: Vec<Volume>,
    /// What is formatted.
    pub filesystems: Vec<Filesystem>,
}

/// One disk of which the whole content is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Path, for instance `/dev/nvme0n1`.
    pub device: String,
    /// Number and size in MiB of each partition; 0 takes the rest.
    pub partitions: Vec<(u32, u64)>,
}

/// One software RAID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raid {
    /// Path, for instance `/dev/md0`.
    pub name: String,
    /// Paths of its members, spares included.
    pub devices: Vec<String>,
    /// How many of them are spares.
    pub spares: i64,
}

/// One volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Paths of its physical volumes.
    pub devices: Vec<String>,
}

/// One logical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Name of its group.
    pub group: String,
    /// Size in MiB; 0 takes the rest.
    pub mib: u64,
    /// Striped or mirrored, so that one device is not enough.
    pub spread: bool,
}

/// One formatted device; those in memory are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Path of a disk, partition, RAID or logical volume.
    pub device: String,
    /// Arguments for `mkfs`.
    pub create_options: Vec<String>,
}

/// Path of a partition: names that end in a digit need a `p` in between.
#[must_use]
pub fn partition_path(disk: &str, number: u32) -> String {
    let p = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{p}{number}")
}

/// Whether the layout is consistent.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn check(layout: &Layout) -> Result<(), String> {
    let mut devices = Devices::default();
    for disk in &layout.disks {
        check_disk(disk)?;
        devices.provide(&disk.device)?;
        for (number, _) in &disk.partitions {
            devices.provide(&partition_path(&disk.device, *number))?;
        }
    }
    for raid in &layout.raids {
        devices.take(&raid.devices, &format!("raid {}", raid.name))?;
        if raid.spares < 0
            || usize::try_from(raid.spares).is_ok_and(|n| n > 0 && n >= raid.devices.len())
        {
            return Err(format!(
                "raid {}: {} spares of {} devices",
                raid.name,
                raid.spares,
                raid.devices.len()
            ));
        }
        devices.provide(&raid.name)?;
    }
    for group in &layout.groups {
        devices.take(&group.devices, &format!("volume group {}", group.name))?;
        if layout.groups.iter().filter(|other| other.name == group.name).count() > 1 {
            return Err(format!("volume group {} is listed twice", group.name));
        }
    }
    for (i, volume) in layout.volumes.iter().enumerate() {
        check_volume(layout, i, volume)?;
        devices.provide(&format!("/dev/{}/{}", volume.group, volume.name))?;
    }
    for filesystem in &layout.filesystems {
        let device = &filesystem.device;
        devices.take(std::slice::from_ref(device), "filesystem")?;
        if let Some(option) =
            filesystem.create_options.iter().find(|o| o.contains(char::is_whitespace))
        {
            return Err(format!(
                "filesystem on {device}: the create option \"{option}\" contains white space: split it into several options"
            ));
        }
    }
    Ok(())
}

fn check_disk(disk: &Disk) -> Result<(), String> {
    let device = &disk.device;
    let mut numbers = BTreeSet::new();
    for (i, (number, mib)) in disk.partitions.iter().enumerate() {
        if *number == 0 {
            return Err(format!("disk {device}: partitions are counted from 1"));
        }
        if !numbers.insert(number) {
            return Err(format!("disk {device}: partition {number} is listed twice"));
        }
        if *mib == 0 && i + 1 != disk.partitions.len() {
            return Err(format!(
                "disk {device}: only the last partition may take the rest (size 0)"
            ));
        }
    }
    Ok(())
}

fn check_volume(layout: &Layout, at: usize, volume: &Volume) -> Result<(), String> {
    let Volume { name, group, .. } = volume;
    let Some(members) = layout.groups.iter().find(|g| g.name == *group) else {
        return Err(format!("logical volume {name}: there is no volume group {group}"));
    };
    if volume.spread && members.devices.len() < 2 {
        return Err(format!(
            "logical volume {name}: striped and raid1 need a volume group with at least 2 devices"
        ));
    }
    if volume.mib == 0 && layout.volumes[at + 1..].iter().any(|later| later.group == *group) {
        return Err(format!(
            "logical volume {name}: only the last one of its group may take the rest (size 0)"
        ));
    }
    Ok(())
}

/// What earlier steps made and what was made of it.
#[derive(Default)]
struct Devices {
    provided: BTreeSet<String>,
    taken: BTreeMap<String, String>,
}

impl Devices {
    fn provide(&mut self, device: &str) -> Result<(), String> {
        if self.provided.insert(device.to_owned()) {
            Ok(())
        } else {
            Err(format!("{device} is listed twice"))
        }
    }

    fn take(&mut self, devices: &[String], by: &str) -> Result<(), String> {
        if devices.is_empty() {
            return Err(format!("{by}: no devices given"));
        }
        for device in devices {
            if !self.provided.contains(device) {
                return Err(format!(
                    "{by}: no disk, partition, RAID or logical volume makes {device}"
                ));
            }
            if let Some(other) = self.taken.insert(device.clone(), by.to_owned()) {
                return Err(format!("{by}: {device} is already used by {other}"));
            }
        }
        Ok(())
    }
}

/// Whether a machine has the disks, and they are large enough. `disks` are paths, or the part behind `/dev/`, and bytes.
///
/// # Errors
/// A sentence that names the first disk that does not fit.
pub fn fits(layout: &Layout, disks: &[(String, u64)]) -> Result<(), String> {
    for Disk { device, partitions } in &layout.disks {
        let found =
            disks.iter().find(|(name, _)| name == device || format!("/dev/{name}") == *device);
        let Some((_, bytes)) = found else {
            return Err(format!("the machine has no disk {device}"));
        };
        let mib = partitions.iter().fold(0_u64, |sum, (_, mib)| sum.saturating_add(*mib));
        if mib > bytes / 1024 / 1024 {
            return Err(format!(
                "disk {device} has {} MiB, the layout needs {mib}",
                bytes / 1024 / 1024
            ));
        }
    }
    Ok(())
}

/// For which sizes and images a layout is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Ids of sizes.
    pub sizes: BTreeSet<String>,
    /// Versions per operating system.
    pub images: BTreeMap<String, Versions>,
}

impl Claims {
    /// Reads constraints.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse<'a>(
        sizes: impl IntoIterator<Item = &'a str>,
        images: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut claims = Self::default();
        for size in sizes {
            if size.contains('*') {
                return Err(format!("size {size}: list the ids of sizes, there is no wildcard"));
            }
            if !claims.sizes.insert(size.to_owned()) {
                return Err(format!("size {size} is listed twice"));
            }
        }
        for (os, text) in images {
            if os == "*" {
                return Err(
                    "images: name the operating systems, there is no wildcard for them".to_owned()
                );
            }
            let versions = Versions::parse(text).map_err(|e| format!("image {os}: {e}"))?;
            claims.images.insert(os.to_owned(), versions);
        }
        Ok(claims)
    }

    /// Whether the layout is chosen for this size and image.
    #[must_use]
    pub fn matches(&self, size: &str, os: &str, version: Version) -> bool {
        self.sizes.contains(size)
            && self.images.get(os).is_some_and(|versions| versions.contain(version))
    }

    /// A size and an operating system of which some version is claimed by both.
    #[must_use]
    pub fn collision<'a>(&'a self, other: &Self) -> Option<(&'a str, &'a str)> {
        let size = self.sizes.iter().find(|size| other.sizes.contains(*size))?;
        let (os, _) = self.images.iter().find(|(os, versions)| {
            other.images.get(*os).is_some_and(|theirs| versions.overlap(theirs))
        })?;
        Some((size, os))
    }
}

#[cfg(test)]
mod tests;
