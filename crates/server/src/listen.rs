//! Connections: where the server listens, TLS, and how soon it notices that a peer has vanished.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;

/// A connection that is silent for so long is asked whether it is alive.
const IDLE: Duration = Duration::from_secs(10);
/// So often it is asked.
const PROBE: Duration = Duration::from_secs(5);
/// Who answers nothing for so long is gone: a machine that lost power leaves the pool within half a minute.
const GONE: Duration = Duration::from_secs(25);

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
