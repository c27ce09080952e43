//! Who may read results, and how much is taken at once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::journal::Keep;

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
    /// Days after which a finished segment may leave the box.
    pub keep_days: Option<u32>,
    /// Bytes above which the oldest finished segments may leave the box.
    pub keep_bytes: Option<u64>,
    /// Whether they may leave without a verified copy: the results in them are gone then.
    #[serde(default)]
    pub free_without_copy: bool,
    /// Bytes of the disk that are kept free; nothing new is taken while there are fewer.
    #[serde(default = "default_reserve")]
    pub reserve_bytes: u64,
    /// The operator is told when the room lasts for fewer days.
    #[serde(default = "default_warn_days")]
    pub warn_days: u32,
}

/// What the box asks of its clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSection {
    /// A file that the system makes once a time server has set its clock, such as
    /// `/run/systemd/timesync/synchronized`; until it is there the clock is not trusted.
    pub synchronized_file: Option<PathBuf>,
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

const fn default_reserve() -> u64 {
    256 << 20
}

const fn default_warn_days() -> u32 {
    14
}

const fn default_remember() -> usize {
    100_000
}

impl JournalSection {
    /// How much of what is finished stays on the box.
    pub fn keep(&self) -> Keep {
        Keep { days: self.keep_days, bytes: self.keep_bytes, without_copy: self.free_without_copy }
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let keeps = self.keep_days.is_some() || self.keep_bytes.is_some();
        Problem::first([
            (!self.recipients.is_empty(), "journal.recipients", "[]".into(), "at least one public key"),
            (
                keeps || !self.free_without_copy,
                "journal.free_without_copy",
                "true".into(),
                "journal.keep_days or journal.keep_bytes beside it",
            ),
            (
                (1..=1_000_000).contains(&self.rotate_records),
                "journal.rotate_records",
                self.rotate_records.to_string(),
                "1 to 1,000,000",
            ),
        ])
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
