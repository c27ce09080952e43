//! `manifest.json` of a bundle: what the model is, what it is for, and what every other part must be.

mod measured;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use measured::{
    AccuracyContract, Borders, EvidenceStep, ModeCalibration, ProbabilityModel, SequenceCalibration,
};

/// The format that this code writes and reads.
pub const FORMAT: u32 = 1;
/// Largest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Largest bundle, in bytes.
pub const MAX_BUNDLE_BYTES: u64 = 2 << 30;
/// Most signatures in one bundle.
pub const MAX_SIGNATURES: usize = 16;
/// What a signature covers is this, then the 32 bytes of the digest.
pub const SIGNING_CONTEXT: &[u8] = b"locus-bundle-v1\0";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Larger than any manifest.
    #[error("got a manifest of {got} bytes, expected at most {MAX_MANIFEST_BYTES}")]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// Not JSON of this shape.
    #[error("got a manifest that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("got manifest format {got}, expected {FORMAT}; use the version of Locus that made the bundle")]
    Format {
        /// Its format.
        got: u32,
    },
    /// A field that contradicts what the format says.
    #[error("got {field} = {got}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// Is a variant pathogenic?
    VariantEffect,
    /// Which of the labels is a sequence?
    SequenceClassification,
    /// How much of the one label has a sequence?
    SequenceRegression,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::VariantEffect => "variant-effect",
            Self::SequenceClassification => "sequence-classification",
            Self::SequenceRegression => "sequence-regression",
        })
    }
}

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of this file.
    pub format: u32,
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: semver::Version,
    /// Never lower than a device's floor: what goes back for safety's sake is counted here.
    pub security_counter: u64,
    /// Oldest box software that runs it.
    pub min_edge_version: semver::Version,
    /// What it does.
    pub task: Task,
    /// Names of the outputs.
    pub labels: Vec<String>,
    /// What it was trained for.
    pub scope: Scope,
    /// Inputs and outputs of the graphs.
    pub graph: GraphContract,
    /// How bases become token ids.
    pub tokenizer: TokenizerInfo,
    /// How a logit becomes a probability and a band.
    pub probability: ProbabilityModel,
    /// What quantisation cost.
    pub contract: AccuracyContract,
    /// Vectors that prove a device.
    pub golden: Golden,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// Every other part but the signatures.
    pub parts: Vec<Part>,
}

/// One file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// File name without folder.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What a model was trained for; outside it a box abstains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// `snv`, `indel` (small insertions, deletions and replacements of several bases); the alphabet of a sequence model.
    pub kinds: Vec<String>,
    /// Fewest known bases in a window; fewest letters of a sequence.
    pub min_bases: u32,
    /// Most.
    pub max_bases: u32,
    /// `transcript`, `sequence_only`.
    pub modes: Vec<String>,
    /// Sequence Ontology terms; none = all.
    pub consequences: Option<Vec<String>>,
    /// Genome assembly of the training data; empty where there is none.
    pub assembly: String,
    /// Of a sequence model: most letters in a hundred that may stand for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ambiguous_percent: Option<u32>,
    /// Of a sequence model: the sequence whose single letters its sequences change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wild_type: Option<String>,
}

/// Inputs and outputs of the graphs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphContract {
    /// Inputs in order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in order.
    pub outputs: Vec<TensorSpec>,
    /// Names of the features in order.
    pub features: Vec<String>,
    /// Row lengths that sessions prepare, in tokens.
    pub buckets: Vec<u32>,
    /// Longest row in training, in tokens.
    pub max_tokens: u32,
    /// Most rows in one batch.
    pub max_batch: u32,
}

/// A named tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// `int64` or `float32`.
    pub dtype: String,
    /// Numbers, or names of dimensions.
    pub shape: Vec<String>,
}

/// How bases become token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerInfo {
    /// Bases per token.
    pub kmer: u32,
    /// Bases from token to token.
    pub stride: u32,
    /// Token ids.
    pub vocab_size: u32,
    /// Most k-mers in a window; most tokens of a sequence.
    pub window_kmers: u32,
    /// Of a sequence model: the track of a token is 1 + its offset modulo this; absent where the track is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// SHA-256 of `tokenizer.json` in hex.
    pub fingerprint: String,
}

/// The vectors that a device must reproduce before it serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The part that holds them.
    pub part: String,
    /// How many.
    pub count: u32,
    /// Largest logit difference in FP32.
    pub tolerance_fp32: f64,
    /// Largest logit difference in INT8.
    pub tolerance_int8: f64,
}

/// One golden vector; rows are not padded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenVector {
    /// Token ids of the reference row.
    pub ref_ids: Vec<i64>,
    /// Token ids of the alternate row.
    pub alt_ids: Vec<i64>,
    /// Track codes of both.
    pub track: Vec<i64>,
    /// Features.
    pub features: Vec<f32>,
    /// Logits of `fp32.onnx`.
    pub logits_fp32: Vec<f32>,
    /// Logits of `int8.onnx`.
    pub logits_int8: Vec<f32>,
}

/// One golden vector of a sequence model; rows are not padded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSequence {
    /// Token ids.
    pub ids: Vec<i64>,
    /// Track codes.
    pub track: Vec<i64>,
    /// Logits of `fp32.onnx`.
    pub logits_fp32: Vec<f32>,
    /// Logits of `int8.onnx`.
    pub logits_int8: Vec<f32>,
}

/// Where the model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// SHA-256 of each data file, in hex.
    pub data: BTreeMap<String, String>,
    /// SHA-256 of the recipe, in hex.
    pub recipe_sha256: String,
    /// Seed of the run.
    pub seed: u64,
    /// Commit of the code, where known.
    pub source: Option<String>,
    /// Date of the run, `YYYY-MM-DD`.
    pub created: String,
}

/// `signatures.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    /// 1 to [`MAX_SIGNATURES`], one by each key.
    pub signatures: Vec<Signature>,
}

/// One signature over the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// First 16 hex digits of the SHA-256 of the public key.
    pub key_id: String,
    /// `ed25519`.
    pub algorithm: String,
    /// 64 bytes in hex.
    pub signature: String,
}

/// The digest of a bundle: SHA-256 of the bytes of `manifest.json`, in hex.
pub fn digest(manifest_bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(manifest_bytes))
}

/// Whether a text is `digits` hex digits in lower case, the only form that is written and compared.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a signature covers.
pub fn signing_message(digest: &[u8; 32]) -> Vec<u8> {
    [SIGNING_CONTEXT, digest].concat()
}

/// The short name of a public key.
pub fn key_id(public_key: &[u8; 32]) -> String {
    hex::encode(Sha256::digest(public_key))[..16].to_owned()
}

impl Manifest {
    /// The bytes of `manifest.json`: the same every time.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { got: bytes.len() });
        }
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.format != FORMAT {
            return Err(ManifestError::Format { got: head.format });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |field, got: &str, expected| {
            Err(ManifestError::Field { field, got: got.chars().take(64).collect(), expected })
        };
        if self.name.is_empty()
            || self.name.len() > 64
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return wrong("name", &self.name, "1 to 64 letters, digits, dots, hyphens and underscores");
        }
        let mut names = BTreeSet::new();
        for part in &self.parts {
            let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if part.name.is_empty()
                || part.name.len() > 64
                || part.name.starts_with('.')
                || !part.name.bytes().all(good)
            {
                return wrong("parts[].name", &part.name, "a plain file name");
            }
            if part.name == "manifest.json" || part.name == "signatures.json" || !names.insert(&part.name) {
                return wrong("parts[].name", &part.name, "each other part once");
            }
            if !is_hex(&part.sha256, 64) {
                return wrong("parts[].sha256", &part.sha256, "64 hex digits in lower case");
            }
        }
        let numbers = self.probability.modes.values().flat_map(|m| {
            [
                m.temperature,
                m.offset,
                m.prior,
                m.benign_below,
                m.pathogenic_above,
                m.answered_accuracy,
                m.answered_share,
                m.lr_pathogenic,
                m.lr_benign,
            ]
        });
        let borders = self.probability.modes.values().filter_map(|m| m.missense.as_ref()).flat_map(|m| {
            [
                m.benign_below,
                m.pathogenic_above,
                m.answered_accuracy,
                m.answered_share,
                m.lr_pathogenic,
                m.lr_benign,
            ]
        });
        let steps = self.probability.modes.values().flat_map(|m| &m.evidence);
        for step in steps.clone() {
            let known = ["supporting", "moderate", "strong", "very strong"].contains(&step.strength.as_str());
            if !known || !["PP3", "BP4"].contains(&step.criterion.as_str()) || step.likelihood_ratio <= 0.0 {
                return wrong(
                    "evidence[]",
                    &step.strength,
                    "a step of PP3 or BP4 with a likelihood ratio above 0",
                );
            }
        }
        let steps = steps.flat_map(|step| [step.likelihood_ratio, step.from]);
        let numbers = numbers.chain(borders).chain(steps);
        let sequence: Vec<f64> = match &self.probability.sequence {
            None => Vec::new(),
            Some(SequenceCalibration::Classes { temperature, offsets, prior }) => {
                [*temperature].iter().chain(offsets).chain(prior).copied().collect()
            }
            Some(SequenceCalibration::Value { mean, deviation }) => vec![*mean, *deviation],
        };
        let contract = [&self.contract.fp32, &self.contract.int8, &self.contract.difference];
        let numbers = numbers.chain(sequence).chain(contract.into_iter().flat_map(|m| m.values().copied()));
        let flips = self.contract.flips.into_iter().chain(self.contract.flips_budget);
        let others = [self.contract.budget, self.golden.tolerance_fp32, self.golden.tolerance_int8];
        for n in numbers.chain(flips).chain(others) {
            if !n.is_finite() {
                return wrong("a number", &n.to_string(), "a finite one");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
