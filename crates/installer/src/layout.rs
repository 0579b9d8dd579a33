//! From the allocation's file system layout to a plan: what is written on which disk, formatted how, mounted where.
//! Everything that can be wrong with it is found before the first byte is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::api::{FilesystemLayout, Format, GPTType, LVMType, RaidLevel};
use uuid::Uuid;

use crate::console::size;
use crate::gpt::{self, Kind, Partition, Table};

/// A disk of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFact {
    /// Like `/dev/nvme0n1`.
    pub device: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub sector: u64,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Partition tables by device.
    pub tables: Vec<(String, Table)>,
    /// Commands that put RAIDs and volume groups together, one after the other.
    pub assemble: Vec<Vec<String>>,
    /// What is formatted; independent of one another.
    pub make: Vec<Make>,
    /// What is mounted, parents first.
    pub mounts: Vec<Mount>,
    /// The installed system's `/etc/fstab`.
    pub fstab: String,
    /// What holds the installed system.
    pub root: Root,
}

/// How a device gets its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// By a program of the initrd.
    Program(Vec<String>),
    /// By us: there is only a header to write.
    Swap {
        /// Partition or volume.
        device: String,
        /// Its identity in `/etc/fstab`.
        uuid: Uuid,
        /// At most 16 bytes are kept.
        label: String,
    },
}

/// A device below the mount point of the new system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Partition or volume.
    pub device: String,
    /// Kernel's name of the file system.
    pub kind: &'static str,
    /// Absolute path in the installed system.
    pub path: String,
    /// Options of the layout.
    pub options: Vec<String>,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Partition or volume.
    pub device: String,
    /// Kernel's name of the file system.
    pub kind: &'static str,
    /// What comes after `root=` on the kernel command line.
    pub argument: String,
}

/// Makes the plan; `id` gives fresh identities.
///
/// # Errors
/// A sentence that says what does not fit, with the numbers.
pub fn plan(
    layout: &FilesystemLayout,
    disks: &[DiskFact],
    mut id: impl FnMut() -> Uuid,
) -> Result<Plan, String> {
    let mut tables = Vec::new();
    let mut partitions = BTreeMap::new();
    for disk in &layout.disks {
        let table = table(layout, disk, disks, &mut id)?;
        for partition in &table.partitions {
            partitions.insert(partition_device(&disk.device, partition.number), partition.guid);
        }
        tables.push((disk.device.clone(), table));
    }
    let (make, mounts, fstab) = filesystems(layout, &mut id)?;
    let root = root(layout, &partitions)?;
    Ok(Plan { tables, assemble: assemble(layout)?, make, mounts, fstab, root })
}

/// The device of the root file system, without a plan.
///
/// # Errors
/// When the layout has none.
pub fn root_device(layout: &FilesystemLayout) -> Result<Root, String> {
    root(layout, &BTreeMap::new())
}

/// `/dev/sda1`, but `/dev/nvme0n1p1`.
#[must_use]
pub fn partition_device(disk: &str, number: u32) -> String {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{separator}{number}")
}

fn table(
    layout: &FilesystemLayout,
    disk: &proto::api::Disk,
    disks: &[DiskFact],
    id: &mut impl FnMut() -> Uuid,
) -> Result<Table, String> {
    let Some(fact) = disks.iter().find(|fact| fact.device == disk.device) else {
        return Err(format!(
            "the layout {} wants the disk {}, but this machine has {}",
            layout.id,
            disk.device,
            inventory(disks)
        ));
    };
    let sectors = fact.size / fact.sector;
    let align = (1 << 20) / fact.sector;
    let too_small = |needed: u64| {
        format!(
            "the layout {} needs {} on {}, which has only {}",
            layout.id,
            size(needed),
            disk.device,
            size(fact.size)
        )
    };
    let needed = (2 << 20) + disk.partitions.iter().map(|p| p.size << 20).sum::<u64>();
    let (_, last_usable) =
        gpt::usable(fact.sector, sectors).ok_or_else(|| too_small(needed.max(4 << 20)))?;
    let mut next = align;
    let mut partitions: Vec<Partition> = Vec::new();
    for (index, wanted) in disk.partitions.iter().enumerate() {
        let end = if wanted.size > 0 {
            next + wanted.size * align
        } else if index + 1 == disk.partitions.len() {
            (last_usable + 1) / align * align
        } else {
            return Err(format!(
                "the layout {} gives the rest of {} to partition {}, which is not the last one",
                layout.id, disk.device, wanted.number
            ));
        };
        if end <= next || end > last_usable + 1 {
            return Err(too_small(needed));
        }
        if wanted.number == 0
            || wanted.number > 128
            || partitions.iter().any(|p| p.number == wanted.number)
        {
            return Err(format!(
                "the layout {} has no use for the partition number {} of {}: numbers go from 1 to 128, each once",
                layout.id, wanted.number, disk.device
            ));
        }
        partitions.push(Partition {
            number: wanted.number,
            kind: kind(wanted.gpt_type.and_then(|t| t.as_known())),
            guid: id(),
            name: wanted.label.clone().unwrap_or_default(),
            first: next,
            last: end - 1,
        });
        next = end;
    }
    Ok(Table { disk: id(), sector: fact.sector, sectors, partitions })
}

fn inventory(disks: &[DiskFact]) -> String {
    if disks.is_empty() {
        return "no disk at all".into();
    }
    let names: Vec<_> = disks.iter().map(|d| format!("{} ({})", d.device, size(d.size))).collect();
    format!("only {}", names.join(", "))
}

fn kind(wanted: Option<GPTType>) -> Kind {
    match wanted {
        Some(GPTType::Boot) => Kind::Boot,
        Some(GPTType::LinuxRaid) => Kind::Raid,
        Some(GPTType::LinuxLvm) => Kind::Lvm,
        _ => Kind::Linux,
    }
}

type Filesystems = (Vec<Make>, Vec<Mount>, String);

fn filesystems(
    layout: &FilesystemLayout,
    id: &mut impl FnMut() -> Uuid,
) -> Result<Filesystems, String> {
    let (mut make, mut mounts, mut fstab) = (Vec::new(), Vec::new(), Vec::new());
    for fs in &layout.filesystems {
        let Some(format) = fs.format.as_known() else {
            return Err(format!(
                "the layout {} has an unknown format for {}",
                layout.id, fs.device
            ));
        };
        let uuid = id();
        let label = fs.label.clone().unwrap_or_default();
        let mut source = format!("UUID={uuid}");
        let kind = match format {
            Format::Ext3 | Format::Ext4 => {
                let kind = if format == Format::Ext4 { "ext4" } else { "ext3" };
                make.push(Make::Program(mke2fs(kind, fs, &label, uuid)));
                kind
            }
            Format::Vfat => {
                let serial = uuid.as_fields().0;
                source = format!("UUID={:04X}-{:04X}", serial >> 16, serial & 0xffff);
                make.push(Make::Program(mkfs_vfat(fs, &label, serial)));
                "vfat"
            }
            Format::Swap => {
                make.push(Make::Swap { device: fs.device.clone(), uuid, label });
                "swap"
            }
            Format::Tmpfs => {
                source = "tmpfs".into();
                "tmpfs"
            }
            Format::None => continue,
            Format::Unspecified => {
                return Err(format!(
                    "the layout {} does not say how {} is formatted",
                    layout.id, fs.device
                ));
            }
        };
        let Some(path) = fs.path.clone().filter(|path| !path.is_empty()) else { continue };
        let esp = kind == "vfat" && path.starts_with("/boot");
        let options = match fs.mount_options.as_slice() {
            // only firmware reads it: a system that starts does not wait for it
            [] if esp => "nofail".into(),
            [] => "defaults".into(),
            options => options.join(","),
        };
        let pass = match (kind, path.as_str()) {
            ("tmpfs" | "swap" | "vfat", _) => 0,
            (_, "/") => 1,
            _ => 2,
        };
        let place = if kind == "swap" { "none" } else { &path };
        fstab.push((depth(&path), format!("{source} {place} {kind} {options} 0 {pass}\n")));
        if !matches!(kind, "swap" | "tmpfs") {
            let (device, options) = (fs.device.clone(), fs.mount_options.clone());
            mounts.push(Mount { device, kind, path, options });
        }
    }
    mounts.sort_by_key(|mount| depth(&mount.path));
    fstab.sort_by_key(|(depth, _)| *depth);
    Ok((make, mounts, fstab.into_iter().map(|(_, line)| line).collect()))
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Tables and journal are written lazily by the installed system: the wipe has made the disk zero.
fn mke2fs(kind: &str, fs: &proto::api::Filesystem, label: &str, uuid: Uuid) -> Vec<String> {
    let mut words: Vec<String> = ["/sbin/mke2fs", "-t", kind].map(Into::into).into();
    words.extend(create_options(fs));
    words.extend(["-F", "-q", "-U", &uuid.to_string()].map(Into::into));
    if !fs.create_options.iter().any(|option| option.starts_with("-E")) {
        words.extend(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"].map(Into::into));
    }
    if !label.is_empty() {
        words.extend(["-L".into(), label.into()]);
    }
    words.push(fs.device.clone());
    words
}

/// Each one is a word; catalogues also hold an option and its value in one.
fn create_options(fs: &proto::api::Filesystem) -> impl Iterator<Item = String> {
    fs.create_options.iter().flat_map(|option| option.split_whitespace()).map(str::to_owned)
}

fn mkfs_vfat(fs: &proto::api::Filesystem, label: &str, serial: u32) -> Vec<String> {
    let mut words = vec!["/sbin/mkfs.vfat".to_owned()];
    words.extend(create_options(fs));
    words.extend(["-i".into(), format!("{serial:08x}")]);
    if !label.is_empty() {
        words.extend(["-n".into(), label.into()]);
    }
    words.push(fs.device.clone());
    words
}

/// The partition's identity where there is one: the kernel finds it without help, whatever the disk is called then.
fn root(layout: &FilesystemLayout, partitions: &BTreeMap<String, Uuid>) -> Result<Root, String> {
    let labelled = layout.filesystems.iter().find(|fs| fs.label.as_deref() == Some("root"));
    let found =
        labelled.or_else(|| layout.filesystems.iter().find(|fs| fs.path.as_deref() == Some("/")));
    let Some(fs) = found.filter(|fs| fs.path.as_deref() == Some("/")) else {
        return Err(format!("the layout {} has no file system labelled root at /", layout.id));
    };
    let kind = match fs.format.as_known() {
        Some(Format::Ext4) => "ext4",
        Some(Format::Ext3) => "ext3",
        _ => {
            return Err(format!(
                "the layout {} wants a root that is neither ext4 nor ext3",
                layout.id
            ));
        }
    };
    let argument = match partitions.get(&fs.device) {
        Some(guid) => format!("PARTUUID={guid}"),
        None => fs.device.clone(),
    };
    Ok(Root { device: fs.device.clone(), kind, argument })
}

fn assemble(layout: &FilesystemLayout) -> Result<Vec<Vec<String>>, String> {
    let mut commands = Vec::new();
    for raid in &layout.raid {
        let (level, clean) = match raid.level.as_known() {
            Some(RaidLevel::RaidLevel0) => ("0", true),
            Some(RaidLevel::RaidLevel1) => ("1", true),
            _ => {
                return Err(format!(
                    "the layout {} has an unknown level for {}",
                    layout.id, raid.array_name
                ));
            }
        };
        let spares = usize::try_from(raid.spares).unwrap_or(0);
        let active = raid.devices.len().saturating_sub(spares);
        let mut words: Vec<String> = [
            "/sbin/mdadm",
            "--create",
            &raid.array_name,
            "--force",
            "--run",
            "--homehost",
            "any",
            "--level",
            level,
        ]
        .map(Into::into)
        .into();
        words.extend(["--raid-devices".into(), active.to_string()]);
        if spares > 0 {
            words.extend(["--spare-devices".into(), spares.to_string()]);
        }
        if clean {
            words.push("--assume-clean".into());
        }
        words.extend(raid.create_options.iter().cloned());
        words.extend(raid.devices.iter().cloned());
        commands.push(words);
    }
    for group in &layout.volume_groups {
        let mut words: Vec<String> =
            ["/sbin/lvm", "vgcreate", "--yes", &group.name].map(Into::into).into();
        words.extend(group.devices.iter().cloned());
        words.extend(group.tags.iter().flat_map(|tag| ["--addtag".into(), tag.clone()]));
        commands.push(words);
    }
    for volume in &layout.logical_volumes {
        let members = layout
            .volume_groups
            .iter()
            .find(|group| group.name == volume.volume_group)
            .map_or(0, |group| group.devices.len());
        let mut words: Vec<String> =
            ["/sbin/lvm", "lvcreate", "--yes", "--wipesignatures", "y", "--name", &volume.name]
                .map(Into::into)
                .into();
        words.extend(match volume.size {
            0 => ["--extents".into(), "100%FREE".into()],
            mib => ["--size".into(), format!("{mib}m")],
        });
        words.extend(match volume.lvm_type.as_known() {
            // with one device there is nothing to spread over
            Some(LVMType::Striped) if members > 1 => {
                vec!["--type".into(), "striped".into(), "--stripes".into(), members.to_string()]
            }
            Some(LVMType::Raid1) if members > 1 => {
                ["--type", "raid1", "--mirrors", "1", "--nosync"].map(Into::into).into()
            }
            _ => Vec::new(),
        });
        words.push(volume.volume_group.clone());
        commands.push(words);
    }
    Ok(commands)
}

/// The plan as text: what an installation is going to do.
#[must_use]
pub fn describe(plan: &Plan) -> String {
    let mut text = String::new();
    for (device, table) in &plan.tables {
        let _ = writeln!(text, "table {device}");
        for p in &table.partitions {
            let bytes = (p.last - p.first + 1) * table.sector;
            let _ = writeln!(
                text,
                "  {} {:?} {:?} from {} {}",
                p.number,
                p.kind,
                p.name,
                p.first,
                size(bytes)
            );
        }
    }
    for words in &plan.assemble {
        let _ = writeln!(text, "run {}", words.join(" "));
    }
    for make in &plan.make {
        let _ = match make {
            Make::Program(words) => writeln!(text, "make {}", words.join(" ")),
            Make::Swap { device, uuid, .. } => writeln!(text, "make swap {uuid} on {device}"),
        };
    }
    for mount in &plan.mounts {
        let _ = writeln!(text, "mount {} {} {}", mount.device, mount.kind, mount.path);
    }
    let _ = writeln!(text, "root={} ({} {})", plan.root.argument, plan.root.kind, plan.root.device);
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    pub(crate) fn layout(json: &str) -> FilesystemLayout {
        serde_json::from_str(json).unwrap()
    }

    const LAB: &str = r#"{"id":"lab","filesystems":[
        {"device":"/dev/nvme0n1p2","format":"FORMAT_EXT4","path":"/","label":"root"},
        {"device":"/dev/nvme0n1p1","format":"FORMAT_VFAT","path":"/boot/efi","label":"efi","createOptions":["-F","32"]},
        {"device":"/dev/nvme0n1p3","format":"FORMAT_SWAP","path":"none","label":"swap"},
        {"device":"tmpfs","format":"FORMAT_TMPFS","path":"/tmp","mountOptions":["noatime","size=512M"]}],
        "disks":[{"device":"/dev/nvme0n1","partitions":[
            {"number":1,"label":"efi","size":"256","gptType":"GPT_TYPE_BOOT"},
            {"number":2,"label":"root","size":"4096","gptType":"GPT_TYPE_LINUX"},
            {"number":3,"label":"swap","gptType":"GPT_TYPE_LINUX"}]}]}"#;

    fn disk(size: u64) -> Vec<DiskFact> {
        vec![DiskFact { device: "/dev/nvme0n1".into(), size, sector: 512 }]
    }

    fn counted() -> impl FnMut() -> Uuid {
        let mut count = 0xa000_0000_0000_0000_0000_0000_0000_0000_u128;
        move || {
            count += 1;
            Uuid::from_u128(count)
        }
    }

    #[test]
    fn the_lab_s_layout() {
        let plan = plan(&layout(LAB), &disk(10 << 30), counted()).unwrap();
        expect![[r#"
            table /dev/nvme0n1
              1 Boot "efi" from 2048 256 MiB
              2 Linux "root" from 526336 4 GiB
              3 Linux "swap" from 8914944 5.7 GiB
            make /sbin/mke2fs -t ext4 -F -q -U a0000000-0000-0000-0000-000000000005 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -L root /dev/nvme0n1p2
            make /sbin/mkfs.vfat -F 32 -i a0000000 -n efi /dev/nvme0n1p1
            make swap a0000000-0000-0000-0000-000000000007 on /dev/nvme0n1p3
            mount /dev/nvme0n1p2 ext4 /
            mount /dev/nvme0n1p1 vfat /boot/efi
            root=PARTUUID=a0000000-0000-0000-0000-000000000002 (ext4 /dev/nvme0n1p2)
        "#]]
        .assert_eq(&describe(&plan));
        expect![[r#"
            UUID=a0000000-0000-0000-0000-000000000005 / ext4 defaults 0 1
            UUID=a0000000-0000-0000-0000-000000000007 none swap defaults 0 0
            tmpfs /tmp tmpfs noatime,size=512M 0 0
            UUID=A000-0000 /boot/efi vfat nofail 0 0
        "#]]
        .assert_eq(&plan.fstab);
    }

    #[test]
    fn raid_and_volumes() {
        let layout = layout(
            r#"{"id":"raid","filesystems":[
            {"device":"/dev/md0","format":"FORMAT_EXT4","path":"/","label":"root"},
            {"device":"/dev/csi/varlib","format":"FORMAT_EXT4","path":"/var/lib"}],
            "disks":[{"device":"/dev/sda","partitions":[{"number":1,"size":"1000","gptType":"GPT_TYPE_LINUX_RAID"}]},
                     {"device":"/dev/sdb","partitions":[{"number":1,"size":"1000","gptType":"GPT_TYPE_LINUX_RAID"}]}],
            "raid":[{"arrayName":"/dev/md0","devices":["/dev/sda1","/dev/sdb1"],"level":"RAID_LEVEL_1","createOptions":["--metadata","1.0"]}],
            "volumeGroups":[{"name":"csi","devices":["/dev/sdc","/dev/sdd"],"tags":["t"]}],
            "logicalVolumes":[{"name":"varlib","volumeGroup":"csi","size":"200","lvmType":"LVM_TYPE_STRIPED"}]}"#,
        );
        let disks: Vec<_> = ["/dev/sda", "/dev/sdb"]
            .map(|device| DiskFact { device: device.into(), size: 2 << 30, sector: 4096 })
            .into();
        let plan = plan(&layout, &disks, counted()).unwrap();
        expect![[r#"
            table /dev/sda
              1 Raid "" from 256 1000 MiB
            table /dev/sdb
              1 Raid "" from 256 1000 MiB
            run /sbin/mdadm --create /dev/md0 --force --run --homehost any --level 1 --raid-devices 2 --assume-clean --metadata 1.0 /dev/sda1 /dev/sdb1
            run /sbin/lvm vgcreate --yes csi /dev/sdc /dev/sdd --addtag t
            run /sbin/lvm lvcreate --yes --wipesignatures y --name varlib --size 200m --type striped --stripes 2 csi
            make /sbin/mke2fs -t ext4 -F -q -U a0000000-0000-0000-0000-000000000005 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -L root /dev/md0
            make /sbin/mke2fs -t ext4 -F -q -U a0000000-0000-0000-0000-000000000006 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard /dev/csi/varlib
            mount /dev/md0 ext4 /
            mount /dev/csi/varlib ext4 /var/lib
            root=/dev/md0 (ext4 /dev/md0)
        "#]]
        .assert_eq(&describe(&plan));
    }

    #[test]
    fn what_does_not_fit_is_said_with_numbers() {
        let lab = layout(LAB);
        let refused = |disks: &[DiskFact]| plan(&lab, disks, counted()).unwrap_err();
        expect!["the layout lab needs 4.3 GiB on /dev/nvme0n1, which has only 2 GiB"]
            .assert_eq(&refused(&disk(2 << 30)));
        expect!["the layout lab wants the disk /dev/nvme0n1, but this machine has no disk at all"]
            .assert_eq(&refused(&[]));
        let other = DiskFact { device: "/dev/sda".into(), size: 1 << 30, sector: 512 };
        expect![
            "the layout lab wants the disk /dev/nvme0n1, but this machine has only /dev/sda (1 GiB)"
        ]
        .assert_eq(&refused(&[other]));
        let rootless = plan(&layout(r#"{"id":"x"}"#), &[], counted()).unwrap_err();
        expect!["the layout x has no file system labelled root at /"].assert_eq(&rootless);
    }

    proptest::proptest! {
        #[test]
        fn partitions_never_overlap_and_stay_on_the_disk(sizes in proptest::collection::vec(0_u64..3000, 0..6), disk_mib in 0_u64..8000) {
            let mut lab = layout(LAB);
            lab.disks[0].partitions = sizes.iter().enumerate().map(|(i, size)| proto::api::DiskPartition {
                number: i as u32 + 1, size: *size, ..Default::default()
            }).collect();
            if let Ok(plan) = plan(&lab, &disk(disk_mib << 20), counted()) {
                let table = &plan.tables[0].1;
                let (_, last) = gpt::usable(512, table.sectors).unwrap();
                let mut end = 2047;
                for p in &table.partitions {
                    assert!(p.first > end && p.last >= p.first && p.last <= last && p.first % 2048 == 0);
                    end = p.last;
                }
            }
        }
    }
}
