//! The firmware's tables about the machine (SMBIOS).

use crate::hardware::{Roots, read_text};

/// A field of `/sys/class/dmi/id`. What makers write when they have nothing to say counts as nothing.
#[must_use]
pub fn text(roots: &Roots, field: &str) -> String {
    let text = read_text(&roots.sys.join("class/dmi/id").join(field));
    let empty = [
        "not specified",
        "none",
        "default string",
        "to be filled by o.e.m.",
        "0123456789",
        "n/a",
        "unknown",
    ];
    if empty.contains(&text.to_lowercase().as_str()) { String::new() } else { text }
}

/// The machine's identity: its SMBIOS UUID, else a serial number that is one.
#[must_use]
pub fn uuid(roots: &Roots) -> Option<uuid::Uuid> {
    ["product_uuid", "product_serial"].iter().find_map(|field| {
        let uuid: uuid::Uuid = text(roots, field).parse().ok()?;
        // all zeros: not set; all ones: not set, but settable
        (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
    })
}

/// Bytes of memory that are plugged in, by the structures of type 17 in the raw tables.
#[must_use]
pub fn memory(tables: &[u8]) -> u64 {
    structures(tables).filter(|s| s.first() == Some(&17)).map(module).sum()
}

/// Size of one memory device (SMBIOS 7.18).
fn module(structure: &[u8]) -> u64 {
    let word = |at: usize| {
        structure.get(at..at + 2).map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]])))
    };
    match word(0x0c) {
        0 | 0xffff => 0, // empty, unknown
        0x7fff => {
            let extended = structure
                .get(0x1c..0x20)
                .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            u64::from(extended & 0x7fff_ffff) << 20
        }
        kib if kib & 0x8000 != 0 => (kib & 0x7fff) << 10,
        mib => mib << 20,
    }
}

/// The formatted part of each structure, without the strings that follow it.
fn structures(mut tables: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*tables.get(1)?);
        let (structure, rest) = tables.split_at_checked(length).filter(|_| length >= 4)?;
        let end = rest.windows(2).position(|pair| pair == [0, 0]).map_or(rest.len(), |at| at + 2);
        tables = &rest[end..];
        Some(structure)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(size: u16, extended: u32) -> Vec<u8> {
        let mut bytes = vec![17, 0x22, 0, 0];
        bytes.resize(0x22, 0);
        bytes[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        bytes[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
        bytes.extend(b"DIMM 0\0\0");
        bytes
    }

    #[test]
    fn memory_devices_are_added() {
        let mut tables = vec![1, 4, 0, 0, b'x', 0, 0];
        tables.extend(device(2048, 0));
        tables.extend(device(0x8000 | 512, 0));
        tables.extend(device(0x7fff, 65_536));
        tables.extend(device(0, 0));
        tables.extend(device(0xffff, 0));
        tables.extend([127, 4, 0, 0, 0, 0]);
        assert_eq!(memory(&tables), (2048 << 20) + (512 << 10) + (65_536_u64 << 20));
    }

    #[test]
    fn identity() {
        let dir = tempfile::tempdir().unwrap();
        let roots =
            Roots { sys: dir.path().into(), proc: dir.path().into(), dev: dir.path().into() };
        let id = dir.path().join("class/dmi/id");
        std::fs::create_dir_all(&id).unwrap();
        assert_eq!(uuid(&roots), None);
        std::fs::write(id.join("product_uuid"), "00000000-0000-0000-0000-000000000000\n").unwrap();
        std::fs::write(id.join("product_serial"), "00112233-4455-6677-8899-AABBCCDDEEFF\n")
            .unwrap();
        assert_eq!(uuid(&roots).unwrap().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    proptest! {
        #[test]
        fn broken_tables_do_no_harm(bytes: Vec<u8>) {
            let _ = memory(&bytes);
        }
    }
}
