//! The iPXE binaries that firmware is told to load.

use std::path::{Path, PathBuf};

use crate::dhcp::{BIOS_LOADER, EFI_LOADER};

/// Everything that is served from the directory of boot loaders.
pub const LOADERS: [&str; 2] = [BIOS_LOADER, EFI_LOADER];

/// The path of a boot loader; none for any other name, so that no path of a client ever reaches the file system.
#[must_use]
pub fn path(directory: &Path, name: &str) -> Option<PathBuf> {
    LOADERS.contains(&name).then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loaders() {
        let directory = Path::new("/usr/lib/ipxe");
        assert_eq!(path(directory, "snponly.efi"), Some("/usr/lib/ipxe/snponly.efi".into()));
        for bad in ["", "../../../etc/shadow", "ipxe.iso", "/etc/shadow", "snponly.efi/.."] {
            assert_eq!(path(directory, bad), None, "{bad}");
        }
    }
}
