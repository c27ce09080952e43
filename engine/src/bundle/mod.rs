//! Opens a `.locus` bundle and believes none of it before it is proved.
//!
//! The order matters: the manifest is read first (bounded), its signature second, and only then parts, each one
//! announced by the manifest with its size, so that an unsigned file costs a box neither memory nor time.

mod archive;
mod checks;
mod delta;
mod error;
mod pack;
mod policy;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use locus_firmware_config::manifest::{MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES, Manifest, Part};
use locus_genome::Tokenizer;
use sha2::{Digest, Sha256};

pub use archive::ArchiveError;
use archive::ArchiveReader;
pub use checks::{ENGINE_VERSION, GOLDEN_VECTORS};
use checks::{TOKENIZER, check_tokenizer, parse_manifest};
pub use delta::{DELTA, DELTA_FORMAT, DeltaInfo, completed, is_delta};
pub use error::BundleError;
pub use pack::{Depth, Pack, is_pack};
pub use policy::Policy;
use trust::Signers;
pub use trust::{Trust, TrustError, TrustedKey};

const MANIFEST: &str = "manifest.json";
const SIGNATURES: &str = "signatures.json";
/// Largest sizes accepted, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole file.
    pub bundle_bytes: u64,
    /// `manifest.json`.
    pub manifest_bytes: u64,
    /// `signatures.json`.
    pub signatures_bytes: u64,
    /// Every other part that is not a graph.
    pub text_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bundle_bytes: MAX_BUNDLE_BYTES,
            manifest_bytes: MAX_MANIFEST_BYTES as u64,
            signatures_bytes: 64 << 10,
            text_bytes: 64 << 20,
        }
    }
}

/// A verified bundle, whole in memory: nothing is read from the file afterwards.
#[derive(Clone)]
pub struct Bundle {
    manifest: Manifest,
    manifest_bytes: Arc<[u8]>,
    digest: String,
    signers: Signers,
    tokenizer: Tokenizer,
    parts: BTreeMap<String, Arc<[u8]>>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = &self.manifest;
        f.debug_struct("Bundle")
            .field("name", &manifest.name)
            .field("version", &manifest.version)
            .field("digest", &self.digest)
            .field("signers", &self.signers)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// Opens a bundle file and verifies everything that can be verified without running it.
    ///
    /// # Errors
    /// [`BundleError`] with what was got, what was expected and what to do.
    pub fn open(path: impl AsRef<Path>, trust: &Trust) -> Result<Self, BundleError> {
        Self::open_within(path, trust, &Limits::default())
    }

    /// As [`Bundle::open`], with other limits than the default ones.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn open_within(path: impl AsRef<Path>, trust: &Trust, limits: &Limits) -> Result<Self, BundleError> {
        let (reader, total) = regular(path.as_ref())?;
        Self::read(reader, total, trust, limits)
    }

    /// What a file says of itself, verified as far as that needs no part: signatures, manifest, and that the file is no
    /// longer than the manifest says. Costs a few megabytes of memory at most, whatever the file is.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn announced(
        path: impl AsRef<Path>,
        trust: &Trust,
        limits: &Limits,
    ) -> Result<Manifest, BundleError> {
        let (reader, total) = regular(path.as_ref())?;
        let mut archive = ArchiveReader::new(reader, total, limits.bundle_bytes)?;
        let mut entries = Entries { archive: &mut archive, index: 0, pending: None };
        let Head { manifest, longest, .. } = entries.head(trust, limits)?;
        match total.checked_sub(longest) {
            Some(got @ 1..) => Err(ArchiveError::Tail { got }.into()),
            _ => Ok(manifest),
        }
    }

    /// Verifies a bundle of `total` bytes from a reader.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn read(reader: impl Read, total: u64, trust: &Trust, limits: &Limits) -> Result<Self, BundleError> {
        let mut archive = ArchiveReader::new(reader, total, limits.bundle_bytes)?;
        let mut entries = Entries { archive: &mut archive, index: 0, pending: None };
        let Head { manifest, manifest_bytes, digest, signers, .. } = entries.head(trust, limits)?;
        let mut parts = BTreeMap::new();
        for part in &manifest.parts {
            parts.insert(part.name.clone(), Arc::from(entries.take_part(part)?));
        }
        entries.finish()?;
        let tokenizer = check_tokenizer(&manifest, &parts)?;
        Ok(Self {
            manifest,
            manifest_bytes: manifest_bytes.into(),
            digest: hex::encode(digest),
            signers,
            tokenizer,
            parts,
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes that the digest and the signatures cover.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// SHA-256 of `manifest.json`, in lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes of a part.
    pub fn part(&self, name: &str) -> Option<Arc<[u8]>> {
        self.parts.get(name).cloned()
    }

    /// Whether a trusted key's signature was verified; always false under [`Trust::AllowUnsigned`].
    pub fn signed(&self) -> bool {
        !self.signers.verified.is_empty()
    }

    /// Ids of the trusted keys that signed.
    pub fn signers(&self) -> &[String] {
        &self.signers.verified
    }

    /// Ids of keys whose signatures are in the bundle and were not checked, because the key is not a trusted one or
    /// nobody asked: anybody can write such a signature.
    pub fn claimed_signers(&self) -> &[String] {
        &self.signers.claimed
    }

    /// The tokenizer of `tokenizer.json`, whose fingerprint is the manifest's.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// A regular file and its length. Asked before opening: opening a FIFO or a terminal would wait for ever.
fn regular(path: &Path) -> Result<(BufReader<File>, u64), BundleError> {
    let opened = |source| BundleError::Open { path: path.display().to_string(), source };
    if !std::fs::metadata(path).map_err(opened)?.is_file() {
        return Err(ArchiveError::NotAFile.into());
    }
    let file = File::open(path).map_err(opened)?;
    let total = file.metadata().map_err(opened)?.len();
    Ok((BufReader::new(file), total))
}

/// What comes before the parts, verified.
struct Head {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    digest: [u8; 32],
    signers: Signers,
    signatures: Option<Vec<u8>>,
    /// Most bytes that an archive of this manifest has.
    longest: u64,
}

/// What comes first in every archive, its signatures checked.
struct Front {
    manifest_bytes: Vec<u8>,
    digest: [u8; 32],
    signers: Signers,
    signatures: Option<Vec<u8>>,
}

impl Front {
    /// Sizes of its entries.
    fn sizes(&self) -> impl Iterator<Item = u64> {
        let sizes = [Some(self.manifest_bytes.len()), self.signatures.as_ref().map(Vec::len)];
        sizes.into_iter().flatten().map(|size| size as u64)
    }
}

struct Entries<'a, R> {
    archive: &'a mut ArchiveReader<R>,
    index: usize,
    pending: Option<archive::PartHeader>,
}

impl<R: Read> Entries<'_, R> {
    fn next(&mut self, expected: &str) -> Result<archive::PartHeader, BundleError> {
        let header = match self.pending.take() {
            Some(header) => Some(header),
            None => self.archive.next_header()?,
        };
        match header {
            Some(header) if header.name == expected => {
                self.index += 1;
                Ok(header)
            }
            other => Err(self.order(other.map(|header| header.name), expected)),
        }
    }

    fn order(&self, got: Option<String>, expected: &str) -> BundleError {
        let got = got.unwrap_or_else(|| "the end of the archive".to_owned());
        BundleError::Order { index: self.index, got, expected: expected.to_owned() }
    }

    fn take(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, BundleError> {
        let header = self.next(name)?;
        Ok(self.archive.read_part(&header, limit)?)
    }

    fn take_if(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, BundleError> {
        self.pending = self.archive.next_header()?;
        match &self.pending {
            Some(header) if header.name == name => self.take(name, limit).map(Some),
            Some(_) => Ok(None),
            None => Err(self.order(None, TOKENIZER)),
        }
    }

    /// Manifest and signatures, of whatever the archive holds.
    fn front(&mut self, trust: &Trust, limits: &Limits) -> Result<Front, BundleError> {
        let manifest_bytes = self.take(MANIFEST, limits.manifest_bytes)?;
        let digest: [u8; 32] = Sha256::digest(&manifest_bytes).into();
        let signatures = self.take_if(SIGNATURES, limits.signatures_bytes)?;
        let signers = trust.check(&digest, signatures.as_deref())?;
        Ok(Front { manifest_bytes, digest, signers, signatures })
    }

    fn head(&mut self, trust: &Trust, limits: &Limits) -> Result<Head, BundleError> {
        let front = self.front(trust, limits)?;
        let manifest = parse_manifest(&front.manifest_bytes, limits)?;
        let longest = archive::longest(front.sizes().chain(manifest.parts.iter().map(|part| part.size)));
        let Front { manifest_bytes, digest, signers, signatures } = front;
        Ok(Head { manifest, manifest_bytes, digest, signers, signatures, longest })
    }

    fn take_part(&mut self, part: &Part) -> Result<Vec<u8>, BundleError> {
        let header = self.next(&part.name)?;
        if header.size != part.size {
            let name = part.name.clone();
            return Err(BundleError::Size { name, got: header.size, expected: part.size });
        }
        let bytes = self.archive.read_part(&header, part.size)?;
        let got = hex::encode(Sha256::digest(&bytes));
        if got != part.sha256 {
            return Err(BundleError::Sha256 { name: part.name.clone(), got, expected: part.sha256.clone() });
        }
        Ok(bytes)
    }

    fn finish(&mut self) -> Result<(), BundleError> {
        let header = match self.pending.take() {
            Some(header) => Some(header),
            None => self.archive.next_header()?,
        };
        match header {
            None => Ok(()),
            Some(header) => Err(self.order(Some(header.name), "the end of the archive")),
        }
    }
}
