use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;

use super::*;

/// An origin that answers the n-th request with the n-th of these; the last one for ever. Returns how often it was asked.
fn origin(answers: Vec<(&'static str, Vec<u8>)>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let n = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (head, body) = &answers[n];
            let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
            // a slow second half, so that readers see an unfinished file
            let (first, second) = body.split_at(body.len() / 2);
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first));
            std::thread::sleep(Duration::from_millis(30));
            let _ = stream.write_all(second);
        }
    });
    (address, asked)
}

fn ok(body: &[u8]) -> (&'static str, Vec<u8>) {
    let head = format!("200 OK\r\nETag: \"1\"\r\nContent-Length: {}", body.len());
    (Box::leak(head.into_boxed_str()), body.to_vec())
}

async fn read(files: &Files, id: &str) -> Result<Vec<u8>, String> {
    let opened = files.open(id).await.map_err(|error| error.to_string())?;
    let chunks: Vec<Vec<u8>> =
        opened.stream().try_collect().await.map_err(|error| error.to_string())?;
    Ok(chunks.concat())
}

fn content() -> Vec<u8> {
    (0..1_000_000u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_once_for_many_and_served_while_the_origin_is_away() {
    let (address, asked) = origin(vec![ok(&content()), ("500 Oh", Vec::new())]);
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(Files::new(directory.path()).unwrap());
    assert_eq!(read(&files, "0").await, Err(Error::Unknown.to_string()));
    let id = files.register(&format!("http://{address}/vmlinuz"));
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let (files, id) = (files.clone(), id.clone());
            tokio::spawn(async move { read(&files, &id).await })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == content());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // a new process: the origin is asked again, and fails
    let files = Files::new(directory.path()).unwrap();
    let id = files.register(&format!("http://{address}/vmlinuz"));
    assert!(read(&files, &id).await.unwrap() == content());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(files.open(&id).await.unwrap().cached);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn not_modified_serves_the_copy_and_a_new_content_replaces_it() {
    let (address, asked) = origin(vec![ok(b"one"), ("304 Not Modified", Vec::new()), ok(b"two")]);
    let directory = tempfile::tempdir().unwrap();
    for (turn, want) in [b"one", b"one", b"two"].into_iter().enumerate() {
        let files = Files::new(directory.path()).unwrap();
        let id = files.register(&format!("http://{address}/k"));
        assert_eq!(read(&files, &id).await.unwrap(), want);
        assert_eq!(asked.load(Ordering::SeqCst), turn + 1);
        // the copy is kept before the reader gets the end
        assert_eq!(std::fs::read(directory.path().join("files").join(&id)).unwrap(), want);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_or_not_what_it_should_be_never_arrives_whole() {
    let cut = ("200 OK\r\nContent-Length: 2000000", content());
    let (address, asked) = origin(vec![cut, ok(&content()), ok(&content())]);
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path()).unwrap();
    let id = files.register(&format!("http://{address}/k"));
    read(&files, &id).await.unwrap_err();
    assert!(read(&files, &id).await.unwrap() == content(), "fetched again after a failure");
    let id = files.register(&format!("http://{address}/k#sha256={}", "0".repeat(64)));
    let error = read(&files, &id).await.unwrap_err();
    assert!(error.contains("SHA-256"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let right = origin::hex(ring::digest::digest(&ring::digest::SHA256, &content()).as_ref());
    let url = format!("http://{address}/k#sha256={right}");
    let id = files.register(&url);
    assert!(read(&files, &id).await.unwrap() == content());
    let files = Files::new(directory.path()).unwrap();
    assert!(read(&files, &files.register(&url)).await.unwrap() == content());
    assert_eq!(asked.load(Ordering::SeqCst), 4, "a pinned copy is never asked about");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_does_not_take_the_copy_away() {
    let huge = ("200 OK\r\nContent-Length: 1152921504606846976", Vec::new());
    let (address, asked) = origin(vec![ok(b"one"), huge]);
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let files = Files::new(directory.path()).unwrap();
        let id = files.register(&format!("http://{address}/k"));
        assert_eq!(read(&files, &id).await.unwrap(), b"one");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let files = Files::new(directory.path()).unwrap();
    let error = read(&files, &files.register(&format!("http://{address}/new"))).await.unwrap_err();
    assert!(error.contains("make room"), "{error}");
}
