//! The ONNX graphs of one model and the contract that sessions hold them to.

use std::sync::Arc;

use crate::session::{ActivePrecision, EngineKind, SessionError, SessionSpec};
use crate::{Bundle, Error};

/// Name of the float32 input `[rows, n_features]`.
pub const FEATURES_INPUT: &str = "features";
/// Name of the float32 output `[rows, labels]`.
pub const LOGITS_OUTPUT: &str = "logits";
/// Names of the int64 inputs `[rows, tokens]`.
pub const TOKEN_INPUTS: [&str; 6] = ["ref_ids", "alt_ids", "ref_track", "alt_track", "ref_mask", "alt_mask"];

/// Graphs and contract of a model, from a bundle or, before there is one, from an exporter.
#[derive(Debug, Clone)]
pub struct Graphs {
    /// `fp32.onnx`.
    pub fp32: Option<Arc<[u8]>>,
    /// `int8.onnx`: Q/DQ with signed activations.
    pub int8: Option<Arc<[u8]>>,
    /// Why INT8 may not be chosen by itself: its accuracy contract is not kept.
    pub int8_refused: Option<String>,
    /// Digest of the bundle, or any name that differs when the graphs do; the key of engine caches.
    pub digest: String,
    /// Lengths in tokens to prepare.
    pub buckets: Vec<u32>,
    /// Rows per batch at most.
    pub max_batch: u32,
    /// Logits per row.
    pub labels: u32,
    /// Features per row.
    pub n_features: u32,
}

impl Graphs {
    /// The graphs of a verified bundle.
    ///
    /// # Errors
    /// None today; later formats may hold graphs that this engine cannot name.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, Error> {
        let manifest = bundle.manifest();
        let mut buckets = manifest.graph.buckets.clone();
        buckets.sort_unstable();
        buckets.dedup();
        Ok(Self {
            fp32: bundle.part("fp32.onnx"),
            int8: bundle.part("int8.onnx"),
            int8_refused: over_budget(&manifest.contract),
            digest: bundle.digest().to_owned(),
            buckets,
            max_batch: manifest.graph.max_batch,
            labels: manifest.labels.len() as u32,
            n_features: manifest.graph.features.len() as u32,
        })
    }

    /// What a session over these graphs reports.
    pub(crate) fn spec(
        &self,
        engine: EngineKind,
        provider: &str,
        runtime: &str,
        precision: ActivePrecision,
        note: Option<String>,
    ) -> SessionSpec {
        SessionSpec {
            engine,
            provider: provider.to_owned(),
            runtime: runtime.to_owned(),
            precision,
            note,
            buckets: self.buckets.clone(),
            max_batch: self.max_batch,
            labels: self.labels,
            n_features: self.n_features,
        }
    }

    /// Checks the names of a graph's inputs against the contract: each one known, each one there once.
    pub(crate) fn check_inputs<'a>(
        &self,
        engine: EngineKind,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<(), SessionError> {
        let mut got: Vec<&str> = names.collect();
        got.sort_unstable();
        let mut expected = [&TOKEN_INPUTS[..], &[FEATURES_INPUT]].concat();
        expected.sort_unstable();
        if got == expected {
            return Ok(());
        }
        let shown = got.iter().take(12).map(|name| name.chars().take(40).collect::<String>());
        let got = format!("the inputs {}", shown.collect::<Vec<_>>().join(", "));
        Err(SessionError::Contract { engine, got, expected: expected.join(", ") })
    }
}

fn over_budget(contract: &locus_firmware_config::manifest::AccuracyContract) -> Option<String> {
    let difference = contract.difference.get(&contract.metric)?;
    (difference.abs() > contract.budget).then(|| {
        format!(
            "INT8 differs from FP32 by {difference:.4} {}, over the budget of {:.4}",
            contract.metric, contract.budget
        )
    })
}

#[cfg(test)]
impl Graphs {
    pub(crate) fn for_tests(
        fp32: Option<Vec<u8>>,
        int8: Option<Vec<u8>>,
        buckets: &[u32],
        max_batch: u32,
        labels: u32,
        n_features: u32,
    ) -> Self {
        Self {
            fp32: fp32.map(Arc::from),
            int8: int8.map(Arc::from),
            int8_refused: None,
            digest: "test".into(),
            buckets: buckets.to_vec(),
            max_batch,
            labels,
            n_features,
        }
    }
}
