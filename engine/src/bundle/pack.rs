//! Opens a reference pack: the archive, the signatures and the trust of a bundle, and parts of which the largest is never
//! held in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use locus_firmware_config::manifest::Part;
use locus_firmware_config::pack::{MAX_PACK_BYTES, PackManifest};
use locus_genome::ReferencePack;
use locus_genome::packed::{BASES, BLOCK_BYTES, BLOCKS, PARTS, Parts, ReadAt};
use sha2::{Digest, Sha256};

use super::archive::{self, ArchiveError, ArchiveReader};
use super::checks::ENGINE_VERSION;
use super::trust::Signers;
use super::{BundleError, Entries, Front, Limits, MANIFEST, Trust, regular};

/// Largest part that is held in memory, in bytes.
const MAX_TABLE_BYTES: u64 = 512 << 20;

/// How much of a pack is read when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything: before it is taken.
    Whole,
    /// Everything but the bases, each block of which is checked whenever it is read.
    Tables,
}

/// A verified pack.
#[derive(Clone, Debug)]
pub struct Pack {
    manifest: PackManifest,
    digest: String,
    signers: Signers,
    tables: BTreeMap<String, Vec<u8>>,
    source: Arc<dyn ReadAt>,
    bases: (u64, u64),
}

/// A file that is read by position, as one that is read in order.
struct InOrder {
    source: Arc<dyn ReadAt>,
    at: u64,
    total: u64,
}

impl Read for InOrder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (buffer.len() as u64).min(self.total.saturating_sub(self.at)) as usize;
        self.source.read_exact_at(&mut buffer[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for InOrder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.total.checked_add_signed(by),
        };
        self.at = at.filter(|at| *at <= self.total).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether a file begins as a pack does. Says nothing of what it is worth.
///
/// # Errors
/// [`BundleError`]; a file that is no archive is no pack either.
pub fn is_pack(path: impl AsRef<Path>) -> Result<bool, BundleError> {
    let (reader, total) = regular(path.as_ref())?;
    let mut archive = ArchiveReader::new(reader, total, u64::MAX)?;
    match archive.next_header()? {
        Some(header) if header.name == MANIFEST => {
            let limit = Limits::default().manifest_bytes;
            Ok(header.size <= limit && PackManifest::is_one(&archive.read_part(&header, limit)?))
        }
        _ => Ok(false),
    }
}

fn parsed(bytes: &[u8]) -> Result<PackManifest, BundleError> {
    let manifest = PackManifest::from_json(bytes)
        .map_err(|error| BundleError::Manifest { detail: error.to_string() })?;
    let names: Vec<&str> = manifest.parts.iter().map(|part| part.name.as_str()).collect();
    if names != PARTS {
        let got = names.join(", ").chars().take(128).collect();
        return Err(BundleError::Contract { what: "parts", got, expected: PARTS.join(", ") });
    }
    let table = |part: &&Part| part.name != BASES && part.size > MAX_TABLE_BYTES;
    if let Some(part) = manifest.parts.iter().find(table) {
        let limit = MAX_TABLE_BYTES;
        return Err(ArchiveError::PartTooLarge { name: part.name.clone(), got: part.size, limit }.into());
    }
    let wanted = &manifest.min_edge_version;
    match ENGINE_VERSION.parse() {
        Ok(here) if *wanted <= here => Ok(manifest),
        _ => Err(BundleError::MinVersion { got: ENGINE_VERSION.to_owned(), expected: wanted.to_string() }),
    }
}

impl Pack {
    /// What a file says of itself, verified as far as that needs no part: signatures, manifest, and that the file is no
    /// longer than the manifest says.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn announced(path: impl AsRef<Path>, trust: &Trust) -> Result<(PackManifest, String), BundleError> {
        let (reader, total) = regular(path.as_ref())?;
        let mut archive = ArchiveReader::new(reader, total, MAX_PACK_BYTES)?;
        let mut entries = Entries { archive: &mut archive, index: 0, pending: None };
        let front = entries.front(trust, &Limits::default())?;
        let manifest = parsed(&front.manifest_bytes)?;
        let longest = archive::longest(front.sizes().chain(manifest.parts.iter().map(|part| part.size)));
        match total.checked_sub(longest) {
            Some(got @ 1..) => Err(ArchiveError::Tail { got }.into()),
            _ => Ok((manifest, hex::encode(front.digest))),
        }
    }

    /// Opens a pack file.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn open_file(path: impl AsRef<Path>, trust: &Trust, depth: Depth) -> Result<Self, BundleError> {
        let (reader, total) = regular(path.as_ref())?;
        Self::open(Arc::new(reader.into_inner()), total, trust, depth)
    }

    /// Opens a pack of `total` bytes and verifies it.
    ///
    /// # Errors
    /// [`BundleError`] with what was got, what was expected and what to do.
    pub fn open(
        source: Arc<dyn ReadAt>,
        total: u64,
        trust: &Trust,
        depth: Depth,
    ) -> Result<Self, BundleError> {
        let reader =
            io::BufReader::with_capacity(1 << 18, InOrder { source: Arc::clone(&source), at: 0, total });
        let mut archive = ArchiveReader::new(reader, total, MAX_PACK_BYTES)?;
        let mut entries = Entries { archive: &mut archive, index: 0, pending: None };
        let Front { manifest_bytes, digest, signers, .. } = entries.front(trust, &Limits::default())?;
        let manifest = parsed(&manifest_bytes)?;
        let (mut tables, mut bases) = (BTreeMap::new(), (0, 0));
        for part in &manifest.parts {
            if part.name != BASES {
                tables.insert(part.name.clone(), entries.take_part(part)?);
                continue;
            }
            let header = entries.next(BASES)?;
            if header.size != part.size {
                let name = part.name.clone();
                return Err(BundleError::Size { name, got: header.size, expected: part.size });
            }
            bases = (entries.archive.at(), part.size);
            match depth {
                Depth::Tables => entries.archive.skip_part(&header)?,
                Depth::Whole => check_bases(&mut entries, part, &header, tables.get(BLOCKS))?,
            }
        }
        entries.finish()?;
        Ok(Self { manifest, digest: hex::encode(digest), signers, tables, source, bases })
    }

    /// What the pack says of itself.
    pub const fn manifest(&self) -> &PackManifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, in lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether a trusted key's signature was verified; always false under [`Trust::AllowUnsigned`].
    pub fn signed(&self) -> bool {
        !self.signers.verified.is_empty()
    }

    /// Ids of keys whose signatures are in the pack and were not checked.
    pub fn claimed_signers(&self) -> &[String] {
        &self.signers.claimed
    }

    /// The genome, which reads the pack's file from here on.
    ///
    /// # Errors
    /// [`BundleError::Pack`]: parts that contradict each other.
    pub fn into_reference(mut self) -> Result<ReferencePack, BundleError> {
        let mut take = |name: &str| self.tables.remove(name).unwrap_or_default();
        let [records, transcripts, runs, blocks] = [PARTS[0], PARTS[1], PARTS[2], PARTS[3]].map(&mut take);
        let (bases_at, bases_len) = self.bases;
        let parts = Parts { records, transcripts, runs, blocks, source: self.source, bases_at, bases_len };
        ReferencePack::packed(parts).map_err(|error| BundleError::Pack { detail: error.to_string() })
    }
}

/// Reads the bases through once: the digest of all, and of each block.
fn check_bases<R: Read>(
    entries: &mut Entries<'_, R>,
    part: &Part,
    header: &archive::PartHeader,
    blocks: Option<&Vec<u8>>,
) -> Result<(), BundleError> {
    let expected: &[[u8; 32]] = blocks.map_or(&[], |blocks| blocks.as_chunks::<32>().0);
    let (mut whole, mut good, mut number) = (Sha256::new(), true, 0);
    entries.archive.stream_part(header, BLOCK_BYTES, &mut |block| {
        whole.update(block);
        let digest: [u8; 32] = Sha256::digest(block).into();
        good &= expected.get(number) == Some(&digest);
        number += 1;
    })?;
    let got = hex::encode(whole.finalize());
    if got != part.sha256 {
        return Err(BundleError::Sha256 { name: part.name.clone(), got, expected: part.sha256.clone() });
    }
    if good && number == expected.len() {
        return Ok(());
    }
    Err(BundleError::Pack { detail: format!("{BLOCKS} are not the digests of {BASES}") })
}
