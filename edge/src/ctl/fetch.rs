//! Where a bundle to flash comes from: a file, a folder, or an https address.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use locus_firmware_config::manifest::MAX_BUNDLE_BYTES;
use ureq::{
    Agent,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

/// The certificates of Debian and its relatives.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest time of a download.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// A file to flash; a fetched one is removed when this goes.
pub(super) struct Fetched {
    path: PathBuf,
    temporary: bool,
}

impl Fetched {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Finds or fetches a bundle. What it is worth, its signatures say, wherever it comes from.
pub(super) fn bundle(from: &Path, ca: Option<&Path>, state: &Path) -> Result<Fetched> {
    let text = from.to_string_lossy();
    if text.contains("://") {
        ensure!(text.starts_with("https://"), "got {text}, expected an https:// address, a file or a folder");
        return download(&text, ca, state);
    }
    let path = from.canonicalize().with_context(|| format!("cannot find {}", from.display()))?;
    let path = if path.is_dir() { only_bundle(&path)? } else { path };
    Ok(Fetched { path, temporary: false })
}

fn only_bundle(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "locus") && path.is_file() {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("got {} .locus files in {}, expected one; name the file", found.len(), folder.display()),
    }
}

fn download(address: &str, ca: Option<&Path>, state: &Path) -> Result<Fetched> {
    let ca = ca.unwrap_or(Path::new(SYSTEM));
    let pem = fs::read(ca)
        .with_context(|| format!("cannot read the certificates {}; name them with --ca", ca.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    ensure!(!certificates.is_empty(), "{} holds no certificate", ca.display());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent: Agent = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut answer = agent.get(address).call().with_context(|| format!("cannot get {address}"))?;
    let folder = state.join("run");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // The daemon, which is told of it, may stand in another folder.
    let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    let fetched =
        Fetched { path: folder.join(format!("fetched-{}.locus", std::process::id())), temporary: true };
    let _ = fs::remove_file(&fetched.path);
    let mut file = File::create_new(&fetched.path)
        .with_context(|| format!("cannot write {}", fetched.path.display()))?;
    let body = answer.body_mut().with_config().limit(MAX_BUNDLE_BYTES + 1).reader();
    let got = io::copy(&mut body.take(MAX_BUNDLE_BYTES + 1), &mut file)
        .with_context(|| format!("cannot get {address}"))?;
    ensure!(got <= MAX_BUNDLE_BYTES, "{address} has more than {MAX_BUNDLE_BYTES} bytes, which no bundle has");
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_only_bundle_and_nothing_is_fetched_in_the_clear() {
        let folder = tempfile::tempdir().unwrap();
        let of = |from: &Path| bundle(from, None, folder.path()).map(|fetched| fetched.path().to_owned());
        let told = |from: &Path| of(from).unwrap_err().to_string();
        assert!(told(folder.path()).contains("got 0 .locus files"));
        let one = folder.path().join("one.locus");
        fs::write(&one, b"x").unwrap();
        assert_eq!(of(folder.path()).unwrap(), one.canonicalize().unwrap());
        assert_eq!(of(&one).unwrap(), one.canonicalize().unwrap());
        fs::write(folder.path().join("two.locus"), b"x").unwrap();
        assert!(told(folder.path()).contains("got 2 .locus files"));
        for address in ["http://example.org/m.locus", "ftp://example.org/m.locus", "file:///etc/passwd"] {
            assert!(told(Path::new(address)).contains("expected an https:// address"), "{address}");
        }
        assert!(one.is_file(), "what was not fetched is not removed");
    }
}
