//! The `.locus` file: an uncompressed ustar archive, the same bytes for the same parts.

use std::{collections::BTreeSet, io::Read};

use ed25519_dalek::{Signer, SigningKey};
use locus_firmware_config::manifest::{
    MAX_BUNDLE_BYTES, MAX_SIGNATURES, Manifest, Part, Signature, Signatures, digest, key_id, signing_message,
};
use sha2::{Digest, Sha256};

use crate::ExportError;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SIGNATURES: &str = "signatures.json";
/// Order of the parts in the archive.
const ORDER: [&str; 8] = [
    "tokenizer.json",
    "config.json",
    "calibration.json",
    "golden.json",
    "fp32.onnx",
    "int8.onnx",
    "int8-fp16.onnx",
    "model-card.md",
];

/// Puts a bundle together.
pub struct BundleBuilder {
    manifest: Manifest,
    parts: Vec<(&'static str, Vec<u8>)>,
}

impl BundleBuilder {
    /// Starts from a manifest; its list of parts is written by [`BundleBuilder::build`].
    pub const fn new(manifest: Manifest) -> Self {
        Self { manifest, parts: Vec::new() }
    }

    /// Adds a part.
    ///
    /// # Errors
    /// A name that format 1 does not know, or one that is already there.
    pub fn part(mut self, name: &str, bytes: Vec<u8>) -> Result<Self, ExportError> {
        let known = ORDER
            .iter()
            .find(|n| **n == name)
            .ok_or(ExportError::Bundle { reason: "a part that format 1 does not know" })?;
        if self.parts.iter().any(|(n, _)| n == known) {
            return Err(ExportError::Bundle { reason: "a part is there twice" });
        }
        self.parts.push((known, bytes));
        Ok(self)
    }

    /// The unsigned archive.
    ///
    /// # Errors
    /// A manifest that contradicts itself.
    pub fn build(mut self) -> Result<Vec<u8>, ExportError> {
        self.parts.sort_by_key(|(name, _)| ORDER.iter().position(|n| n == name));
        let list = |(name, bytes): &(&str, Vec<u8>)| Part {
            name: (*name).to_owned(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        };
        self.manifest.parts = self.parts.iter().map(list).collect();
        let manifest = self.manifest.to_json()?;
        let mut entries = vec![(MANIFEST.to_owned(), manifest)];
        entries.extend(self.parts.into_iter().map(|(n, b)| (n.to_owned(), b)));
        archive(&entries)
    }
}

/// The header of a part, but for its name.
pub(crate) fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn archive(entries: &[(String, Vec<u8>)]) -> Result<Vec<u8>, ExportError> {
    let mut builder = tar::Builder::new(Vec::new());
    let whole = |_| ExportError::Bundle { reason: "a part does not fit into an archive" };
    for (name, bytes) in entries {
        builder.append_data(&mut header(bytes.len() as u64), name, bytes.as_slice()).map_err(whole)?;
    }
    builder.into_inner().map_err(whole)
}

/// The entries of a bundle in their order. What a device must check, `locus-engine` checks; this only
/// takes apart what [`BundleBuilder`] put together.
///
/// # Errors
/// No archive, or one without a manifest in front.
pub fn split(bundle: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
    let bad = |reason| ExportError::Bundle { reason };
    if bundle.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(bad("larger than 2 GiB"));
    }
    let mut entries = Vec::new();
    for entry in tar::Archive::new(bundle).entries().map_err(|_| bad("not an archive"))? {
        let mut entry = entry.map_err(|_| bad("a broken archive"))?;
        let name = entry
            .path()
            .ok()
            .and_then(|p| p.to_str().map(str::to_owned))
            .ok_or(bad("a name that is no text"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|_| bad("a part that is cut off"))?;
        entries.push((name, bytes));
    }
    match entries.first() {
        Some((name, _)) if name == MANIFEST => Ok(entries),
        _ => Err(bad("no manifest.json in front")),
    }
}

/// What a box that has the bundle `old` still needs of `new`: its manifest, its signatures, and the parts whose SHA-256
/// `old` does not list. Whether the parts are those of the manifests is for `locus-engine` to check first.
///
/// # Errors
/// Not bundles, or a manifest that is none.
pub fn delta(old: &[u8], new: &[u8]) -> Result<Vec<u8>, ExportError> {
    let (old, new) = (split(old)?, split(new)?);
    let (old_manifest, manifest) = (Manifest::from_json(&old[0].1)?, Manifest::from_json(&new[0].1)?);
    let there: BTreeSet<&str> = old_manifest.parts.iter().map(|part| part.sha256.as_str()).collect();
    let left_out: BTreeSet<&str> = manifest
        .parts
        .iter()
        .filter(|part| there.contains(part.sha256.as_str()))
        .map(|part| part.name.as_str())
        .collect();
    let info = serde_json::json!({ "format": 1, "from": digest(&old[0].1) });
    let mut entries = vec![("delta.json".to_owned(), info.to_string().into_bytes())];
    entries.extend(new.into_iter().filter(|(name, _)| !left_out.contains(name.as_str())));
    archive(&entries)
}

/// Adds a signature over the bundle's digest, or renews that of the same key; the digest stays as it is. Whether the
/// parts are those of the manifest is for `locus-engine` to check first.
///
/// # Errors
/// Not a bundle, a manifest that is none, an accuracy contract that is not kept, or as many signatures of other keys as a bundle may have.
pub fn sign(bundle: &[u8], key: &SigningKey) -> Result<Vec<u8>, ExportError> {
    let mut entries = split(bundle)?;
    if let Some(reason) = Manifest::from_json(&entries[0].1)?.contract.exceeded() {
        return Err(ExportError::Contract { reason });
    }
    let hash: [u8; 32] = Sha256::digest(&entries[0].1).into();
    debug_assert_eq!(hex::encode(hash), digest(&entries[0].1));
    let before = entries.iter().position(|(n, _)| n == SIGNATURES).map(|at| entries.remove(at).1);
    let bytes = signed_by(before.as_deref(), &hash, key)?;
    entries.insert(1, (SIGNATURES.to_owned(), bytes));
    archive(&entries)
}

/// `signatures.json` with the signature of a key over a digest, beside those that are there.
pub(crate) fn signed_by(
    before: Option<&[u8]>,
    hash: &[u8; 32],
    key: &SigningKey,
) -> Result<Vec<u8>, ExportError> {
    let mut signatures = match before {
        Some(bytes) => serde_json::from_slice(bytes)
            .map_err(|_| ExportError::Bundle { reason: "signatures.json cannot be read" })?,
        None => Signatures { signatures: Vec::new() },
    };
    let id = key_id(key.verifying_key().as_bytes());
    signatures.signatures.retain(|s| s.key_id != id);
    if signatures.signatures.len() >= MAX_SIGNATURES {
        return Err(ExportError::TooManySignatures);
    }
    let signature = hex::encode(key.sign(&signing_message(hash)).to_bytes());
    signatures.signatures.push(Signature { key_id: id, algorithm: "ed25519".into(), signature });
    Ok(serde_json::to_vec_pretty(&signatures).expect("texts serialise"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: usize) -> SigningKey {
        SigningKey::from_bytes(&[seed as u8; 32])
    }

    fn signers(bundle: &[u8]) -> Vec<String> {
        let entries = split(bundle).unwrap();
        let file: Signatures = serde_json::from_slice(&entries[1].1).unwrap();
        file.signatures.into_iter().map(|s| s.key_id).collect()
    }

    #[test]
    fn parts_lie_in_one_order_and_only_those_that_the_format_knows() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/variant-effect.locus");
        let bytes = std::fs::read(shipped).unwrap();
        let mut entries = split(&bytes).unwrap();
        let manifest = Manifest::from_json(&entries.remove(0).1).unwrap();
        let builder = || BundleBuilder::new(manifest.clone());
        let backwards = entries.iter().rev().fold(builder(), |b, (n, part)| b.part(n, part.clone()).unwrap());
        assert!(backwards.build().unwrap() == bytes, "the same parts give the same bytes");
        assert!(builder().part("run.sh", vec![]).is_err());
        assert!(builder().part("fp32.onnx", vec![]).unwrap().part("fp32.onnx", vec![]).is_err());
        assert!(split(b"no archive").is_err() && split(&bytes[512..]).is_err());
    }

    #[test]
    fn a_bundle_takes_sixteen_signatures_and_a_renewed_one_but_no_seventeenth() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/variant-effect.locus");
        let unsigned = std::fs::read(shipped).unwrap();
        let mut bundle = unsigned.clone();
        for seed in 1..=MAX_SIGNATURES {
            bundle = sign(&bundle, &key(seed)).unwrap();
        }
        assert_eq!(signers(&bundle).len(), MAX_SIGNATURES);
        assert_eq!(signers(&sign(&bundle, &key(1)).unwrap()).len(), MAX_SIGNATURES);
        assert!(matches!(sign(&bundle, &key(99)), Err(ExportError::TooManySignatures)));
        let parts = |bundle: &[u8]| split(bundle).unwrap().into_iter().filter(|(name, _)| name != SIGNATURES);
        assert!(parts(&bundle).eq(parts(&unsigned)), "nothing else changes");
    }
}
