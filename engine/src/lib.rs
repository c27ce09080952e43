//! Runs what was flashed: a verified bundle → token batch → logits → probability → band.
//!
//! The one place that the workbench, the box and the benchmarks score with. [`Bundle::open`] proves a `.locus`
//! file, [`open_session`] finds the first configured engine that works and reports those that do not, and
//! [`Scorer`] puts tokenizer, session, calibration and scope around it.

pub mod batch;
pub mod bundle;
mod fake;
mod graphs;
mod inspect;
pub mod ort;
mod precision;
pub mod probability;
pub mod rewrite;
pub mod scorer;
mod select;
pub mod session;
mod settings;
#[cfg(test)]
mod testing;
#[cfg(feature = "tract")]
mod tract;

pub use batch::{BatchError, Row, TokenBatch};
pub use bundle::{Bundle, BundleError, Limits, Policy, Trust, TrustError, TrustedKey};
pub use fake::{FAKE_PROVIDER, FakeEngine};
pub use graphs::{
    FEATURES_INPUT, Graphs, Inputs, LABELS, LOGITS_OUTPUT, SEQUENCE_INPUTS, TOKEN_INPUTS, tensors,
};
pub use precision::Cpu;
pub use probability::{MIN_ANSWERED_ACCURACY, Verdict};
pub use rewrite::RewriteError;
pub use scorer::{GoldenReport, Score, ScoreError, Scorer, SequenceScore, SequenceScorer, logits_of};
pub use select::{Opened, Skipped, engine_for, open_graphs, open_session};
pub use session::{
    ActivePrecision, Built, Engine, EngineKind, LoadOptions, Logits, OnBuilt, Precision, Session,
    SessionError, SessionSpec, Unavailable, built_while_serving, this_thread_answers,
};
pub use settings::EngineSettings;
#[cfg(feature = "tract")]
pub use tract::TractEngine;

/// Everything that goes wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bundle that is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Rows that do not fit a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An engine or its session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Logits that become no answer.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A profile that names what this build does not know.
    #[error("the device profile's {field} is {got}, expected {expected}")]
    Profile {
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: String,
    },
    /// No engine of the order works here.
    #[error("no engine can serve this model here; {}", reasons(.skipped))]
    NoEngine {
        /// Every engine tried, with its reason.
        skipped: Vec<Skipped>,
    },
}

fn reasons(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return "the order of engines is empty: name at least one".to_owned();
    }
    let reasons: Vec<String> =
        skipped.iter().map(|skipped| format!("{}: {}", skipped.engine, skipped.reason)).collect();
    reasons.join("; ")
}
