//! Whom a client trusts.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::Error;

/// TLS that trusts the given authorities, or the system's when none are given.
pub(crate) fn config(ca_cert_pem: Option<&str>) -> Result<Arc<rustls::ClientConfig>, Error> {
    let roots = match ca_cert_pem {
        Some(pem) => given(pem)?,
        None => system()?,
    };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|e| Error::CaCert(e.to_string()))?
    .with_root_certificates(roots)
    .with_no_client_auth();
    Ok(Arc::new(config))
}

fn given(pem: &str) -> Result<rustls::RootCertStore, Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| Error::CaCert(e.to_string()))?;
        roots.add(certificate).map_err(|e| Error::CaCert(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(Error::CaCert("it holds no certificate in PEM".into()));
    }
    Ok(roots)
}

fn system() -> Result<rustls::RootCertStore, Error> {
    let mut roots = rustls::RootCertStore::empty();
    // Stores of old systems hold certificates that nobody can read any more; the others still count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Error::NoCaCert) } else { Ok(roots) }
}
