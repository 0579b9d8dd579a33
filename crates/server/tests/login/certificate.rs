//! A certificate for this machine, and browsers that trust it.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use ureq::tls::{Certificate as Pem, RootCerts, TlsConfig};

/// Key and certificate on disk.
pub(crate) struct Certificate(TempDir);

/// The one of all tests of a program.
pub(crate) fn shared() -> &'static Certificate {
    static SHARED: OnceLock<Certificate> = OnceLock::new();
    SHARED.get_or_init(Certificate::make)
}

/// Somebody who trusts it, follows nothing, and opens a connection for each question.
pub(crate) fn agent() -> ureq::Agent {
    let pem = std::fs::read(shared().path("cert.pem")).expect("a certificate");
    let roots = RootCerts::new_with_certs(&[Pem::from_pem(&pem).expect("a certificate")]);
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(Duration::from_secs(120)))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .into()
}

impl Certificate {
    fn make() -> Self {
        let made = Self(tempfile::tempdir().expect("temporary folder"));
        let request = "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=metal\n\
            [ext]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";
        std::fs::write(made.path("request"), request).expect("written");
        let line = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -config {} -keyout {} -out {}",
            made.path("request").display(),
            made.path("key.pem").display(),
            made.path("cert.pem").display()
        );
        let status = Command::new("openssl")
            .args(line.split(' '))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("openssl starts").success(), "no certificate");
        made
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// As the server wants it.
    pub(crate) fn server(&self) -> server::Tls {
        server::Tls { cert: self.path("cert.pem"), key: self.path("key.pem") }
    }
}
