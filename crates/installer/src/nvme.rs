//! NVMe commands that erase a name space (NVM Express base specification, Identify and Format NVM).

use std::fs::File;
use std::io;

use crate::sys::{NvmeCommand, nvme_admin};

/// What a controller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It knows Format NVM.
    pub format: bool,
    /// Format may destroy the key instead of the data.
    pub crypto_erase: bool,
}

/// How data are erased; the numbers are the field SES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// All data.
    Data = 1,
    /// The key with which the disk encrypts everything.
    Key = 2,
}

/// Reads the answer to Identify Controller.
#[must_use]
pub fn abilities(controller: &[u8; 4096]) -> Abilities {
    let optional_commands = u16::from_le_bytes([controller[256], controller[257]]);
    let format_attributes = controller[524];
    Abilities { format: optional_commands & 2 != 0, crypto_erase: format_attributes & 4 != 0 }
}

/// The format that the name space has now, which stays: number of the LBA format and its settings.
#[must_use]
pub fn current_format(name_space: &[u8; 4096]) -> u32 {
    let size = name_space[26];
    let protection = name_space[29];
    // the number's upper bits are in bits 5 and 6 of the byte and in bits 12 and 13 of the command
    let lower = u32::from(size & 0xf);
    let upper = u32::from((size >> 5) & 3) << 12;
    let metadata_at_end = u32::from((size >> 4) & 1) << 4;
    let kind = u32::from(protection & 7) << 5;
    let first = u32::from((protection >> 3) & 1) << 8;
    lower | upper | metadata_at_end | kind | first
}

/// Erases the name space behind a block device. Takes up to half an hour on large disks that overwrite.
///
/// # Errors
/// `ErrorKind::Unsupported` when the disk does not know how; else what the controller says.
pub fn erase(disk: &File, name_space: u32) -> io::Result<Erase> {
    let abilities = abilities(&identify(disk, 0, 1)?);
    if !abilities.format {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the controller has no Format command",
        ));
    }
    let format = current_format(&identify(disk, name_space, 0)?);
    let how = if abilities.crypto_erase { Erase::Key } else { Erase::Data };
    let command = NvmeCommand::new(0x80, name_space, format | (how as u32) << 9, 30 * 60 * 1000);
    nvme_admin(disk, command, &mut [])?;
    Ok(how)
}

fn identify(disk: &File, name_space: u32, what: u32) -> io::Result<[u8; 4096]> {
    let mut data = [0; 4096];
    let command = NvmeCommand::new(0x06, name_space, what, 10_000);
    nvme_admin(disk, command, &mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controllers_say() {
        let mut data = [0; 4096];
        assert_eq!(abilities(&data), Abilities { format: false, crypto_erase: false });
        // QEMU 7.2: OACS 0x010a, FNA 0
        (data[256], data[257]) = (0x0a, 0x01);
        assert_eq!(abilities(&data), Abilities { format: true, crypto_erase: false });
        data[524] = 7;
        assert!(abilities(&data).crypto_erase);
    }

    #[test]
    fn the_format_stays() {
        let mut data = [0; 4096];
        assert_eq!(current_format(&data), 0);
        data[26] = 0x12; // format 2, metadata at the end of the data
        assert_eq!(current_format(&data), 0x12);
        data[26] = 0x61; // format 1 + 3 * 16
        assert_eq!(current_format(&data), 0x3001);
        (data[26], data[29]) = (0, 0b1001); // protection type 1, first
        assert_eq!(current_format(&data), 0x120);
    }
}
