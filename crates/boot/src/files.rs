//! Kernels and initrds: fetched once from where the control plane says they are, served to every machine from the disk.
//!
//! A file is known by its URL. While it is being fetched, machines read what has arrived so far. Before it is served again the
//! origin is asked whether it changed; while the origin is away the copy is served as it is. A URL that ends in
//! `#sha256=HEX` names its content: it is checked before a machine gets the last byte, and the origin is never asked again.

mod fetch;
mod origin;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::Stream;
use tokio::sync::watch;

pub use origin::Origin;

/// For how long the origin is not asked again: a rack that powers up asks once.
const FRESH: Duration = Duration::from_secs(5);
/// For how long a copy that nothing refers to is kept.
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);
/// Bytes per read for a machine.
const CHUNK: usize = 256 << 10;

/// Why a file cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No recipe names it.
    #[error("no machine boots this file; fetch the boot script again")]
    Unknown,
    /// There is no copy and the origin does not give it.
    #[error("{url} cannot be fetched: {reason}")]
    Origin { url: String, reason: String },
    /// Our own disk.
    #[error("the cache cannot be used: {0}")]
    Disk(String),
}

/// How far a file has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// So many bytes may be read.
    Some(u64),
    /// That is all.
    All(u64),
    Failed(String),
}

/// A file that may still be arriving.
#[derive(Debug, Clone)]
struct Arriving {
    file: Arc<File>,
    length: Option<u64>,
    progress: watch::Receiver<Progress>,
}

/// What is known about one file; its lock makes everybody wait for the same question to the origin.
#[derive(Debug, Default)]
struct Entry {
    arriving: Option<Arriving>,
    checked: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    origin: Origin,
    entry: tokio::sync::Mutex<Entry>,
}

/// The cache.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    agent: ureq::Agent,
    known: Mutex<HashMap<String, Arc<Known>>>,
}

/// A file on its way to a machine.
#[derive(Debug)]
pub struct Opened {
    /// Its length, unless the origin does not say.
    pub length: Option<u64>,
    /// Whether it comes from the disk alone.
    pub cached: bool,
    arriving: Arriving,
}

impl Files {
    /// A cache in this directory, which is made when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("files");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, agent: fetch::agent(), known: Mutex::default() })
    }

    /// Takes note of a URL and says under which id machines get its content: the same after a restart.
    #[must_use]
    pub fn register(&self, url: &str) -> String {
        let origin = Origin::new(url);
        let id = origin.id();
        let known = || Arc::new(Known { origin, entry: tokio::sync::Mutex::default() });
        self.lock().entry(id.clone()).or_insert_with(known);
        id
    }

    /// Opens a file by its id.
    ///
    /// # Errors
    /// When it is unknown, or neither on the disk nor at its origin.
    pub async fn open(&self, id: &str) -> Result<Opened, Error> {
        let known = self.lock().get(id).cloned().ok_or(Error::Unknown)?;
        let mut entry = known.entry.lock().await;
        let usable =
            entry.arriving.as_ref().filter(|arriving| match &*arriving.progress.borrow() {
                Progress::Some(_) => arriving.progress.has_changed().is_ok(), // the fetcher lives
                Progress::All(_) => {
                    known.origin.sha256.is_some()
                        || entry.checked.is_some_and(|at| at.elapsed() < FRESH)
                }
                Progress::Failed(_) => false,
            });
        let arriving = match usable {
            Some(arriving) => arriving.clone(),
            None => {
                let (directory, agent, origin) =
                    (self.directory.clone(), self.agent.clone(), known.origin.clone());
                let looked =
                    tokio::task::spawn_blocking(move || fetch::look(&directory, &agent, &origin));
                let arriving = looked.await.map_err(|error| Error::Disk(error.to_string()))??;
                entry.arriving = Some(arriving.clone());
                entry.checked = Some(Instant::now());
                arriving
            }
        };
        let cached = matches!(*arriving.progress.borrow(), Progress::All(_));
        Ok(Opened { length: arriving.length, cached, arriving })
    }

    /// Removes copies that nothing refers to and that nobody has written for two weeks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn tidy(&self) -> io::Result<()> {
        let old = |path: &Path| {
            path.metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|at| at < SystemTime::now() - KEEP)
        };
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !self.lock().contains_key(id) && old(&path) {
                tracing::info!(path = %path.display(), "a copy that no machine boots any more is removed");
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// The content, as it arrives. It ends with an error when the rest does not arrive.
    pub fn stream(self) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
        let Arriving { file, progress, .. } = self.arriving;
        futures::stream::try_unfold(0u64, move |at| {
            let file = file.clone();
            let mut progress = progress.clone();
            async move {
                let Some(end) = reaches(&mut progress, at).await? else { return Ok(None) };
                let size = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let chunk = tokio::task::spawn_blocking(move || read_at(&file, at, size))
                    .await
                    .map_err(io::Error::other)??;
                let next = at + chunk.len() as u64;
                Ok(Some((chunk, next)))
            }
        })
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// When the rest does not arrive.
    pub async fn complete(mut self) -> io::Result<u64> {
        loop {
            match self.arriving.progress.borrow_and_update().clone() {
                Progress::All(length) => return Ok(length),
                Progress::Failed(reason) => return Err(io::Error::other(reason)),
                Progress::Some(_) => {}
            }
            self.arriving
                .progress
                .changed()
                .await
                .map_err(|_| io::Error::other("the download was given up"))?;
        }
    }
}

/// Up to where one can read behind this place; none at the end.
async fn reaches(progress: &mut watch::Receiver<Progress>, at: u64) -> io::Result<Option<u64>> {
    loop {
        match &*progress.borrow_and_update() {
            Progress::Some(end) if *end > at => return Ok(Some(*end)),
            Progress::All(end) => return Ok((*end > at).then_some(*end)),
            Progress::Failed(reason) => return Err(io::Error::other(reason.clone())),
            Progress::Some(_) => {}
        }
        progress.changed().await.map_err(|_| io::Error::other("the download was given up"))?;
    }
}

fn read_at(file: &File, at: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; size];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut chunk, at)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests;
