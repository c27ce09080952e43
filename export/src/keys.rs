//! Ed25519 keys as PEM files: PKCS#8 for private ones, readable by their owner only.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding},
};
use zeroize::Zeroizing;

use crate::ExportError;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io { path, source }
}

/// Makes a key pair: `BASE.key` (private) and `BASE.pub`. Never overwrites.
///
/// # Errors
/// A file that is already there or cannot be written, or no randomness.
pub fn generate(base: &Path) -> Result<(PathBuf, PathBuf), ExportError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(ExportError::Random)?;
    let key = SigningKey::from_bytes(&seed);
    let with = |end: &str| PathBuf::from(format!("{}.{end}", base.display()));
    let (private, public) = (with("key"), with("pub"));
    let no_key = |path: &Path| ExportError::Key { path: path.to_owned(), expected: "key" };
    let private_pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| no_key(&private))?;
    let public_pem = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| no_key(&public))?;
    for (path, mode, text) in [(&private, 0o600, private_pem.as_str()), (&public, 0o644, public_pem.as_str())]
    {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io(path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io(path))?;
    }
    Ok((private, public))
}

/// Reads a private key.
///
/// # Errors
/// No such file, or no private key in it.
pub fn read_private(path: &Path) -> Result<SigningKey, ExportError> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io(path))?);
    SigningKey::from_pkcs8_pem(&text)
        .map_err(|_| ExportError::Key { path: path.to_owned(), expected: "private key" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_is_private_and_is_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = generate(&folder.path().join("k")).unwrap();
        let key = read_private(&private).unwrap();
        let pem = std::fs::read_to_string(&public).unwrap();
        assert_eq!(key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap(), pem);
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(generate(&folder.path().join("k")), Err(ExportError::Io { .. })));
        assert_eq!(read_private(&private).unwrap(), key);
        let error = read_private(&public).unwrap_err();
        assert!(error.to_string().contains("private key"), "{error}");
    }
}
