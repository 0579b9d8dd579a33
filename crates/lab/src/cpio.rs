//! Archives of the kernel's initramfs: cpio in the "newc" form, deterministic.

use std::path::Path;

/// An archive in the making. Owners are root, times are zero, so that equal contents give equal bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    folders: std::collections::BTreeSet<String>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Archive {
    /// Adds a folder with mode 0755, and those above it; what is there already is left.
    pub fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        self.parents(path);
        self.entry(path, FOLDER | 0o755, 2, &[]);
    }

    /// Adds a file; `mode` has the permission bits.
    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entry(path, FILE | (mode & 0o7777), 1, contents);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entry(path, LINK | 0o777, 1, target.as_bytes());
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header("TRAILER!!!", 0, 1, 0);
        // the kernel reads in blocks of 512 bytes
        self.pad(512);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, contents: &[u8]) {
        self.inode += 1;
        self.header(path, mode, links, contents.len());
        self.bytes.extend_from_slice(contents);
        self.pad(4);
    }

    fn header(&mut self, path: &str, mode: u32, links: u32, size: usize) {
        let size = u32::try_from(size).expect("a file of an initramfs is smaller than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let inode = if mode == 0 { 0 } else { self.inode };
        // inode mode uid gid links mtime size dev_major dev_minor rdev_major rdev_minor name_size check
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;
    use proptest::prelude::*;

    #[test]
    fn the_header_is_what_the_kernel_documents() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes[..128]).replace('\0', ".");
        expect_test::expect![[
            "07070100000001000081ED0000000000000000000000010000000000000005000000000000000000000000000000000000000500000000init..hello...0707"
        ]]
        .assert_eq(&text);
        assert_eq!(bytes.len() % 512, 0);
    }

    /// GNU cpio is the second opinion.
    #[test]
    fn cpio_unpacks_it() {
        let folder = tempfile::tempdir().expect("folder");
        let mut archive = Archive::default();
        archive.folder("/proc");
        archive.file("/lib/modules/a.ko", 0o644, &[7; 1021]);
        archive.link("/bin/sh", "busybox");
        archive.file("/init", 0o755, b"#!");
        let file = folder.path().join("a.cpio");
        std::fs::write(&file, archive.finish()).expect("write");
        let mut cpio = shell::command("cpio", ["-idm", "--quiet", "-F", "a.cpio"]);
        shell::run(cpio.current_dir(&folder)).expect("cpio");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect(name);
        assert_eq!(read("lib/modules/a.ko"), [7; 1021]);
        assert_eq!(read("init"), b"#!");
        assert!(folder.path().join("proc").is_dir());
        let target = std::fs::read_link(folder.path().join("bin/sh")).expect("link");
        assert_eq!(target, Path::new("busybox"));
    }

    proptest! {
        #[test]
        fn every_entry_starts_on_a_boundary(names in prop::collection::vec("[a-z]{1,40}", 1..8), size in 0_usize..600) {
            let mut archive = Archive::default();
            for name in &names {
                archive.file(name, 0o644, &vec![b'x'; size]);
            }
            let bytes = archive.finish();
            let starts: Vec<_> = bytes.windows(6).enumerate().filter(|(_, w)| *w == b"070701").map(|(i, _)| i).collect();
            prop_assert_eq!(starts.len(), names.len() + 1);
            prop_assert!(starts.iter().all(|start| start % 4 == 0));
        }
    }
}
