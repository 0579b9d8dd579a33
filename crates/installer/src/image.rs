//! The image on its way from the server to the disk: downloaded, checked, decompressed and unpacked in one pass.
//!
//! One thread downloads and adds up the digest, another one decompresses and writes. A broken connection is resumed where
//! it broke; neither the unpacking nor the digest notice.

mod digest;
mod download;
mod sums;

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

pub use digest::{Digest, parse_beside};

use crate::console::{say, size};
use crate::untar::{self, Unpacked};

/// Bytes that travel together.
const PIECE: usize = 512 << 10;
/// Pieces that are downloaded ahead while disks are still being prepared.
const AHEAD: usize = 128;

/// What is to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Name for messages.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// Digest that the API knows; else it lies beside the image.
    pub digest: Option<Digest>,
}

/// A running download. Dropping it ends the download.
#[derive(Debug)]
pub struct Download {
    image: Image,
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    thread: Option<JoinHandle<Result<()>>>,
    loaded: Arc<AtomicU64>,
    /// Why the download ended early; it says more than the broken archive that follows from it.
    trouble: Arc<Mutex<Option<Trouble>>>,
    cancel: Cancel,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    transient: bool,
}

/// Ends downloads and what follows from them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends it soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it should end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How an installation of an image failed.
#[derive(Debug)]
pub struct Failed {
    /// Whether another attempt may end differently.
    pub transient: bool,
    /// What happened.
    pub error: anyhow::Error,
}

impl Failed {
    fn for_good(error: anyhow::Error) -> Self {
        Self { transient: false, error }
    }
}

impl Download {
    /// Starts at once; pieces wait in memory until [`Self::unpack`].
    #[must_use]
    pub fn start(image: Image, cancel: Cancel) -> Self {
        let (sender, pieces) = sync_channel(AHEAD);
        let loaded = Arc::new(AtomicU64::new(0));
        let trouble = Arc::new(Mutex::new(None));
        let thread = {
            let (image, loaded, trouble) = (image.clone(), loaded.clone(), trouble.clone());
            let cancel = cancel.clone();
            thread::spawn(move || run(&image, &sender, &loaded, &trouble, &cancel))
        };
        Self { image, pieces: Some(pieces), thread: Some(thread), loaded, trouble, cancel }
    }

    /// Bytes that were downloaded so far.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.loaded.clone()
    }

    /// Unpacks into a folder and checks the digest. After an error the folder holds rubbish.
    ///
    /// # Errors
    /// What happened, and whether it is worth another attempt.
    pub fn unpack(mut self, folder: &Path) -> Result<Unpacked, Failed> {
        let cancel = self.cancel.clone();
        let stream = Pieces { receiver: self.pieces.take(), piece: Vec::new(), at: 0, cancel };
        let folder = folder.to_owned();
        let work = move || {
            untar::jail(&folder)?;
            let mut stream = BufReader::with_capacity(64 << 10, stream);
            let unpacked = decompress(&mut stream).and_then(untar::unpack)?;
            // what comes after the end of the archive belongs to the digest too
            io::copy(&mut stream, &mut io::sink())?;
            Ok::<_, io::Error>(unpacked)
        };
        let unpacked = thread::spawn(work).join().map_err(|_| {
            Failed::for_good(anyhow!("unpacking the image {} ended in a panic", self.image.id))
        })?;
        let downloaded = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        let id = &self.image.id;
        match (unpacked, downloaded) {
            (_, Err(_)) => {
                Err(Failed::for_good(anyhow!("downloading the image {id} ended in a panic")))
            }
            (_, Ok(Err(error))) if trouble.is_some() => Err(Failed {
                transient: trouble.is_some_and(|trouble| trouble.transient),
                error: error.context(format!("the image {id} cannot be downloaded")),
            }),
            (Ok(unpacked), Ok(Ok(()))) => Ok(unpacked),
            (_, Ok(Err(error))) => Err(Failed::for_good(error)),
            (Err(error), Ok(Ok(()))) => {
                let hint = match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        "; it ends in the middle and was published like that"
                    }
                    _ => "",
                };
                Err(Failed::for_good(anyhow!("the image {id} cannot be unpacked: {error}{hint}")))
            }
        }
    }
}

/// The download's life: find the digest while data flows, then compare.
fn run(
    image: &Image,
    sender: &SyncSender<io::Result<Vec<u8>>>,
    loaded: &AtomicU64,
    trouble: &Mutex<Option<Trouble>>,
    cancel: &Cancel,
) -> Result<()> {
    let expected = {
        let image = image.clone();
        thread::spawn(move || expected_digest(&image))
    };
    // until the answer is there it may be either; both are cheap compared with unpacking
    let mut sums = match &image.digest {
        Some(digest) => sums::Sums::only(digest),
        None => sums::Sums::both(),
    };
    let mut open = true;
    let result = download::whole(&image.url, PIECE, |piece| {
        sums.add(&piece);
        loaded.fetch_add(piece.len() as u64, Ordering::Relaxed);
        // when unpacking failed, the digest still tells whether the image was to blame
        open = open && sender.send(Ok(piece)).is_ok();
        !cancel.is_set()
    });
    if let Err(broken) = result {
        let transient = matches!(broken, download::Broken::ForNow(_));
        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(Trouble { transient });
        let _ = sender.send(Err(io::Error::other("the download ended early")));
        return Err(broken.into());
    }
    let expected =
        expected.join().map_err(|_| anyhow!("finding the digest ended in a panic"))??;
    let found = sums.finish(&expected);
    if found != expected {
        return Err(anyhow!(
            "the image {} from {} is not what it should be: its {} is {}, expected {}",
            image.id,
            image.url,
            expected.name(),
            found.hex(),
            expected.hex()
        ));
    }
    Ok(())
}

/// From the API, else from the file beside the image.
fn expected_digest(image: &Image) -> Result<Digest> {
    if let Some(digest) = &image.digest {
        return Ok(digest.clone());
    }
    for kind in ["sha256", "md5"] {
        let url = format!("{}.{kind}", image.url);
        if let Some(text) = download::small(&url)? {
            return parse_beside(kind, &text).with_context(|| {
                format!(
                    "{url} does not hold a digest, but {:?}",
                    text.chars().take(80).collect::<String>()
                )
            });
        }
    }
    Err(anyhow!(
        "the image {} has no digest: neither the label metal-stack.io/sha256 nor {}.sha256 nor .md5 exists",
        image.id,
        image.url
    ))
}

/// The archive inside, whatever it is compressed with: the first bytes tell.
fn decompress<'a, R: BufRead + 'a>(stream: &'a mut R) -> io::Result<Box<dyn Read + 'a>> {
    let start = stream.fill_buf()?;
    Ok(match start {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(stream)?;
            // images may be packed with a long window
            decoder.window_log_max(27)?;
            Box::new(BufReader::with_capacity(256 << 10, decoder))
        }
        [0x04, 0x22, 0x4d, 0x18, ..] => Box::new(lz4_flex::frame::FrameDecoder::new(stream)),
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(
            256 << 10,
            flate2::bufread::MultiGzDecoder::new(stream),
        )),
        [] => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image is empty")),
        _ => Box::new(stream),
    })
}

/// The pieces as one stream.
struct Pieces {
    receiver: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
    cancel: Cancel,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other("it is not wanted any more"));
        }
        while self.at == self.piece.len() {
            match self.receiver.as_ref().and_then(|receiver| receiver.recv().ok()) {
                Some(Ok(piece)) => (self.piece, self.at) = (piece, 0),
                Some(Err(error)) => return Err(error),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// Says now and then how far a download is.
#[derive(Debug)]
pub struct Progress {
    stop: Sender<()>,
}

impl Progress {
    /// Starts to say.
    #[must_use]
    pub fn start(counter: Arc<AtomicU64>) -> Self {
        let (stop, stopped) = channel();
        thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                say(&format!("image     {} so far", size(counter.load(Ordering::Relaxed))));
            }
        });
        Self { stop }
    }

    /// Says nothing more.
    pub fn stop(self) {
        let _ = self.stop.send(());
    }
}

/// Pause before the n-th attempt (from 0) at something over the network.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    Duration::from_millis((200_u64 << attempt.min(6)).min(5000))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn round_trip(packed: &[u8]) -> Vec<u8> {
        let mut stream = BufReader::new(packed);
        let mut bytes = Vec::new();
        decompress(&mut stream).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_first_bytes_tell_the_compression() {
        let text = b"the same words ".repeat(5000);
        assert_eq!(round_trip(&zstd::encode_all(text.as_slice(), 3).unwrap()), text);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        assert_eq!(round_trip(&gz.finish().unwrap()), text);
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&text).unwrap();
        assert_eq!(round_trip(&lz4.finish().unwrap()), text);
        assert_eq!(round_trip(&text), text);
        assert!(decompress(&mut BufReader::new(&b""[..])).is_err());
    }

    #[test]
    fn pauses_grow_to_five_seconds() {
        assert_eq!([0, 1, 4, 5, 99].map(|n| pause(n).as_millis()), [200, 400, 3200, 5000, 5000]);
    }
}
