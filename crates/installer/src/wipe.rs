//! Nothing of a tenant stays on a disk, and it is looked at, not hoped for: marks are written all over the disk before it is
//! erased and must be gone afterwards. They need not read as zero: a disk that threw its key away reads as noise.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::console::{say, size};
use crate::hardware::Disk;
use crate::{nvme, sys};

/// Bytes of one mark; also the alignment that every disk accepts.
const MARK: usize = 4096;
/// Marks beside those at both ends.
const MARKS: u64 = 30;
/// What is made zero at both ends in any case: partition tables, and superblocks that tools would find.
const ENDS: u64 = 1 << 20;
/// A disk that must be overwritten is written in pieces of this size, so that progress shows.
const PIECE: u64 = 1 << 30;

/// How a disk was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The controller erased it.
    NvmeFormat,
    /// The controller forgot its key.
    NvmeCrypto,
    /// The disk dropped all blocks.
    Discard,
    /// It was overwritten with zeros.
    Overwrite,
}

impl Method {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NvmeFormat => "NVMe format",
            Self::NvmeCrypto => "NVMe crypto erase",
            Self::Discard => "discard",
            Self::Overwrite => "overwriting",
        }
    }
}

/// Erases all disks at the same time.
///
/// # Errors
/// Names every disk that still may hold data and why.
pub fn all(disks: &[Disk]) -> Result<String> {
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = disks.iter().map(|disk| scope.spawn(move || one(disk))).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for (disk, result) in disks.iter().zip(results) {
        match result {
            Ok(Ok(method)) => {
                done.push(format!("{} {} by {}", disk.name, size(disk.size), method.name()));
            }
            Ok(Err(error)) => failed.push(format!("{} {}: {error:#}", disk.name, disk.model)),
            Err(_) => failed.push(format!("{}: the wipe ended in a panic", disk.name)),
        }
    }
    if failed.is_empty() { Ok(done.join(", ")) } else { bail!("{}", failed.join("; ")) }
}

fn one(disk: &Disk) -> Result<Method> {
    let path = Path::new("/dev").join(&disk.name);
    let open =
        || OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&path);
    let file = open().with_context(|| format!("{} cannot be opened", path.display()))?;
    erase(&disk.name, &file, disk.size)
}

/// The ways from the best to the surest; the first one that demonstrably worked is enough.
fn erase(name: &str, file: &File, length: u64) -> Result<Method> {
    let marks = Marks::new(length);
    marks.write(file).context("it cannot be written")?;
    let gone = |method: Method, result: io::Result<()>| -> Option<Method> {
        let worked = result.and_then(|()| {
            sys::flush_buffers(file)?;
            marks.are_gone(file)
        });
        match worked {
            Ok(true) => Some(method),
            Ok(false) => {
                say(&format!(
                    "wipe      {name}: {} left data behind, trying another way",
                    method.name()
                ));
                None
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Unsupported {
                    say(&format!(
                        "wipe      {name}: {} failed ({error}), trying another way",
                        method.name()
                    ));
                }
                None
            }
        }
    };
    let mut method = None;
    if let Some(name_space) = name_space(name) {
        let (which, result) = match nvme::erase(file, name_space) {
            Ok(nvme::Erase::Key) => (Method::NvmeCrypto, Ok(())),
            Ok(nvme::Erase::Data) => (Method::NvmeFormat, Ok(())),
            Err(error) => (Method::NvmeFormat, Err(error)),
        };
        method = gone(which, result);
    }
    let method = match method {
        Some(method) => Some(method),
        None => gone(Method::Discard, sys::discard(file, 0, length)),
    };
    let method = match method {
        Some(method) => method,
        None => match gone(Method::Overwrite, overwrite(name, file, length)) {
            Some(method) => method,
            None => bail!("it still holds data after every way of erasing that there is"),
        },
    };
    clear_ends(file, length).context("its ends cannot be cleared")?;
    Ok(method)
}

fn overwrite(name: &str, file: &File, length: u64) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let piece = PIECE.min(length - done);
        sys::zero_out(file, done, piece)?;
        done += piece;
        if done % (64 * PIECE) == 0 {
            say(&format!("wipe      {name}: {} of {}", size(done), size(length)));
        }
    }
    Ok(())
}

fn clear_ends(file: &File, length: u64) -> io::Result<()> {
    let ends = ENDS.min(length);
    let zeros = vec![0; ends as usize];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, length - ends)?;
    file.sync_data()
}

/// `nvme0n1` is name space 1.
fn name_space(name: &str) -> Option<u32> {
    name.strip_prefix("nvme")?.split_once('n')?.1.parse().ok()
}

/// What is written before and looked for afterwards.
struct Marks {
    pattern: Vec<u8>,
    places: Vec<u64>,
}

impl Marks {
    fn new(length: u64) -> Self {
        let word = uuid::Uuid::new_v4().into_bytes();
        let block = MARK as u64;
        let last = (length / block).saturating_sub(1);
        let mut places: Vec<u64> =
            (0..=MARKS + 1).map(|n| last * n / (MARKS + 1) * block).collect();
        places.dedup();
        Self { pattern: word.repeat(MARK / word.len()), places }
    }

    fn write(&self, file: &File) -> io::Result<()> {
        self.places.iter().try_for_each(|place| file.write_all_at(&self.pattern, *place))?;
        file.sync_data()
    }

    /// Whether no mark is left, not even in parts.
    fn are_gone(&self, file: &File) -> io::Result<bool> {
        let word = &self.pattern[..16];
        let mut block = vec![0; MARK];
        for place in &self.places {
            file.read_exact_at(&mut block, *place)?;
            if block.chunks(16).any(|part| part == word) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_spaces() {
        assert_eq!(name_space("nvme0n1"), Some(1));
        assert_eq!(name_space("nvme12n3"), Some(3));
        assert_eq!(name_space("sda"), None);
    }

    #[test]
    fn marks_reach_both_ends_and_stay_inside() {
        for length in [4096_u64, 8192, 1 << 20, (1 << 30) + 512, 10 << 30] {
            let marks = Marks::new(length);
            assert_eq!(marks.places[0], 0);
            let last = *marks.places.last().unwrap();
            assert!(last + 4096 <= length && length - last < 3 * 4096, "{length} {last}");
        }
    }

    #[test]
    fn what_is_left_is_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let marks = Marks::new(1 << 20);
        marks.write(&file).unwrap();
        assert!(!marks.are_gone(&file).unwrap());
        file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        assert!(marks.are_gone(&file).unwrap());
        // half a block of one mark is enough to be found
        file.write_all_at(&marks.pattern[..2048], marks.places[3] + 1024).unwrap();
        assert!(!marks.are_gone(&file).unwrap());
    }

    #[test]
    fn ends_are_cleared() {
        let file = tempfile::tempfile().unwrap();
        let length = 3 << 20;
        file.write_all_at(&vec![7; length as usize], 0).unwrap();
        clear_ends(&file, length).unwrap();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..1 << 20].iter().chain(&bytes[2 << 20..]).all(|b| *b == 0));
        assert!(bytes[1 << 20..2 << 20].iter().all(|b| *b == 7));
    }
}
