//! What comes of an order: reports, and why there is none.

use std::path::PathBuf;

use locus_engine::GoldenReport;
use serde::Serialize;

use crate::{
    config::ConfigError,
    keys::KeyError,
    slots::{Flashed, SlotError},
    trust::TrustStoreError,
};

/// Why the box cannot take models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// Slots.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The trust document.
    #[error(transparent)]
    Trust(#[from] TrustStoreError),
    /// The box's own key.
    #[error(transparent)]
    Device(#[from] KeyError),
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A trusted key.
    #[error("trusted key {path}: {detail}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A word of the configuration that the engine does not know.
    #[error("configuration: {0}")]
    Engine(String),
}

/// What came of a flash, with its proof.
#[derive(Debug, Serialize)]
pub struct FlashReport {
    /// `model`, or `reference` for a reference pack.
    pub kind: &'static str,
    /// The slots.
    #[serde(flatten)]
    pub flashed: Flashed,
    /// The golden self-test on this device; null where the model served already.
    pub golden: Option<GoldenReport>,
    /// Engine and provider that will serve.
    pub provider: Option<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What came of a new trust document.
#[derive(Debug, Serialize)]
pub struct TrustReport {
    /// Version that counts now.
    pub version: u64,
    /// Last day on which bundles are taken under it.
    pub expires: String,
    /// Models in the slots that it no longer trusts, with the reason: the next start does not serve them.
    pub untrusted: Vec<String>,
}

/// What an operator is told of copies of the slot record that cannot be read.
pub(crate) fn damaged_notices(copies: &[PathBuf]) -> Vec<String> {
    let notice = |path: &PathBuf| {
        format!(
            "{} is damaged, the other copy of the slot record counts: flash or roll back to write both",
            path.display()
        )
    };
    copies.iter().map(notice).collect()
}
