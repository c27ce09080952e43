//! Proves a journal without any key that opens it.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::{Checkpoint, JournalError, Receipt};
use crate::vfs::Vfs;

/// What others kept of the journal.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// Receipts of answers.
    pub receipts: Vec<Receipt>,
    /// Signed heads of the chain.
    pub checkpoints: Vec<Checkpoint>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Number of the segment.
    pub segment: u64,
    /// Stable name.
    pub code: &'static str,
    /// What was got and expected.
    pub detail: String,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Journal id, hexadecimal.
    pub journal: String,
    /// Segments read.
    pub segments: u64,
    /// Good records.
    pub records: u64,
    /// Records whose subject was shredded.
    pub shredded: u64,
    /// Head of the chain, hexadecimal.
    pub root: String,
    /// Whether the last segment was closed properly; false while the box writes it.
    pub closed: bool,
    /// Bytes behind the last commit: a batch being written, or torn.
    pub torn_bytes: u64,
    /// Records lost at power cuts, as the device wrote down itself; nobody was answered for them.
    pub recovered_losses: u64,
    /// How often the wall clock went backwards between records.
    pub clock_steps_back: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing is wrong; a torn or unfinished tail of the last segment is told, and is not wrong by itself.
    pub fn intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies every segment, the chain through them, and what witnesses kept.
///
/// # Errors
/// Files that cannot be read; what is wrong with their contents stands in the report.
pub fn verify(
    _vfs: &dyn Vfs,
    _dir: &Path,
    _device: &VerifyingKey,
    _witnesses: &Witnesses,
) -> Result<Report, JournalError> {
    Err(JournalError::Poisoned)
}
