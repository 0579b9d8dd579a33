//! GUID partition tables (UEFI specification, chapter 5) as bytes.

use uuid::Uuid;

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EFI system partition.
    Boot,
    /// Linux file system.
    Linux,
    /// Member of a software RAID.
    Raid,
    /// Physical volume of LVM.
    Lvm,
}

impl Kind {
    fn guid(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::Boot => 0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b,
            Self::Linux => 0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4,
            Self::Raid => 0xa19d_880f_05fc_4d3b_a006_743f_0f84_911e,
            Self::Lvm => 0xe6d6_d379_f507_44c2_a23c_238f_2a3d_f928,
        })
    }
}

/// One partition; positions in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// What it is for.
    pub kind: Kind,
    /// Its own identity: the kernel finds the root by it.
    pub guid: Uuid,
    /// Name; at most 36 UTF-16 units are kept.
    pub name: String,
    /// First sector.
    pub first: u64,
    /// Last sector, included.
    pub last: u64,
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Identity of the disk.
    pub disk: Uuid,
    /// Bytes of a sector.
    pub sector: u64,
    /// Sectors of the disk.
    pub sectors: u64,
    /// In any order.
    pub partitions: Vec<Partition>,
}

const ENTRIES: u64 = 128;
const ENTRY: u64 = 128;

/// What is written where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// From the first byte of the disk.
    pub head: Vec<u8>,
    /// Up to the last byte of the disk.
    pub tail: Vec<u8>,
}

/// Sectors that the entries take.
fn entry_sectors(sector: u64) -> u64 {
    (ENTRIES * ENTRY).div_ceil(sector)
}

/// First and last sector that partitions may use, if the disk is large enough for a table.
#[must_use]
pub fn usable(sector: u64, sectors: u64) -> Option<(u64, u64)> {
    let first = 2 + entry_sectors(sector);
    let last = sectors.checked_sub(2 + entry_sectors(sector))?;
    (first <= last).then_some((first, last))
}

impl Table {
    /// The bytes of both copies and of the protective MBR. `None` for a disk that is too small for a table.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        let (first, last) = usable(self.sector, self.sectors)?;
        let size = usize::try_from(self.sector).ok()?;
        let mut entries = vec![0_u8; (ENTRIES * ENTRY) as usize];
        for partition in &self.partitions {
            let at = (u64::from(partition.number.checked_sub(1)?) * ENTRY) as usize;
            entries.get_mut(at..at + ENTRY as usize)?.copy_from_slice(&entry(partition));
        }
        let sum = crc32fast::hash(&entries);
        entries.resize(entry_sectors(self.sector) as usize * size, 0);
        let header = |own: u64, other: u64, entries_at: u64| {
            let mut header = Vec::with_capacity(92);
            header.extend(b"EFI PART");
            header.extend(0x0001_0000_u32.to_le_bytes());
            header.extend(92_u32.to_le_bytes());
            header.extend([0; 8]); // the header's own sum, then reserved
            header.extend([own, other, first, last].iter().flat_map(|lba| lba.to_le_bytes()));
            header.extend(self.disk.to_bytes_le());
            header.extend(entries_at.to_le_bytes());
            header.extend((ENTRIES as u32).to_le_bytes());
            header.extend((ENTRY as u32).to_le_bytes());
            header.extend(sum.to_le_bytes());
            let own_sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&own_sum.to_le_bytes());
            header.resize(size, 0);
            header
        };
        let end = self.sectors - 1;
        let mut head = protective_mbr(self.sectors);
        head.resize(size, 0);
        head.extend(header(1, end, 2));
        head.extend(&entries);
        let mut tail = entries;
        tail.extend(header(end, 1, end - entry_sectors(self.sector)));
        Some(Image { head, tail })
    }
}

fn entry(partition: &Partition) -> [u8; ENTRY as usize] {
    let mut bytes = [0; ENTRY as usize];
    bytes[..16].copy_from_slice(&partition.kind.guid().to_bytes_le());
    bytes[16..32].copy_from_slice(&partition.guid.to_bytes_le());
    bytes[32..40].copy_from_slice(&partition.first.to_le_bytes());
    bytes[40..48].copy_from_slice(&partition.last.to_le_bytes());
    for (at, unit) in partition.name.encode_utf16().take(36).enumerate() {
        bytes[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
    }
    bytes
}

/// Tells tools that know no GPT that the disk is full.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0_u8; 512];
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let entry = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0];
    mbr[446..458].copy_from_slice(&entry);
    mbr[458..462].copy_from_slice(&length.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::process::Command;

    use super::*;

    fn table(sector: u64, sectors: u64) -> Table {
        let partition = |number: u32, kind, name: &str, first, last| Partition {
            number,
            kind,
            guid: Uuid::from_u128(number.into()),
            name: name.into(),
            first,
            last,
        };
        let mib = (1 << 20) / sector;
        Table {
            disk: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            sector,
            sectors,
            partitions: vec![
                partition(1, Kind::Boot, "efi", mib, 17 * mib - 1),
                partition(2, Kind::Linux, "root", 17 * mib, 33 * mib - 1),
            ],
        }
    }

    #[test]
    fn the_usual_reader_finds_no_fault() {
        let table = table(512, 131_072);
        let image = table.image().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(512 * 131_072).unwrap();
        file.as_file().write_all_at(&image.head, 0).unwrap();
        file.as_file().write_all_at(&image.tail, 512 * 131_072 - image.tail.len() as u64).unwrap();
        let Ok(output) = Command::new("/sbin/sfdisk").arg("--dump").arg(file.path()).output()
        else {
            eprintln!("sfdisk is not installed: nothing to compare with");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let words: Vec<&str> = text.split_whitespace().collect();
        for wanted in [
            "label-id:\n00112233-4455-6677-8899-AABBCCDDEEFF",
            "start=\n2048,\nsize=\n32768,\ntype=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,",
            "start=\n34816,\nsize=\n32768,\ntype=0FC63DAF-8483-4772-8E79-3D69D8477DE4,\nuuid=00000000-0000-0000-0000-000000000002,\nname=\"root\"",
        ] {
            assert!(words.join("\n").contains(wanted), "{wanted} is not in {text}");
        }
        let verify =
            Command::new("/sbin/sfdisk").arg("--verify").arg(file.path()).output().unwrap();
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
    }

    #[test]
    fn large_sectors_need_fewer_of_them() {
        let image = table(4096, 16_384).image().unwrap();
        assert_eq!((image.head.len(), image.tail.len()), (6 * 4096, 5 * 4096));
        assert_eq!(&image.head[4096..4104], b"EFI PART");
        assert_eq!(usable(512, 131_072), Some((34, 131_038)));
    }

    #[test]
    fn a_disk_without_room_has_no_table() {
        assert_eq!(usable(512, 67), None);
        assert_eq!(usable(512, 0), None);
        assert_eq!(table(512, 40).image(), None);
    }
}
