//! The ONNX graphs of one model and the contract that sessions hold them to.

use std::sync::Arc;

use locus_firmware_config::manifest::{Task, TensorSpec};
use sha2::{Digest, Sha256};

use crate::session::{ActivePrecision, EngineKind, SessionError, SessionSpec};
use crate::{Bundle, BundleError, Error, RewriteError, inspect};

/// Name of the float32 input `[rows, n_features]`.
pub const FEATURES_INPUT: &str = "features";
/// Name of the float32 output `[rows, labels]`.
pub const LOGITS_OUTPUT: &str = "logits";
/// Names of the int64 inputs `[rows, tokens]` of a variant-effect model.
pub const TOKEN_INPUTS: [&str; 6] = ["ref_ids", "alt_ids", "ref_track", "alt_track", "ref_mask", "alt_mask"];
/// Names of the inputs of a sequence model, all int64 `[rows, tokens]`.
pub const SEQUENCE_INPUTS: [&str; 3] = ["ids", "track", "mask"];

/// The outputs of a variant-effect model. Its one logit is read as evidence for this label, so that no other
/// label, and no other order, can be answered.
pub const LABELS: [&str; 1] = ["pathogenic"];

/// What a row of a graph is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Inputs {
    /// Reference and alternate window of a variant, with its features.
    #[default]
    Pair,
    /// One sequence.
    Sequence,
}

impl Inputs {
    /// What the models of a task read.
    pub const fn of(task: Task) -> Self {
        match task {
            Task::VariantEffect => Self::Pair,
            _ => Self::Sequence,
        }
    }

    /// Names of the int64 inputs.
    pub const fn tokens(self) -> &'static [&'static str] {
        match self {
            Self::Pair => &TOKEN_INPUTS,
            Self::Sequence => &SEQUENCE_INPUTS,
        }
    }

    /// Whether there is a float32 input [`FEATURES_INPUT`].
    pub const fn has_features(self) -> bool {
        matches!(self, Self::Pair)
    }

    /// Names of all inputs.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.tokens().iter().copied().chain(self.has_features().then_some(FEATURES_INPUT))
    }
}

/// Inputs and outputs of a graph: what the engine feeds and reads, as a manifest lists it.
pub fn tensors(reads: Inputs, n_features: usize, labels: usize) -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let tensor = |name: &str, dtype: &str, last: String| TensorSpec {
        name: name.into(),
        dtype: dtype.into(),
        shape: vec!["batch".into(), last],
    };
    let mut inputs: Vec<TensorSpec> =
        reads.tokens().iter().map(|name| tensor(name, "int64", "tokens".into())).collect();
    if reads.has_features() {
        inputs.push(tensor(FEATURES_INPUT, "float32", n_features.to_string()));
    }
    (inputs, vec![tensor(LOGITS_OUTPUT, "float32", labels.to_string())])
}

/// Graphs and contract of a model, from a bundle or, before there is one, from an exporter.
#[derive(Debug, Clone)]
pub struct Graphs {
    /// What a row is.
    pub inputs: Inputs,
    /// `fp32.onnx`.
    pub fp32: Option<Arc<[u8]>>,
    /// `int8.onnx`: Q/DQ with signed activations.
    pub int8: Option<Arc<[u8]>>,
    /// `int8-fp16.onnx`: the same, the rest in half precision.
    pub int8_fp16: Option<Arc<[u8]>>,
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
    /// Size of the largest graph, in bytes.
    pub(crate) fn largest(&self) -> usize {
        let graphs = [&self.fp32, &self.int8, &self.int8_fp16];
        graphs.into_iter().flatten().map(|onnx| onnx.len()).max().unwrap_or(0)
    }

    /// The graphs of a verified bundle.
    ///
    /// # Errors
    /// [`BundleError::Graph`] where a graph is not self-contained, or asks for more than it brings.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, Error> {
        let manifest = bundle.manifest();
        for part in manifest.parts.iter().filter(|part| part.name.ends_with(".onnx")) {
            let onnx = bundle.part(&part.name).unwrap_or_default();
            let refused = |source| BundleError::Graph { name: part.name.clone(), source };
            inspect::self_contained(&onnx).and_then(|()| inspect::bounded(&onnx)).map_err(refused)?;
            if part.name == "fp32.onnx"
                && let Some(operator) =
                    inspect::quantised_operators(&onnx).map_err(refused)?.into_iter().next()
            {
                return Err(refused(RewriteError::Quantised { operator }).into());
            }
        }
        let mut buckets = manifest.graph.buckets.clone();
        buckets.sort_unstable();
        buckets.dedup();
        Ok(Self {
            inputs: Inputs::of(manifest.task),
            fp32: bundle.part("fp32.onnx"),
            int8: bundle.part("int8.onnx"),
            int8_fp16: bundle.part("int8-fp16.onnx"),
            int8_refused: manifest.contract.exceeded(),
            digest: bundle.digest().to_owned(),
            buckets,
            max_batch: manifest.graph.max_batch,
            labels: manifest.labels.len() as u32,
            n_features: manifest.graph.features.len() as u32,
        })
    }

    /// Graphs that are in no bundle yet, for exporters that check what they wrote. The digest is that of the bytes.
    pub fn from_onnx(
        fp32: Option<Vec<u8>>,
        int8: Option<Vec<u8>>,
        buckets: &[u32],
        max_batch: u32,
        labels: u32,
        n_features: u32,
    ) -> Self {
        let mut digest = Sha256::new();
        for onnx in [&fp32, &int8] {
            digest.update(onnx.as_ref().map_or(0, Vec::len).to_le_bytes());
            digest.update(onnx.as_deref().unwrap_or_default());
        }
        let mut buckets = buckets.to_vec();
        buckets.sort_unstable();
        buckets.dedup();
        Self {
            inputs: Inputs::Pair,
            fp32: fp32.map(Arc::from),
            int8: int8.map(Arc::from),
            int8_fp16: None,
            int8_refused: None,
            digest: hex::encode(digest.finalize()),
            buckets,
            max_batch,
            labels,
            n_features,
        }
    }

    /// The same graphs, whose rows are `inputs` instead of pairs.
    #[must_use]
    pub fn reading(self, inputs: Inputs) -> Self {
        Self { inputs, ..self }
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
            inputs: self.inputs,
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
        let mut expected: Vec<&str> = self.inputs.names().collect();
        expected.sort_unstable();
        if got == expected {
            return Ok(());
        }
        let shown = got.iter().take(12).map(|name| name.chars().take(40).collect::<String>());
        let got = format!("the inputs {}", shown.collect::<Vec<_>>().join(", "));
        Err(SessionError::Contract { engine, got, expected: expected.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_those_of_the_contract() {
        let graphs = Graphs::from_onnx(None, None, &[64, 32, 64], 1, 1, 1);
        assert_eq!(graphs.buckets, [32, 64]);
        let all = [&TOKEN_INPUTS[..], &[FEATURES_INPUT]].concat();
        let check = |names: &[&str]| graphs.check_inputs(EngineKind::Tract, names.iter().copied()).is_ok();
        assert!(check(&all));
        assert!(!check(&all[1..]));
        assert!(!check(&[&all[..], &["ids"]].concat()));
        assert!(!check(&[&all[1..], &["alt_ids"]].concat()));
        let sequence = Graphs::from_onnx(None, None, &[32], 1, 2, 0).reading(Inputs::Sequence);
        let check = |names: &[&str]| sequence.check_inputs(EngineKind::Tract, names.iter().copied()).is_ok();
        assert!(check(&SEQUENCE_INPUTS) && !check(&SEQUENCE_INPUTS[1..]) && !check(&all));
    }

    #[test]
    fn other_graphs_have_another_digest() {
        let digest = |fp32: &[u8], int8: Option<&[u8]>| {
            Graphs::from_onnx(Some(fp32.to_vec()), int8.map(<[u8]>::to_vec), &[32], 1, 1, 1).digest
        };
        assert_ne!(digest(b"ab", None), digest(b"a", Some(b"b")));
        assert_eq!(digest(b"ab", None), digest(b"ab", None));
    }
}
