//! Whose models are taken, how they run, and what they are asked about.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problem;

/// Whose models are taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Ed25519 public keys (SPKI PEM), the signature of any of which is enough.
    #[serde(default)]
    pub trusted_keys: Vec<PathBuf>,
    /// Instead of them the first trust document: roles, thresholds, expiry. The box keeps it and moves forward from there.
    pub trust: Option<PathBuf>,
    /// Answers that a flashed model gives on trial before it is confirmed by itself; 0 confirms it once it has passed its
    /// self-test in the thread that serves.
    #[serde(default)]
    pub confirm_after: u32,
    /// Whether a trial waits for `locusctl confirm` instead.
    #[serde(default)]
    pub confirm_by_hand: bool,
    /// A folder in which new bundles are flashed by themselves, such as that of a stick.
    pub watch: Option<PathBuf>,
    /// Most bytes that the bundles of all models that serve have together.
    #[serde(default = "default_memory")]
    pub memory_bytes: u64,
}

fn default_memory() -> u64 {
    crate::slots::MAX_SERVED_BYTES
}

/// How models run here; what is absent is the profile's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Engines in the order to try them.
    pub order: Vec<String>,
    /// `auto`, `fp32` or `int8`.
    pub precision: Option<String>,
    /// Cores that a model may use.
    pub intra_threads: Option<u32>,
    /// The ONNX Runtime library.
    pub onnxruntime: Option<PathBuf>,
}

/// The genome that `variant` requests are read on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Bases.
    pub fasta: PathBuf,
    /// Transcripts.
    pub gff: PathBuf,
    /// Assembly that both are of.
    #[serde(default = "default_assembly")]
    pub assembly: String,
}

fn default_assembly() -> String {
    "GRCh38".into()
}

impl Models {
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.trusted_keys.iter_mut().chain(&mut self.trust).chain(&mut self.watch)
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let got = if self.trust.is_some() { "keys beside models.trust" } else { "[]" };
        (self.trusted_keys.is_empty() != self.trust.is_some()).then(|| Problem {
            field: "models.trusted_keys",
            got: got.into(),
            expected: "at least one public key, or models.trust instead",
        })
    }
}

impl Reference {
    pub(super) fn paths(&mut self) -> [&mut PathBuf; 2] {
        [&mut self.fasta, &mut self.gff]
    }
}
