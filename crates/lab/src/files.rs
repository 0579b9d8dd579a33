//! The image server: files of one folder over HTTP, with ranges, so that an interrupted download goes on where it was, and
//! with tags, so that nobody fetches again what he has.

use std::net::{SocketAddr, TcpListener};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;

/// Serves `folder` until the process ends.
///
/// # Errors
/// The address is taken.
pub async fn serve(listener: TcpListener, folder: PathBuf) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(axum::serve(listener, router(folder)).await?)
}

/// Binds the address in the calling thread's namespace.
///
/// # Errors
/// The address is taken.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

fn router(folder: PathBuf) -> Router {
    Router::new().route("/{*path}", get(file)).with_state(Arc::new(folder))
}

async fn file(State(folder): State<Arc<PathBuf>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let Some(path) = inside(&folder, path) else { return plain(StatusCode::NOT_FOUND) };
    match answer(&path, request.headers()).await {
        Ok(response) => response,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => plain(StatusCode::NOT_FOUND),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn plain(status: StatusCode) -> Response {
    let mut response = Response::new(Body::from(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

/// The file, unless the path leads out of the folder.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(path))
}

async fn answer(path: &Path, asked: &HeaderMap) -> std::io::Result<Response> {
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Ok(plain(StatusCode::NOT_FOUND));
    }
    let size = metadata.len();
    let tag = tag(&metadata)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, tag.clone());
    if asked.get(header::IF_NONE_MATCH) == Some(&tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // the rest of another file is not asked for
    let same = asked.get(header::IF_RANGE).is_none_or(|of| of == tag);
    let range = asked.get(header::RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let (first, length) = match range.map(|range| parse(range, size)) {
        None | Some(Range::Whole) => (0, size),
        Some(Range::Part { first, last }) => {
            let value = format!("bytes {first}-{last}/{size}");
            headers.insert(header::CONTENT_RANGE, value.parse().map_err(std::io::Error::other)?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (first, last - first + 1)
        }
        Some(Range::Beyond) => {
            let value = format!("bytes */{size}");
            headers.insert(header::CONTENT_RANGE, value.parse().map_err(std::io::Error::other)?);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    file.seek(std::io::SeekFrom::Start(first)).await?;
    *response.body_mut() = body(file.take(length));
    Ok(response)
}

/// Another one for each content: nobody writes the same file twice in the same moment with the same length.
fn tag(metadata: &std::fs::Metadata) -> std::io::Result<HeaderValue> {
    let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", metadata.len(), written.as_nanos());
    tag.parse().map_err(std::io::Error::other)
}

fn body(file: tokio::io::Take<File>) -> Body {
    Body::from_stream(stream::try_unfold(file, |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        let length = file.read_buf(&mut chunk).await?;
        Ok::<_, std::io::Error>((length > 0).then(|| (Bytes::from(chunk), file)))
    }))
}

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Everything: also what we do not understand, as HTTP allows.
    Whole,
    /// From one byte to another, both included.
    Part { first: u64, last: u64 },
    /// Nothing that is there.
    Beyond,
}

fn parse(range: &str, size: u64) -> Range {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.trim().is_empty() => (first, u64::MAX),
        // the last bytes
        (None, Some(length)) if first.trim().is_empty() && length > 0 => {
            (size.saturating_sub(length), u64::MAX)
        }
        _ => return Range::Whole,
    };
    if first >= size {
        return Range::Beyond;
    }
    Range::Part { first, last: last.min(size - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-", Range::Part { first: 0, last: 9 }),
            ("bytes=3-5", Range::Part { first: 3, last: 5 }),
            ("bytes=3-500", Range::Part { first: 3, last: 9 }),
            ("bytes=-4", Range::Part { first: 6, last: 9 }),
            ("bytes=-400", Range::Part { first: 0, last: 9 }),
            ("bytes=10-", Range::Beyond),
            ("bytes=5-3", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=1-2", Range::Whole),
            ("bytes=x", Range::Whole),
        ] {
            assert_eq!(parse(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn nobody_climbs_out() {
        let folder = Path::new("/images");
        for bad in ["../x", "a/../../x", "/etc/passwd", "./x"] {
            assert_eq!(inside(folder, bad), None, "{bad}");
        }
        assert_eq!(inside(folder, "a/b"), Some("/images/a/b".into()));
    }

    #[test]
    fn a_client_gets_files_parts_and_refusals() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("image"), "0123456789").expect("write");
        let listener = bind("127.0.0.1:0".parse().expect("address")).expect("port");
        let address = listener.local_addr().expect("address");
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.spawn(serve(listener, folder.path().to_owned()));
        let ask = |head: &str| {
            let mut stream = TcpStream::connect(address).expect("connect");
            write!(stream, "{head}\r\nHost: x\r\nConnection: close\r\n\r\n").expect("write");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("read");
            text
        };
        let whole = ask("GET /image HTTP/1.1");
        assert!(
            whole.starts_with("HTTP/1.1 200") && whole.ends_with("\r\n\r\n0123456789"),
            "{whole}"
        );
        let part = ask("GET /image HTTP/1.1\r\nRange: bytes=7-");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\n789"), "{part}");
        assert!(part.contains("content-range: bytes 7-9/10"), "{part}");
        let tag = whole.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let known = ask(&format!("GET /image HTTP/1.1\r\nIf-None-Match: {tag}"));
        assert!(known.starts_with("HTTP/1.1 304") && known.ends_with("\r\n\r\n"), "{known}");
        let rest = ask(&format!("GET /image HTTP/1.1\r\nRange: bytes=7-\r\nIf-Range: {tag}"));
        assert!(rest.starts_with("HTTP/1.1 206"), "{rest}");
        let another = ask("GET /image HTTP/1.1\r\nRange: bytes=7-\r\nIf-Range: \"x\"");
        assert!(another.ends_with("\r\n\r\n0123456789"), "{another}");
        let head = ask("HEAD /image HTTP/1.1");
        assert!(head.contains("content-length: 10") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask("GET /none HTTP/1.1").starts_with("HTTP/1.1 404"));
        assert!(ask("GET /../etc/passwd HTTP/1.1").starts_with("HTTP/1.1 404"));
    }
}
