//! The certificate of the HTTPS listener: the site's, or one that the box makes and signs itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    config::Http,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, write_atomic},
};

/// Why HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not PEM of a certificate or key.
    #[error("{path}: {detail}; expected PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit together.
    #[error("certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Makes the self-signed certificate of a box where there is none.
///
/// # Errors
/// [`TlsError`].
pub fn load_or_create(state: &StateDir, box_name: &str) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (state.certificate(), state.certificate_key());
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Io { path, source }
    };
    if OsVfs.exists(&certificate).map_err(io(&certificate))? && OsVfs.exists(&key).map_err(io(&key))? {
        return Ok((certificate, key));
    }
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), box_name.to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let folder = certificate.parent().unwrap_or(Path::new("."));
    OsVfs.create_dir_all(folder).map_err(io(folder))?;
    let pem = zeroize::Zeroizing::new(made.signing_key.serialize_pem());
    write_atomic(&OsVfs, &key, pem.as_bytes(), Access::Private).map_err(io(&key))?;
    write_atomic(&OsVfs, &certificate, made.cert.pem().as_bytes(), Access::Public)
        .map_err(io(&certificate))?;
    Ok((certificate, key))
}

pub(super) fn server_config(
    config: &Http,
    state: &StateDir,
    box_name: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ => load_or_create(state, box_name)?,
    };
    let pem = |path: &Path, error: rustls_pki_types::pem::Error| TlsError::Pem {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(&certificate, error))?;
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| pem(&key, error))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    // Not HTTP/2: one connection of it has no bound on the time that a request's head takes.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
