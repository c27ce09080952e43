//! Why a bundle does not get into a slot.

use std::{io, path::PathBuf};

use locus_engine::BundleError;

/// Names in a sentence.
pub(crate) fn listed(names: &[String]) -> String {
    if names.is_empty() { "none is there".to_owned() } else { names.join(", ") }
}

/// Any reason that a proving step has.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What goes wrong with slots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// A file operation failed.
    #[error("slots: {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has the slots open.
    #[error("{path} is locked: another process owns these slots")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Both copies of the slot record are unreadable although one was written.
    #[error(
        "both copies of the slot record in {dir} are damaged: flash again after removing them by hand; the floor is lost with them"
    )]
    Record {
        /// The folder.
        dir: PathBuf,
    },
    /// The audit trail cannot be kept, so nothing is attempted.
    #[error("nothing was changed: {0}")]
    Audit(#[from] crate::audit::AuditError),
    /// The trust document.
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustStoreError),
    /// The trust document no longer holds.
    #[error(
        "the trust document expired on {expires}, today is {today}: nothing is flashed under it; `locusctl trust update` takes the next one"
    )]
    Expired {
        /// Its last day.
        expires: String,
        /// Today, by the box's clock.
        today: String,
    },
    /// The bundle breaks the promise that it makes itself.
    #[error("the bundle is outside its own accuracy contract: {reason}; ask for one that keeps it")]
    Contract {
        /// What is exceeded.
        reason: String,
    },
    /// The bundle is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No trusted key signed it.
    #[error("the bundle {digest} carries no trusted signature: sign it with `locus bundle sign`")]
    Unsigned {
        /// Its digest.
        digest: String,
    },
    /// It is older than what this box accepts.
    #[error("the bundle's security counter is {got}, this box takes {floor} or more: flash a newer one")]
    Downgrade {
        /// Its counter.
        got: u64,
        /// The floor.
        floor: u64,
    },
    /// What was stored is not what was verified.
    #[error("the stored bundle is {got}, expected {expected}")]
    Digest {
        /// Digest found.
        got: String,
        /// Digest expected.
        expected: String,
    },
    /// A digest that is none.
    #[error("{got:?} is no digest: 64 lower-case hexadecimal digits are")]
    NotADigest {
        /// What was given.
        got: String,
    },
    /// It does not give the golden answers on this device.
    #[error("the model failed its self-test on this device: {reason}")]
    SelfTest {
        /// Why.
        reason: BoxError,
    },
    /// It failed while it served on trial.
    #[error("the model failed its trial: {reason}")]
    Trial {
        /// Why.
        reason: BoxError,
    },
    /// The record names it, it serves, and the disk reported an error all the same.
    #[error(
        "{digest} serves and the slot record names it, but the disk did not keep the record for certain ({source}): after a power cut the model before may serve; look at the disk"
    )]
    Unsettled {
        /// The digest that the record names.
        digest: String,
        /// What the disk said.
        source: Box<SlotError>,
    },
    /// There is nothing to confirm or revert.
    #[error("no bundle is on trial")]
    NoTrial,
    /// The bundle is not in a slot.
    #[error("no slot holds {digest}")]
    Missing {
        /// Its digest.
        digest: String,
    },
    /// There is nothing to go back to.
    #[error("there is no previous bundle to go back to")]
    NoPrevious,
    /// The bundle of another model in a model's slot.
    #[error("the stored bundle {digest} is of the model {got}, expected {expected}")]
    Name {
        /// Its digest.
        digest: String,
        /// Its name.
        got: String,
        /// The name of the slots.
        expected: String,
    },
    /// Slots of a name that the record does not have.
    #[error("got model {got:?}, expected one of those in the slots: {}", listed(.known))]
    UnknownModel {
        /// The name.
        got: String,
        /// Names in the slots.
        known: Vec<String>,
    },
    /// No name where several models are there.
    #[error("got no model, expected --model with one of {}", listed(.known))]
    WhichModel {
        /// Names to choose from.
        known: Vec<String>,
    },
    /// No room for slots of another model.
    #[error(
        "the box has {got} models, expected at most {limit}: no slots are made for {name}; `locusctl remove --model NAME` takes one out"
    )]
    TooManyModels {
        /// The new name.
        name: String,
        /// Models in the slots, or names in the record.
        got: usize,
        /// Most.
        limit: usize,
    },
    /// The models together are too large.
    #[error(
        "the models of this box would have {got} bytes together, expected at most {limit} (models.memory_bytes): flash a smaller one, or `locusctl remove --model NAME` another one"
    )]
    TooMuch {
        /// Bytes of all.
        got: u64,
        /// Most.
        limit: u64,
    },
    /// The model was never confirmed, or was removed.
    #[error(
        "the model {name} is on trial, expected one that is not: `locusctl revert --model {name}` ends it"
    )]
    OnTrial {
        /// The name.
        name: String,
    },
    /// A model by the name that stands for the reference pack.
    #[error(
        "got a model of the name {name}, which stands for the reference pack in orders; give it another name"
    )]
    Reserved {
        /// The name.
        name: String,
    },
    /// The simulated store lost power.
    #[error("simulated power cut")]
    PowerCut,
}
