//! Unpacks a tar stream into a folder, as root, with owners, modes, times, links, devices and extended attributes.
//!
//! Whoever unpacks an image must not trust its paths: no part may be `..`, and no link that the archive made is ever
//! followed outside, because the caller makes the folder the root of the calling thread (see `jail`).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use tar::{Entry, EntryType};

/// What came out of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, folders, links and devices.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Largest piece that is written at once.
const PIECE: usize = 256 << 10;

/// Unpacks everything into the current root folder of the calling thread.
///
/// # Errors
/// What the archive or the file system says, with the path that it was about.
pub fn unpack(archive: impl Read) -> io::Result<Unpacked> {
    let root = rustix::fs::open("/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    unpack_into(root.as_fd(), archive)
}

/// Unpacks everything below an open folder.
///
/// # Errors
/// What the archive or the file system says, with the path that it was about.
pub fn unpack_into(root: BorrowedFd<'_>, archive: impl Read) -> io::Result<Unpacked> {
    let mut target =
        Target { root, known: HashSet::new(), folders: Vec::new(), buffer: vec![0; PIECE] };
    let mut unpacked = Unpacked::default();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = relative(&entry.path()?)?;
        unpacked.entries += 1;
        unpacked.bytes += target.write(&path, &mut entry).map_err(|error| {
            io::Error::new(error.kind(), format!("/{}: {error}", path.display()))
        })?;
    }
    // last, because every file in a folder changes the folder's time
    for (path, times) in target.folders.iter().rev() {
        rustix::fs::utimensat(root, path, times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(unpacked)
}

/// Makes a folder the root of the calling thread alone: links in the archive cannot lead out of it.
///
/// # Errors
/// `EPERM` without the right.
pub fn jail(folder: &Path) -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
    rustix::process::chroot(folder)?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

struct Target<'a> {
    root: BorrowedFd<'a>,
    /// Folders that are there.
    known: HashSet<PathBuf>,
    /// Times of folders, set at the end.
    folders: Vec<(PathBuf, Timestamps)>,
    buffer: Vec<u8>,
}

impl Target<'_> {
    fn write<R: Read>(&mut self, path: &Path, entry: &mut Entry<'_, R>) -> io::Result<u64> {
        let header = entry.header();
        let kind = header.entry_type();
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let owner = Owner { uid: id(header.uid()?)?, gid: id(header.gid()?)? };
        let times = times(header.mtime()?);
        if path.as_os_str().is_empty() {
            if kind == EntryType::Directory {
                rustix::fs::chmodat(self.root, ".", mode, AtFlags::empty())?;
            }
            return Ok(0);
        }
        if let Some(parent) = path.parent() {
            self.make_parents(parent)?;
        }
        let mut bytes = 0;
        match kind {
            EntryType::Directory => {
                self.make_folder(path, mode)?;
                owner.give(self.root, path)?;
                rustix::fs::chmodat(self.root, path, mode, AtFlags::empty())?;
                self.folders.push((path.to_owned(), times));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                bytes = self.write_file(path, entry, mode, owner, &times)?;
            }
            EntryType::Symlink => {
                let to = link_name(entry)?;
                self.again(path, || rustix::fs::symlinkat(&to, self.root, path))?;
                owner.give(self.root, path)?;
                rustix::fs::utimensat(self.root, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let to = relative(&link_name(entry)?)?;
                self.again(path, || {
                    rustix::fs::linkat(self.root, &to, self.root, path, AtFlags::empty())
                })?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let number = |part: io::Result<Option<u32>>| Ok::<_, io::Error>(part?.unwrap_or(0));
                let device = rustix::fs::makedev(
                    number(entry.header().device_major())?,
                    number(entry.header().device_minor())?,
                );
                self.again(path, || rustix::fs::mknodat(self.root, path, file_type, mode, device))?;
                owner.give(self.root, path)?;
                rustix::fs::chmodat(self.root, path, mode, AtFlags::empty())?;
            }
            // headers of the archive itself, labels of volumes
            _ => {}
        }
        Ok(bytes)
    }

    fn write_file<R: Read>(
        &mut self,
        path: &Path,
        entry: &mut Entry<'_, R>,
        mode: Mode,
        owner: Owner,
        times: &Timestamps,
    ) -> io::Result<u64> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.again(path, || rustix::fs::openat(self.root, path, flags, mode))?;
        let mut bytes = 0_u64;
        loop {
            let length = match entry.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut rest = &self.buffer[..length];
            while !rest.is_empty() {
                let written = rustix::io::write(&file, rest)?;
                rest = &rest[written..];
            }
            bytes += length as u64;
        }
        if !owner.is_root() {
            rustix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        // a change of the owner takes these bits away, and so does a write
        if mode.intersects(Mode::SUID | Mode::SGID | Mode::SVTX) || !owner.is_root() {
            rustix::fs::fchmod(&file, mode)?;
        }
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
                    continue;
                };
                rustix::fs::fsetxattr(
                    &file,
                    OsStr::from_bytes(name),
                    extension.value_bytes(),
                    XattrFlags::empty(),
                )?;
            }
        }
        rustix::fs::futimens(&file, times)?;
        Ok(bytes)
    }

    /// Does it, and if something is in the way, removes that and does it again.
    fn again<T>(&self, path: &Path, act: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
        match act() {
            Err(rustix::io::Errno::EXIST) => {
                rustix::fs::unlinkat(self.root, path, AtFlags::empty())?;
                Ok(act()?)
            }
            other => Ok(other?),
        }
    }

    fn make_parents(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.known.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_parents(parent)?;
        }
        self.make_folder(path, Mode::from_raw_mode(0o755))
    }

    fn make_folder(&mut self, path: &Path, mode: Mode) -> io::Result<()> {
        match rustix::fs::mkdirat(self.root, path, mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.known.insert(path.to_owned());
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    fn is_root(self) -> bool {
        self.uid.is_root() && self.gid.is_root()
    }

    /// What is made by root belongs to root already.
    fn give(self, root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        if !self.is_root() {
            rustix::fs::chownat(
                root,
                path,
                Some(self.uid),
                Some(self.gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }
}

/// Owners and groups have the same form on the way in.
fn id<T: FromRaw>(number: u64) -> io::Result<T> {
    let number = u32::try_from(number).ok().filter(|n| *n != u32::MAX);
    number.map(T::from_raw).ok_or_else(|| invalid("an owner's number is out of range"))
}

trait FromRaw {
    fn from_raw(raw: u32) -> Self;
}

impl FromRaw for Uid {
    fn from_raw(raw: u32) -> Self {
        Self::from_raw(raw)
    }
}

impl FromRaw for Gid {
    fn from_raw(raw: u32) -> Self {
        Self::from_raw(raw)
    }
}

fn times(modified: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: i64::try_from(modified).unwrap_or(0), tv_nsec: 0 },
    }
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> io::Result<PathBuf> {
    Ok(entry.link_name()?.ok_or_else(|| invalid("a link leads nowhere"))?.into_owned())
}

/// The path without what would lead out of the root.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid(&format!("{} leads out of the image", path.display())));
            }
        }
    }
    Ok(clean)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// The folder as an open one.
///
/// # Errors
/// What the file system says.
pub fn open_folder(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn header(kind: EntryType, size: u64, mode: u32) -> tar::Header {
        let meta = fs::metadata("/proc/self").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        // whoever runs the test: only root may give files away
        header.set_uid(meta.uid().into());
        header.set_gid(meta.gid().into());
        header.set_mtime(1_700_000_000);
        header
    }

    fn archive() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut header(EntryType::Directory, 0, 0o755), "./usr", io::empty()).unwrap();
        tar.append_data(&mut header(EntryType::Directory, 0, 0o1777), "./tmp", io::empty())
            .unwrap();
        tar.append_data(
            &mut header(EntryType::Regular, 5, 0o4755),
            "./usr/bin/sudo",
            &b"hello"[..],
        )
        .unwrap();
        tar.append_link(&mut header(EntryType::Symlink, 0, 0o777), "./bin", "usr/bin").unwrap();
        tar.append_link(
            &mut header(EntryType::Link, 0, 0o4755),
            "./usr/bin/again",
            "./usr/bin/sudo",
        )
        .unwrap();
        let long = format!("./usr/{}/file", "a".repeat(120));
        tar.append_data(&mut header(EntryType::Regular, 0, 0o600), long, io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn everything_arrives_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_folder(dir.path()).unwrap();
        fs::write(dir.path().join("bin"), "in the way").unwrap();
        let unpacked = unpack_into(root.as_fd(), archive().as_slice()).unwrap();
        assert_eq!(unpacked, Unpacked { entries: 6, bytes: 5 });
        let sudo = fs::metadata(dir.path().join("usr/bin/sudo")).unwrap();
        assert_eq!(sudo.permissions().mode() & 0o7777, 0o4755);
        assert_eq!((sudo.mtime(), sudo.nlink()), (1_700_000_000, 2));
        assert_eq!(
            fs::metadata(dir.path().join("tmp")).unwrap().permissions().mode() & 0o7777,
            0o1777
        );
        assert_eq!(fs::metadata(dir.path().join("usr")).unwrap().mtime(), 1_700_000_000);
        assert_eq!(fs::read_link(dir.path().join("bin")).unwrap(), Path::new("usr/bin"));
        assert!(dir.path().join("usr").join("a".repeat(120)).join("file").exists());
        // twice: what is there is replaced
        unpack_into(root.as_fd(), archive().as_slice()).unwrap();
    }

    #[test]
    fn nothing_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut bad = header(EntryType::Regular, 1, 0o644);
        bad.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
        bad.set_cksum();
        tar.append(&bad, &b"x"[..]).unwrap();
        let root = open_folder(&inner).unwrap();
        let error = unpack_into(root.as_fd(), tar.into_inner().unwrap().as_slice()).unwrap_err();
        assert!(error.to_string().contains("leads out of the image"), "{error}");
        assert!(!dir.path().join("escape").exists());
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_folder(dir.path()).unwrap();
        let whole = archive();
        for cut in [700, 1600, 2100] {
            assert!(unpack_into(root.as_fd(), &whole[..cut]).is_err(), "{cut}");
        }
    }
}
