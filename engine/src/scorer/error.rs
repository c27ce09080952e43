//! What goes wrong between logits and an answer.

use locus_firmware_config::manifest::Task;

use crate::session::ActivePrecision;

/// What goes wrong between logits and an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// A logit or probability that is no number.
    #[error(
        "the model gave a number that is not finite, which is never an answer; revert to the previous model"
    )]
    NotFinite,
    /// A bundle of another task.
    #[error("the bundle is a {got} model, this serves {expected} models; take one of these")]
    Task {
        /// The bundle's task.
        got: Task,
        /// The task asked for.
        expected: &'static str,
    },
    /// A wild type that the bundle's tokenizer cannot read.
    #[error("the bundle's wild type cannot be read: {detail}; make the bundle again")]
    WildType {
        /// Why.
        detail: String,
    },
    /// The bundle was made with other features than this program computes.
    #[error(
        "the bundle has {got} features, this program computes {expected} (first difference: {first}); update it"
    )]
    Features {
        /// Features of the bundle.
        got: usize,
        /// Features of this program.
        expected: usize,
        /// Name of the first one that differs.
        first: String,
    },
    /// `golden.json` cannot be used.
    #[error("golden.json: {detail}; make the bundle again")]
    GoldenMalformed {
        /// What is wrong.
        detail: String,
    },
    /// This device does not compute what the bundle promises.
    #[error(
        "golden vector {vector} differs by {difference:.3e} in {precision}, expected at most {tolerance:.3e}; \
         do not serve this model on this device"
    )]
    GoldenDiffers {
        /// 0-based golden vector.
        vector: usize,
        /// Largest difference of a logit.
        difference: f64,
        /// The bundle's tolerance.
        tolerance: f64,
        /// The precision in use.
        precision: ActivePrecision,
    },
}
