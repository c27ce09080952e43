//! Who may read results, and how much is taken at once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problem;

/// Who may read results, and how long a segment key lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalSection {
    /// Files of recipients' public keys, at least one.
    pub recipients: Vec<PathBuf>,
    /// Most records of a segment.
    #[serde(default = "default_rotate_records")]
    pub rotate_records: u64,
    /// Most bytes of a segment.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// Longest life of a segment's key.
    #[serde(default = "default_rotate_ms")]
    pub rotate_ms: u64,
    /// How many of the latest requests are recognised after a restart.
    #[serde(default = "default_remember")]
    pub remember: usize,
}

/// How much is taken at once. A unit is one forward pass of a pair; long messages cost more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Units that may be waiting or running.
    pub queue_units: u32,
    /// How long an answer is repeated from memory.
    pub replay_ms: u64,
    /// Most answers kept for that.
    pub replay_answers: usize,
    /// Time after which no answer is wanted, where the request names none.
    pub deadline_ms: u32,
    /// Time to finish what was taken when the box stops.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_units: 256,
            replay_ms: 300_000,
            replay_answers: 4_096,
            deadline_ms: 10_000,
            drain_ms: 5_000,
        }
    }
}

const fn default_rotate_records() -> u64 {
    10_000
}

const fn default_rotate_bytes() -> u64 {
    64 << 20
}

const fn default_rotate_ms() -> u64 {
    15 * 60_000
}

const fn default_remember() -> usize {
    100_000
}

impl JournalSection {
    pub(super) fn problem(&self) -> Option<Problem> {
        self.recipients.is_empty().then(|| Problem {
            field: "journal.recipients",
            got: "[]".into(),
            expected: "at least one public key",
        })
    }
}

impl Limits {
    pub(super) fn problem(&self) -> Option<Problem> {
        if !(1..=65_536).contains(&self.queue_units) {
            return Some(Problem {
                field: "limits.queue_units",
                got: self.queue_units.to_string(),
                expected: "1 to 65,536",
            });
        }
        (self.deadline_ms == 0).then(|| Problem {
            field: "limits.deadline_ms",
            got: "0".into(),
            expected: "1 or more",
        })
    }
}
