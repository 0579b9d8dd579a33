//! The sign on the disk that an allocation is installed completely.
//!
//! It is written last, after the API knows. A machine that loses power before finds no marker and installs again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where it lies in the installed system.
const PATH: &str = "etc/metal/installed.json";

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Id of the allocation, which is another one when the machine is allocated again.
    pub allocation: String,
    /// Id of the image.
    pub image: String,
    /// When, as RFC 3339.
    pub installed: String,
    /// Kernel command line with which it was started first.
    pub command_line: String,
}

/// Writes it and waits until it is on the disk.
///
/// # Errors
/// What the file system says.
pub fn write(root: &Path, marker: &Marker) -> io::Result<()> {
    let path = root.join(PATH);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    file.write_all(serde_json::to_string_pretty(marker)?.as_bytes())?;
    file.sync_all()
}

/// Reads it; `None` when there is none or it is broken, which is the same: not installed completely.
#[must_use]
pub fn read(root: &Path) -> Option<Marker> {
    serde_json::from_str(&fs::read_to_string(root.join(PATH)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        let marker = Marker {
            allocation: "a".into(),
            image: "debian-12.0.1".into(),
            installed: "2026-11-21T07:00:00Z".into(),
            command_line: "root=PARTUUID=x".into(),
        };
        write(dir.path(), &marker).unwrap();
        assert_eq!(read(dir.path()), Some(marker));
        fs::write(dir.path().join(PATH), "{\"allocation\":\"a").unwrap();
        assert_eq!(read(dir.path()), None, "half of a marker is none");
    }
}
