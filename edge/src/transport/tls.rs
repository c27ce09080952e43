//! TLS towards the site's broker, with certificates that are read anew for every connection.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, client::ResolvesClientCert, crypto::ring,
    sign::CertifiedKey,
};

use crate::{
    access::{chain, private_key},
    config::Mqtt,
};

/// The box's own certificate: what lies in the files when a connection is made, so that a renewed one counts without a
/// restart.
#[derive(Debug)]
struct Own {
    certificate: PathBuf,
    key: PathBuf,
}

impl Own {
    fn read(&self) -> Result<CertifiedKey, String> {
        let chain = chain(&self.certificate).map_err(|error| error.to_string())?;
        let key = private_key(&self.key).map_err(|error| error.to_string())?;
        CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| format!("mqtt.certificate {}: {error}", self.certificate.display()))
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.read().inspect_err(|error| tracing::error!(error, "no certificate is shown")).ok().map(Arc::new)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client that trusts the certificates of a file and no other.
///
/// # Errors
/// The file cannot be used.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate in it".into()) } else { Ok(roots) }
}

/// How the box speaks TLS to the site's broker; none where the configuration names no certificates of it.
///
/// # Errors
/// A file cannot be used.
pub fn client(config: &Mqtt) -> Result<Option<Arc<ClientConfig>>, String> {
    let Some(ca) = &config.ca else { return Ok(None) };
    let named = |error: String| format!("mqtt.ca {}: {error}", ca.display());
    let pem = std::fs::read(ca).map_err(|error| named(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(&pem).map_err(named)?);
    Ok(Some(Arc::new(match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            let own = Own { certificate: certificate.clone(), key: key.clone() };
            own.read()?;
            builder.with_client_cert_resolver(Arc::new(own))
        }
        _ => builder.with_no_client_auth(),
    })))
}
