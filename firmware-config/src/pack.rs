//! `manifest.json` of a reference pack, which lies in the same archive as that of a model and is signed the same way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::{MAX_MANIFEST_BYTES, ManifestError, Part, is_hex};

/// The format that this code writes and reads.
pub const PACK_FORMAT: u32 = 1;
/// What a pack's manifest says of itself; a model's says nothing of the kind.
pub const KIND: &str = "reference_pack";
/// The name of the slots that a box keeps packs in: it reads one genome.
pub const PACK_SLOTS: &str = "reference";
/// Largest pack, in bytes.
pub const MAX_PACK_BYTES: u64 = 16 << 30;

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackManifest {
    /// [`KIND`].
    pub kind: String,
    /// Format of this file.
    pub format: u32,
    /// Name of the pack.
    pub name: String,
    /// Version of the pack.
    pub version: semver::Version,
    /// Never lower than a device's floor.
    pub security_counter: u64,
    /// Oldest box software that reads it.
    pub min_edge_version: semver::Version,
    /// Assembly of bases and transcripts, such as `GRCh38`.
    pub assembly: String,
    /// Records of the FASTA file.
    pub records: u64,
    /// Letters of all of them.
    pub bases: u64,
    /// Transcripts.
    pub transcripts: u64,
    /// Their genes.
    pub genes: u64,
    /// SHA-256 of each file that it was made of, in hex.
    pub sources: BTreeMap<String, String>,
    /// Date, `YYYY-MM-DD`.
    pub created: String,
    /// Every other part but the signatures.
    pub parts: Vec<Part>,
}

impl PackManifest {
    /// The bytes of `manifest.json`: the same every time.
    ///
    /// # Errors
    /// A manifest that contradicts itself.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Whether a manifest is that of a pack. Says nothing of what it is worth.
    pub fn is_one(bytes: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
        }
        bytes.len() <= MAX_MANIFEST_BYTES
            && serde_json::from_slice::<Head>(bytes).is_ok_and(|head| head.kind == KIND)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { got: bytes.len() });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.format != PACK_FORMAT {
            return Err(ManifestError::Format { got: manifest.format });
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |field, got: &str, expected| {
            Err(ManifestError::Field { field, got: got.chars().take(64).collect(), expected })
        };
        let plain = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if self.kind != KIND {
            return wrong("kind", &self.kind, KIND);
        }
        for (field, text) in [("name", &self.name), ("assembly", &self.assembly)] {
            if !plain(text) {
                return wrong(field, text, "1 to 64 letters, digits, dots, hyphens and underscores");
            }
        }
        for part in &self.parts {
            if !plain(&part.name) || !is_hex(&part.sha256, 64) {
                return wrong("parts[]", &part.name, "a plain file name with 64 hex digits in lower case");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn manifest() -> PackManifest {
        PackManifest {
            kind: KIND.into(),
            format: PACK_FORMAT,
            name: "panel".into(),
            version: semver::Version::new(1, 0, 0),
            security_counter: 1,
            min_edge_version: semver::Version::new(0, 1, 0),
            assembly: "GRCh38".into(),
            records: 1,
            bases: 2,
            transcripts: 3,
            genes: 1,
            sources: BTreeMap::new(),
            created: "2026-01-01".into(),
            parts: vec![Part { name: "bases.2bit".into(), size: 1, sha256: "a".repeat(64) }],
        }
    }

    #[test]
    fn a_pack_is_never_read_as_a_model_nor_a_model_as_a_pack() {
        let bytes = manifest().to_json().unwrap();
        assert_eq!(PackManifest::from_json(&bytes).unwrap(), manifest());
        assert!(PackManifest::is_one(&bytes) && Manifest::from_json(&bytes).is_err());
        let model = crate::manifest::tests::manifest().to_json().unwrap();
        assert!(!PackManifest::is_one(&model) && PackManifest::from_json(&model).is_err());
    }

    #[test]
    fn names_that_reach_a_file_or_a_log_are_plain() {
        for (n, change) in [
            (|m: &mut PackManifest| m.name = "../x".into()) as fn(&mut PackManifest),
            |m| m.assembly.clear(),
            |m| m.kind = "model".into(),
            |m| m.parts[0].sha256 = "A".repeat(64),
        ]
        .into_iter()
        .enumerate()
        {
            let mut m = manifest();
            change(&mut m);
            assert!(m.to_json().is_err(), "{n}");
        }
    }
}
