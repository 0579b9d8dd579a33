//! Connections: where the server listens, TLS, how soon it notices that a peer has vanished, and which requests are calls and
//! which are visits of browsers.

mod cors;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use connectrpc::{ConnectRpcBody, ConnectRpcService, PeerAddr};
use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::auth::login::{self, Login};
use crate::rpc::App;

/// A connection that is silent for so long is asked whether it is alive.
const IDLE: Duration = Duration::from_secs(10);
/// So often it is asked.
const PROBE: Duration = Duration::from_secs(5);
/// Who answers nothing for so long is gone: a machine that lost power leaves the pool within half a minute.
const GONE: Duration = Duration::from_secs(25);

/// So long a peer may take until it says which protocol it speaks, and for the head of each request of HTTP/1.1.
const HEAD: Duration = Duration::from_secs(30);
/// So long TLS may take to begin.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Below this path come browsers, elsewhere calls.
const BROWSERS: &str = "/auth/";
/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Certificate and key of the server.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file with the certificate of the server, then those of intermediate authorities.
    pub cert: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Listens; what is set on the listener, Linux gives to each connection that it accepts.
pub(crate) async fn bind(address: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; is another server running?"))?;
    let socket = SockRef::from(&listener);
    let probes = (GONE - IDLE).as_secs() / PROBE.as_secs();
    let keepalive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(PROBE)
        .with_retries(u32::try_from(probes).unwrap_or(1));
    socket.set_tcp_keepalive(&keepalive).context("no keep-alive of connections")?;
    // keep-alive does not ask while something that was sent waits for its acknowledgement
    socket.set_tcp_user_timeout(Some(GONE)).context("no time-out of connections")?;
    Ok(listener)
}

/// Reads certificate and key. HTTP/2 is preferred, HTTP/1.1 is answered.
pub(crate) fn tls(files: &Tls) -> Result<Arc<ServerConfig>> {
    let name = |path: &Path| path.display().to_string();
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", name(&files.cert)))?;
    if certificates.is_empty() {
        bail!(
            "{} holds no certificate: it must be PEM with 'BEGIN CERTIFICATE'",
            name(&files.cert)
        );
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read the private key {}", name(&files.key)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| {
            format!(
                "the key {} does not fit the certificate {}",
                name(&files.key),
                name(&files.cert)
            )
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Everything that is answered on the one port.
pub(crate) struct Front {
    /// The RPCs.
    pub(crate) service: ConnectRpcService,
    /// The way in for people, where one is configured.
    pub(crate) login: Option<Login>,
    /// What both work with.
    pub(crate) app: Arc<App>,
}

/// Answers until `stop`, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    front: Front,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let front = Arc::new(front);
    let tls = tls.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // no more files may be open: others must end first
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // small frames of HTTP/2 must not wait for each other
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small frames may wait");
        }
        let (front, tls, watcher) = (Arc::clone(&front), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let served = match tls {
                // apart, so that connections without TLS do not keep room for it
                Some(tls) => Box::pin(encrypted(&front, &tls, stream, peer, watcher)).await,
                None => clear(&front, stream, peer, watcher).await,
            };
            if let Err(error) = served {
                tracing::debug!(%peer, error = format!("{error:#}"), "a connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

async fn encrypted(
    front: &Arc<Front>,
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
) -> Result<()> {
    let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await.context("TLS")??;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    connection(front, stream, peer, http2, watcher).await
}

async fn clear(
    front: &Arc<Front>,
    stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
) -> Result<()> {
    let http2 = tokio::time::timeout(HEAD, speaks_http2(&stream)).await.context("silent")??;
    connection(front, stream, peer, http2, watcher).await
}

/// Looks at what came first without taking it. Without TLS nothing else tells the protocol.
async fn speaks_http2(stream: &TcpStream) -> Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        if first[..length] != PREFACE[..length] {
            return Ok(false);
        }
        if length == 0 || length == PREFACE.len() {
            return Ok(length > 0);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connection(
    front: &Arc<Front>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    http2: bool,
    watcher: Watcher,
) -> Result<()> {
    let front = Arc::clone(front);
    let service = hyper::service::service_fn(move |request| {
        let front = Arc::clone(&front);
        // apart, so that a stream that stays open for days does not keep the room that its beginning took
        async move { Ok::<_, Infallible>(Box::pin(front.answer(request, peer)).await) }
    });
    let stream = TokioIo::new(stream);
    let served = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).adaptive_window(true);
        // clients tell heads in full: a connection whose stream stays open for days keeps no copy of them
        builder.header_table_size(0);
        watcher.watch(builder.serve_connection(stream, service)).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        watcher.watch(builder.serve_connection(stream, service)).await
    };
    Ok(served?)
}

impl Front {
    /// Answers a request; a defect in one costs no other one on the same connection.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<ConnectRpcBody> {
        let answering = async {
            if request.uri().path().starts_with(BROWSERS) {
                return self.visit(&request, peer).await;
            }
            if let Some(told) = cors::preflight(&request) {
                return told;
            }
            let page = request.headers().contains_key(header::ORIGIN);
            request.extensions_mut().insert(PeerAddr(peer));
            let mut response = match self.service.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if page {
                cors::allow(response.headers_mut());
            }
            response
        };
        AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("answering a request has panicked");
            let body = r#"{"code":"internal","message":"the server failed, its log says why"}"#;
            let mut response = Response::new(ConnectRpcBody::Full(Full::from(body)));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        })
    }

    async fn visit(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<ConnectRpcBody> {
        if request.method() != Method::GET {
            let mut response = Response::new(ConnectRpcBody::Full(Full::default()));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return response;
        }
        let values = |name: header::HeaderName| {
            request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
        };
        let forwarded = values(header::HeaderName::from_static("x-forwarded-for"));
        let visit = login::Visit {
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            cookie: login::cookie(values(header::COOKIE)),
            source: crate::rpc::source_of(Some(peer.ip()), forwarded, &self.app.trusted_proxies),
        };
        let page = login::answer(&self.app, self.login.as_ref(), &visit).await;
        page.response().map(|body| ConnectRpcBody::Full(Full::new(body)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn connections_inherit_that_they_end() {
        let listener = bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address");
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("option"));
        assert_eq!(socket.tcp_keepalive_time().expect("option"), IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("option"), PROBE);
        assert_eq!(socket.tcp_user_timeout().expect("option"), Some(GONE));
    }

    #[test]
    fn says_which_file_is_wrong() {
        let folder = tempfile::tempdir().expect("folder");
        let files =
            Tls { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let error = tls(&files).expect_err("no files").to_string();
        assert!(error.starts_with("cannot read the certificate") && error.contains("cert.pem"));
        std::fs::write(&files.cert, "nothing").expect("written");
        let error = tls(&files).expect_err("no certificate").to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }

    /// What `openssl` says on standard output.
    fn openssl(args: &[&str]) -> String {
        let output = std::process::Command::new("openssl")
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_by_tls() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let request = "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=metal\n\
            [ext]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";
        std::fs::write(path("request"), request).expect("written");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-config",
            &path("request"),
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ]);
        let running = crate::start(crate::Config {
            listen: "127.0.0.1:0".to_owned(),
            database: format!("sqlite:{}", path("metal.db")),
            tls: Some(Tls { cert: path("cert").into(), key: path("key").into() }),
            ..crate::Config::default()
        })
        .await
        .expect("server");
        let address = running.address;
        let pem = std::fs::read(path("cert")).expect("certificate");
        let answer = tokio::task::spawn_blocking(move || {
            let trusted = ureq::tls::Certificate::from_pem(&pem).expect("certificate");
            let tls = ureq::tls::TlsConfig::builder()
                .root_certs(ureq::tls::RootCerts::new_with_certs(&[trusted]))
                .build();
            let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
            let url = format!("https://{address}/metalstack.api.v2.VersionService/Get");
            let http1 = agent.post(url).header("content-type", "application/json").send("{}");
            let http2 =
                openssl(&["s_client", "-alpn", "h2,http/1.1", "-connect", &address.to_string()]);
            (http1.expect("an answer").status(), http2)
        });
        let (http1, http2) = answer.await.expect("no panic");
        assert_eq!(http1, 200);
        assert!(http2.contains("ALPN protocol: h2"), "{http2}");
        running.stop().await.expect("stops");
    }
}
