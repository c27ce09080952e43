//! Bundles that must not be flashed, one way to be wrong each.

mod archives;
mod deltas;
mod graphs;
mod manifests;
mod signatures;

use std::path::Path;

use anyhow::{Context, Result};
use ed25519_dalek::{
    Signer, SigningKey,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, spki::der::pem::LineEnding},
};
use locus_firmware_config::{
    manifest::{Signature, Signatures, key_id, signing_message},
    trust::{FORMAT, Role, SignedTrust, TrustDocument},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::root;

/// Seeds of the keys: two of the first three have to sign, the fourth is revoked, the fifth is the root's.
pub const SIGNING: [u8; 3] = [1, 2, 3];
/// The revoked one.
pub const REVOKED: u8 = 4;
/// The root.
pub const ROOT: u8 = 5;
/// A key that nobody trusts.
pub const STRANGER: u8 = 9;
/// The floor of the box that these bundles are shown to.
pub const FLOOR: u64 = 5;

/// One bad bundle.
pub struct Kind {
    /// What is wrong with it.
    pub name: &'static str,
    /// What the refusal has to say.
    pub reason: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Length of the file, where it is sparse: longer than its bytes.
    pub length: Option<u64>,
}

impl Kind {
    fn new(name: &'static str, reason: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, reason, bytes, length: None }
    }
}

/// A key from its seed.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The private half in PEM.
pub fn private_pem(key: &SigningKey) -> String {
    key.to_pkcs8_pem(LineEnding::LF).expect("a key has a PEM form").to_string()
}

/// The public half in PEM.
pub fn public_pem(key: &SigningKey) -> String {
    key.verifying_key().to_public_key_pem(LineEnding::LF).expect("a key has a PEM form")
}

/// The id of a key.
pub fn id(seed: u8) -> String {
    key_id(key(seed).verifying_key().as_bytes())
}

/// The trust document of the box.
pub fn trust(issued: &str, expires: &str) -> Vec<u8> {
    let hex = |seed: u8| (id(seed), hex::encode(key(seed).verifying_key().as_bytes()));
    let document = TrustDocument {
        format: FORMAT,
        version: 1,
        issued: issued.into(),
        expires: expires.into(),
        keys: SIGNING.into_iter().chain([ROOT]).map(hex).collect(),
        root: Role { keys: vec![id(ROOT)], threshold: 1 },
        signing: Role { keys: SIGNING.map(id).to_vec(), threshold: 2 },
        revoked: vec![id(REVOKED)],
    };
    let signature = hex::encode(key(ROOT).sign(&document.signing_message()).to_bytes());
    let signatures = vec![Signature { key_id: id(ROOT), algorithm: "ed25519".into(), signature }];
    SignedTrust { trust: document, signatures }.to_json()
}

/// A bundle in pieces, to be put together rightly or wrongly.
#[derive(Clone)]
pub struct Draft {
    /// `manifest.json`.
    pub manifest: Value,
    /// The parts in order.
    pub parts: Vec<(String, Vec<u8>)>,
    /// Who signs.
    pub signers: Vec<u8>,
}

impl Draft {
    /// The shipped model, at the floor of the box and rightly signed.
    ///
    /// # Errors
    /// The shipped bundle cannot be read.
    pub fn shipped() -> Result<Self> {
        let bytes = std::fs::read(root().join("models/variant-effect.locus"))?;
        let mut parts = locus_export::split(&bytes)?;
        let mut manifest: Value = serde_json::from_slice(&parts.remove(0).1)?;
        manifest["security_counter"] = FLOOR.into();
        manifest["name"] = "malicious".into();
        let mut draft = Self { manifest, parts, signers: vec![1, 2] };
        draft.list();
        Ok(draft)
    }

    /// The same with graphs of a few bytes, for what has to be refused before they are looked at.
    ///
    /// # Errors
    /// As [`Draft::shipped`].
    fn small() -> Result<Self> {
        let mut draft = Self::shipped()?;
        for (name, bytes) in &mut draft.parts {
            if name.ends_with(".onnx") {
                *bytes = format!("graph {name}").into_bytes();
            }
        }
        draft.list();
        Ok(draft)
    }

    /// The bundle, as its signers have signed it.
    pub fn signed_bundle(&self) -> Vec<u8> {
        self.bytes()
    }

    fn part(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.parts.iter_mut().find(|(part, _)| part == name).expect("a shipped part").1
    }

    /// Writes sizes and digests of the parts into the manifest.
    fn list(&mut self) {
        let list = self.parts.iter().map(|(name, bytes)| {
            serde_json::json!({"name": name, "size": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))})
        });
        self.manifest["parts"] = list.collect();
    }

    fn entries(&self) -> Vec<(String, Vec<u8>)> {
        self.entries_around(serde_json::to_vec_pretty(&self.manifest).expect("a value serialises"))
    }

    fn entries_around(&self, manifest: Vec<u8>) -> Vec<(String, Vec<u8>)> {
        let message = signing_message(&Sha256::digest(&manifest).into());
        let signatures = self.signers.iter().map(|seed| signature(*seed, &message)).collect();
        let mut entries = vec![("manifest.json".to_owned(), manifest)];
        if !self.signers.is_empty() {
            entries.push(("signatures.json".into(), signatures_json(signatures)));
        }
        entries.extend(self.parts.iter().cloned());
        entries
    }

    fn bytes(&self) -> Vec<u8> {
        archive(&self.entries())
    }
}

fn signature(seed: u8, message: &[u8]) -> Signature {
    let signature = hex::encode(key(seed).sign(message).to_bytes());
    Signature { key_id: id(seed), algorithm: "ed25519".into(), signature }
}

fn signatures_json(signatures: Vec<Signature>) -> Vec<u8> {
    serde_json::to_vec(&Signatures { signatures }).expect("texts serialise")
}

fn header(name: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

fn push(archive: &mut Vec<u8>, header: &tar::Header, content: &[u8]) {
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in entries {
        push(&mut bytes, &header(name.as_bytes(), content.len() as u64), content);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Every kind. Each is right but for one thing.
///
/// # Errors
/// The shipped bundle cannot be read.
pub fn kinds() -> Result<Vec<Kind>> {
    let (small, shipped) = (Draft::small()?, Draft::shipped()?);
    Ok([
        signatures::kinds(&small),
        archives::kinds(&small),
        deltas::kinds(&small),
        manifests::kinds(&small),
        graphs::kinds(&shipped),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Writes a bad bundle to a file.
///
/// # Errors
/// The file cannot be written.
pub fn write(kind: &Kind, path: &Path) -> Result<()> {
    std::fs::write(path, &kind.bytes)?;
    if let Some(length) = kind.length {
        std::fs::File::options().write(true).open(path)?.set_len(length).context("a sparse file")?;
    }
    Ok(())
}
