//! What goes wrong between a graph and its logits.

use serde::Serialize;

use super::EngineKind;

/// Why an engine cannot be used here, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing and what to do.
    pub reason: String,
}

impl Unavailable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What goes wrong between a graph and its logits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The engine's name is not known.
    #[error("got engine {got:?}, expected one of: {expected}")]
    UnknownEngine {
        /// The name given.
        got: String,
        /// The names known.
        expected: String,
    },
    /// The fake engine beside real ones.
    #[error(
        "got the engines {got}, expected fake alone or not at all: its answers mean nothing and must not stand in for \
         a model's"
    )]
    FakeBesideOthers {
        /// The order given.
        got: String,
    },
    /// The precision's name is not known.
    #[error("got precision {got:?}, expected auto, fp32 or int8")]
    UnknownPrecision {
        /// The name given.
        got: String,
    },
    /// The engine cannot serve this model on this machine.
    #[error("{engine}: {source}")]
    Unavailable {
        /// The engine.
        engine: EngineKind,
        /// Why.
        source: Unavailable,
    },
    /// The library refused the graph.
    #[error("{engine} cannot load the graph ({detail}); verify the bundle")]
    Load {
        /// The engine.
        engine: EngineKind,
        /// The library's words.
        detail: String,
    },
    /// The library failed on a batch.
    #[error("{engine} failed on a batch ({detail}); the request may be repeated")]
    Run {
        /// The engine.
        engine: EngineKind,
        /// The library's words.
        detail: String,
    },
    /// The graph's inputs or outputs are not those of the contract.
    #[error("{engine}: the graph has {got}, expected {expected}; make the bundle again")]
    Contract {
        /// The engine.
        engine: EngineKind,
        /// What the graph has.
        got: String,
        /// What the contract asks for.
        expected: String,
    },
    /// A length that no session is prepared for.
    #[error("got a batch of {got} tokens, expected one of the buckets {buckets:?}")]
    Bucket {
        /// Tokens of the batch.
        got: usize,
        /// Prepared lengths.
        buckets: Vec<u32>,
    },
    /// Features that are not the graph's.
    #[error("got {got} features, expected {expected}; host and bundle differ in version")]
    Features {
        /// Features of the batch.
        got: usize,
        /// Features of the graph.
        expected: usize,
    },
    /// An output of the wrong size.
    #[error("{engine} returned {got} logits, expected {expected}; verify the bundle")]
    Output {
        /// The engine.
        engine: EngineKind,
        /// Logits returned.
        got: usize,
        /// Logits asked for.
        expected: usize,
    },
    /// A logit that is not a number: never an answer.
    #[error(
        "{engine} returned a logit that is not finite for row {row}, which is never an answer; revert the model"
    )]
    NotFinite {
        /// The engine.
        engine: EngineKind,
        /// 0-based row.
        row: usize,
    },
}
