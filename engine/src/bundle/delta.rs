//! A bundle that leaves out parts which a box already has. The parts are named by their SHA-256 in the signed manifest, so
//! wherever they come from, the whole is what was signed.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use locus_firmware_config::manifest::Part;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archive::{self, ArchiveError, ArchiveReader, BLOCK_BYTES};
use super::{BundleError, Entries, Head, Limits, MANIFEST, SIGNATURES, Trust, regular};

/// The first entry of a delta.
pub const DELTA: &str = "delta.json";
/// The format that this code reads.
pub const DELTA_FORMAT: u32 = 1;
/// Largest `delta.json`, in bytes.
const MAX_DELTA_BYTES: u64 = 1 << 10;

/// `delta.json`. Nothing of it is believed: it says what to look for where a part is not found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaInfo {
    /// Format of the delta.
    pub format: u32,
    /// Digest of the bundle whose parts are left out.
    pub from: String,
}

/// Whether a file begins as a delta does. Says nothing of what it is worth.
///
/// # Errors
/// [`BundleError`]; a file that is no archive is none either.
pub fn is_delta(path: impl AsRef<Path>, limits: &Limits) -> Result<bool, BundleError> {
    let (reader, total) = regular(path.as_ref())?;
    let mut archive = ArchiveReader::new(reader, total, limits.bundle_bytes)?;
    Ok(archive.next_header()?.is_some_and(|header| header.name == DELTA))
}

/// The bytes of the whole bundle of a delta: what it leaves out, `find` gives, by its SHA-256. Manifest and signatures are
/// verified before any part is looked for; the result has to be verified as any bundle.
///
/// # Errors
/// [`BundleError`]; [`BundleError::NotHere`] for a part that nobody has.
pub fn completed(
    path: impl AsRef<Path>,
    trust: &Trust,
    limits: &Limits,
    find: &mut dyn FnMut(&Part) -> Option<Arc<[u8]>>,
) -> Result<Vec<u8>, BundleError> {
    let (reader, total) = regular(path.as_ref())?;
    let mut archive = ArchiveReader::new(reader, total, limits.bundle_bytes)?;
    let mut entries = Entries { archive: &mut archive, index: 0, pending: None };
    let info: DeltaInfo = serde_json::from_slice(&entries.take(DELTA, MAX_DELTA_BYTES)?)
        .map_err(|error| BundleError::Delta { detail: error.to_string() })?;
    if info.format != DELTA_FORMAT {
        let detail = format!("format {}, expected {DELTA_FORMAT}", info.format);
        return Err(BundleError::Delta { detail });
    }
    let Head { manifest, manifest_bytes, signatures, longest, .. } = entries.head(trust, limits)?;
    if longest > limits.bundle_bytes {
        return Err(ArchiveError::TooLarge { got: longest, limit: limits.bundle_bytes }.into());
    }
    if let Some(got @ 1..) = total.checked_sub(longest + BLOCK_BYTES + MAX_DELTA_BYTES) {
        return Err(ArchiveError::Tail { got }.into());
    }
    let mut whole = Whole::new();
    whole.add(MANIFEST, &manifest_bytes)?;
    if let Some(signatures) = &signatures {
        whole.add(SIGNATURES, signatures)?;
    }
    let mut next = entries.header()?;
    for part in &manifest.parts {
        if next.as_ref().is_some_and(|header| header.name == part.name) {
            entries.pending = next.take();
            whole.add(&part.name, &entries.take_part(part)?)?;
            next = entries.header()?;
        } else {
            whole.add(&part.name, &found(part, &info, find)?)?;
        }
    }
    match next {
        None => whole.finish(),
        Some(header) => Err(entries.order(Some(header.name), "the end of the archive")),
    }
}

fn found(
    part: &Part,
    info: &DeltaInfo,
    find: &mut dyn FnMut(&Part) -> Option<Arc<[u8]>>,
) -> Result<Arc<[u8]>, BundleError> {
    let bytes = find(part).ok_or_else(|| BundleError::NotHere {
        name: part.name.clone(),
        sha256: part.sha256.clone(),
        from: info.from.chars().take(64).collect(),
    })?;
    if bytes.len() as u64 != part.size {
        let (name, got) = (part.name.clone(), bytes.len() as u64);
        return Err(BundleError::Size { name, got, expected: part.size });
    }
    let got = hex::encode(Sha256::digest(&bytes));
    if got != part.sha256 {
        return Err(BundleError::Sha256 { name: part.name.clone(), got, expected: part.sha256.clone() });
    }
    Ok(bytes)
}

/// The archive that is put together.
struct Whole(tar::Builder<Vec<u8>>);

impl Whole {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.0.append_data(&mut header, name, bytes).map_err(|error| ArchiveError::Read(error).into())
    }

    fn finish(self) -> Result<Vec<u8>, BundleError> {
        self.0.into_inner().map_err(|error| ArchiveError::Read(error).into())
    }
}

impl<R: Read> Entries<'_, R> {
    /// The header that comes next, or `None` at the end.
    fn header(&mut self) -> Result<Option<archive::PartHeader>, BundleError> {
        match self.pending.take() {
            Some(header) => Ok(Some(header)),
            None => Ok(self.archive.next_header()?),
        }
    }
}
