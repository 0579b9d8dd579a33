//! From the contract's layout to the values that rules are about.

use model::filesystem_layout::{Claims, Disk, Filesystem, Group, Layout, Raid, Volume};
use proto::api;

use crate::rpc::Error;

/// Refuses a layout that contradicts itself.
pub(super) fn check(layout: &api::FilesystemLayout) -> Result<(), Error> {
    check_kinds(layout).map_err(Error::invalid)?;
    model::filesystem_layout::check(&of(layout)).map_err(Error::invalid)
}

/// What the rules need of a layout.
pub(super) fn of(layout: &api::FilesystemLayout) -> Layout {
    Layout {
        disks: layout.disks.iter().map(disk).collect(),
        raids: layout.raid.iter().map(raid).collect(),
        groups: layout.volume_groups.iter().map(group).collect(),
        volumes: layout.logical_volumes.iter().map(volume).collect(),
        filesystems: layout
            .filesystems
            .iter()
            .filter(|filesystem| filesystem.format != api::Format::Tmpfs)
            .map(filesystem)
            .collect(),
    }
}

/// For which sizes and images a layout is chosen.
pub(super) fn claims(layout: &api::FilesystemLayout) -> Result<Claims, Error> {
    let constraints = &layout.constraints;
    let sizes = constraints.sizes.iter().map(String::as_str);
    let images = constraints.images.iter().map(|(os, versions)| (os.as_str(), versions.as_str()));
    Claims::parse(sizes, images).map_err(|e| Error::invalid(format!("constraints: {e}")))
}

/// Kinds that the contract lets pass although nobody could act on them.
fn check_kinds(layout: &api::FilesystemLayout) -> Result<(), String> {
    for disk in &layout.disks {
        for partition in &disk.partitions {
            if !partition.gpt_type.is_some_and(|t| t.is_known() && t != api::GPTType::Unspecified) {
                return Err(format!(
                    "disk {}: the GPT type of partition {} is missing",
                    disk.device, partition.number
                ));
            }
        }
    }
    for raid in &layout.raid {
        if !raid.level.is_known() || raid.level == api::RaidLevel::RAID_LEVEL_UNSPECIFIED {
            return Err(format!("raid {}: the level is missing, use 0 or 1", raid.array_name));
        }
    }
    for filesystem in &layout.filesystems {
        if !filesystem.format.is_known() || filesystem.format == api::Format::Unspecified {
            return Err(format!("filesystem on {}: the format is missing", filesystem.device));
        }
    }
    Ok(())
}

fn disk(disk: &api::Disk) -> Disk {
    let partitions = disk.partitions.iter().map(|p| (p.number, p.size)).collect();
    Disk { device: disk.device.clone(), partitions }
}

fn raid(raid: &api::Raid) -> Raid {
    Raid {
        name: raid.array_name.clone(),
        devices: raid.devices.clone(),
        spares: i64::from(raid.spares),
    }
}

fn group(group: &api::VolumeGroup) -> Group {
    Group { name: group.name.clone(), devices: group.devices.clone() }
}

fn volume(volume: &api::LogicalVolume) -> Volume {
    Volume {
        name: volume.name.clone(),
        group: volume.volume_group.clone(),
        mib: volume.size,
        spread: matches!(
            volume.lvm_type.as_known(),
            Some(api::LVMType::LVM_TYPE_STRIPED | api::LVMType::LVM_TYPE_RAID1)
        ),
    }
}

fn filesystem(filesystem: &api::Filesystem) -> Filesystem {
    Filesystem {
        device: filesystem.device.clone(),
        create_options: filesystem.create_options.clone(),
    }
}
