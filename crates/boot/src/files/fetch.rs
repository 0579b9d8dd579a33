//! Fetches a file to the disk. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::origin::hex;
use super::{Arriving, Error, Origin, Progress};
use crate::store::replace;

/// Bytes per read from the origin.
const BLOCK: usize = 128 << 10;

/// Bytes that a file leaves free, for what is kept beside it.
const MARGIN: u64 = 1 << 20;

/// What we know about a copy.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Facts {
    url: String,
    length: u64,
    sha256: String,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    last_modified: Option<String>,
}

pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(3)))
        .timeout_recv_response(Some(Duration::from_secs(5)))
        .timeout_per_read(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .user_agent(concat!("metal-boot/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// The copy if it is still what the origin has, else a new one on its way.
pub(super) fn look(
    directory: &Path,
    agent: &ureq::Agent,
    origin: &Origin,
) -> Result<Arriving, Error> {
    let path = directory.join(origin.id());
    let copy = copy(&path, origin);
    if let Some((file, facts)) = &copy
        && origin.sha256.is_some()
    {
        return Ok(whole(file.clone(), facts.length));
    }
    let response = match ask(agent, origin, copy.as_ref().map(|(_, facts)| facts)) {
        Ok(Some(response)) => response,
        Ok(None) => match copy {
            Some((file, facts)) => return Ok(whole(file, facts.length)),
            None => {
                return Err(refused(origin, "it says that our copy is fresh, but we have none"));
            }
        },
        Err(reason) => match copy {
            Some((file, facts)) => {
                tracing::warn!(
                    url = origin.url,
                    reason,
                    "the origin does not answer; machines get the copy that we have"
                );
                metrics::counter!("boot_file_stale_total").increment(1);
                return Ok(whole(file, facts.length));
            }
            None => return Err(refused(origin, &reason)),
        },
    };
    // asked before, so that nobody gets half of a file
    if let Some(length) = response.body().content_length()
        && let Some(lack) = lack(directory, length)
    {
        let Some((file, facts)) = copy else { return Err(Error::Disk(lack)) };
        tracing::warn!(
            url = origin.url,
            lack,
            "what the origin has now has no room; machines get the copy that we have"
        );
        metrics::counter!("boot_file_stale_total").increment(1);
        return Ok(whole(file, facts.length));
    }
    begin(path, origin.clone(), response)
}

/// Why a file of this length has no room in a directory.
fn lack(directory: &Path, length: u64) -> Option<String> {
    let left = statvfs(directory).ok()?;
    let left = left.blocks_available().saturating_mul(left.fragment_size());
    (left < length.saturating_add(MARGIN)).then(|| {
        let (directory, mib) = (directory.display(), |bytes: u64| bytes.div_ceil(1 << 20));
        format!("{} MiB are needed, {directory} has {} MiB; make room", mib(length), mib(left))
    })
}

fn refused(origin: &Origin, reason: &str) -> Error {
    Error::Origin { url: origin.url.clone(), reason: reason.to_owned() }
}

fn disk(error: impl std::fmt::Display) -> Error {
    Error::Disk(error.to_string())
}

fn facts_path(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// The copy on the disk, if it is complete and what the origin's pin says.
fn copy(path: &Path, origin: &Origin) -> Option<(Arc<File>, Facts)> {
    let facts: Facts = serde_json::from_slice(&fs::read(facts_path(path)).ok()?).ok()?;
    let file = File::open(path).ok()?;
    let complete = file.metadata().ok()?.len() == facts.length;
    let right = origin.sha256.as_ref().is_none_or(|pin| *pin == facts.sha256);
    (complete && right).then(|| (Arc::new(file), facts))
}

fn whole(file: Arc<File>, length: u64) -> Arriving {
    // the sender may go: nothing follows
    Arriving { file, length: Some(length), progress: watch::channel(Progress::All(length)).1 }
}

/// Asks the origin; nothing when our copy is still right.
fn ask(
    agent: &ureq::Agent,
    origin: &Origin,
    copy: Option<&Facts>,
) -> Result<Option<ureq::http::Response<ureq::Body>>, String> {
    let mut request = agent.get(&origin.url);
    if let Some(facts) = copy {
        if let Some(etag) = &facts.etag {
            request = request.header("If-None-Match", etag);
        } else if let Some(at) = &facts.last_modified {
            request = request.header("If-Modified-Since", at);
        }
    }
    let response = request.call().map_err(|error| error.to_string())?;
    match response.status().as_u16() {
        200 => Ok(Some(response)),
        304 => Ok(None),
        status => Err(format!("HTTP status {status}")),
    }
}

/// Starts a thread that writes the answer to the disk.
fn begin(
    path: PathBuf,
    origin: Origin,
    response: ureq::http::Response<ureq::Body>,
) -> Result<Arriving, Error> {
    let temporary = path.with_extension("part");
    // a reader of an aborted attempt keeps its own file
    let _ = fs::remove_file(&temporary);
    let file =
        File::options().read(true).write(true).create_new(true).open(&temporary).map_err(disk)?;
    let file = Arc::new(file);
    let header = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let facts = Facts {
        url: origin.url.clone(),
        etag: header("etag"),
        last_modified: header("last-modified"),
        ..Facts::default()
    };
    let length = response.body().content_length();
    let (sender, progress) = watch::channel(Progress::Some(0));
    let arriving = Arriving { file: file.clone(), length, progress };
    let work = move || {
        let done = write(response.into_body().into_reader(), &file, length, &sender).and_then(
            |(length, sha256)| keep(&temporary, &path, &origin, Facts { length, sha256, ..facts }),
        );
        match done {
            Ok(facts) => {
                metrics::counter!("boot_file_fetches_total", "result" => "ok").increment(1);
                tracing::info!(
                    url = origin.url,
                    bytes = facts.length,
                    sha256 = facts.sha256,
                    "fetched"
                );
                sender.send_replace(Progress::All(facts.length));
            }
            Err(error) => {
                metrics::counter!("boot_file_fetches_total", "result" => "failed").increment(1);
                tracing::error!(url = origin.url, %error, "a file that machines boot could not be fetched");
                let _ = fs::remove_file(&temporary);
                sender.send_replace(Progress::Failed(error.to_string()));
            }
        }
    };
    std::thread::Builder::new().name("fetch".into()).spawn(work).map_err(disk)?;
    Ok(arriving)
}

/// Copies to the disk and tells readers how far it is, always one block late: the last one is theirs when all is checked.
fn write(
    mut from: impl Read,
    mut to: &File,
    length: Option<u64>,
    progress: &watch::Sender<Progress>,
) -> io::Result<(u64, String)> {
    let (mut hash, mut total, mut block) = (Context::new(&SHA256), 0, vec![0; BLOCK]);
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            break;
        }
        if total > 0 {
            progress.send_replace(Progress::Some(total));
        }
        to.write_all(&block[..count])?;
        hash.update(&block[..count]);
        total += count as u64;
    }
    match length.filter(|length| *length != total) {
        Some(length) => Err(io::Error::other(format!("it ended after {total} of {length} bytes"))),
        None => Ok((total, hex(hash.finish().as_ref()))),
    }
}

/// Makes a complete download the copy.
fn keep(temporary: &Path, path: &Path, origin: &Origin, facts: Facts) -> io::Result<Facts> {
    if let Some(pin) = origin.sha256.as_ref().filter(|pin| **pin != facts.sha256) {
        return Err(io::Error::other(format!(
            "its SHA-256 is {}, but has to be {pin}",
            facts.sha256
        )));
    }
    // a crash between these steps leaves content without facts, which is no copy
    let _ = fs::remove_file(facts_path(path));
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    replace(&facts_path(path), &serde_json::to_vec(&facts)?)?;
    Ok(facts)
}
