//! `/metrics` for Prometheus and `/healthz` for whoever restarts processes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{Shutdown, every};

/// Longest request line that is read; nobody needs more for two paths.
const REQUEST_LINE: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Records what the `metrics` macros count and answers on `address` until `shutdown`. Returns the address, for port 0.
/// Call once per process and inside a Tokio runtime.
///
/// # Errors
/// When the address is not a loopback address (there is no access control) or cannot be bound.
pub async fn serve(address: SocketAddr, shutdown: Shutdown) -> Result<SocketAddr> {
    ensure!(
        address.ip().is_loopback(),
        "metrics are only served on a loopback address and {address} is none; use for instance 127.0.0.1:{}",
        address.port(),
    );
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("metrics cannot be served on {address}"))?;
    let address = listener.local_addr()?;
    let handle =
        PrometheusBuilder::new().install_recorder().context("metrics are served already")?;
    let upkeep = handle.clone();
    // Histograms keep their samples until somebody drains them.
    tokio::spawn(every(shutdown.clone(), Duration::from_secs(5), move || {
        upkeep.run_upkeep();
        std::future::ready(())
    }));
    tokio::spawn(accept(listener, handle, shutdown));
    Ok(address)
}

async fn accept(listener: TcpListener, handle: PrometheusHandle, shutdown: Shutdown) {
    loop {
        let stream = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let handle = handle.clone();
        tokio::spawn(async move { tokio::time::timeout(PATIENCE, talk(stream, &handle)).await });
    }
}

async fn talk(mut stream: TcpStream, handle: &PrometheusHandle) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader.take(8 * REQUEST_LINE)).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    // The rest of the request is read before the answer, else closing would reset the connection.
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    writer.write_all(answer(&request, || handle.render()).as_bytes()).await
}

/// The whole answer to a request line.
fn answer(request: &str, metrics: impl FnOnce() -> String) -> String {
    let path = request.strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    let (status, body) = match path {
        Some("/metrics") => ("200 OK", metrics()),
        Some("/healthz") => ("200 OK", "ok\n".to_owned()),
        Some(_) => ("404 Not Found", "try /metrics or /healthz\n".to_owned()),
        None => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let status = |request| {
            answer(request, || "a 1\n".into()).lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(status("GET /metrics HTTP/1.1"), "HTTP/1.1 200 OK");
        assert_eq!(status("GET /healthz HTTP/1.0"), "HTTP/1.1 200 OK");
        assert_eq!(status("GET / HTTP/1.1"), "HTTP/1.1 404 Not Found");
        assert_eq!(status("POST /metrics HTTP/1.1"), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(status(""), "HTTP/1.1 405 Method Not Allowed");
        assert!(
            answer("GET /metrics HTTP/1.1", || "a 1\n".into())
                .ends_with("Content-Length: 4\r\nConnection: close\r\n\r\na 1\n")
        );
    }

    #[tokio::test]
    async fn served_on_loopback_only() {
        let shutdown = Shutdown::manual();
        assert!(serve("192.0.2.1:0".parse().unwrap(), shutdown.clone()).await.is_err());
        let address = serve("127.0.0.1:0".parse().unwrap(), shutdown.clone()).await.unwrap();
        ::metrics::counter!("rounds_total", "loop" => "test").increment(3);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("rounds_total{loop=\"test\"} 3"), "{text}");
        shutdown.set();
    }
}
