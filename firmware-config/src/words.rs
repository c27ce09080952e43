//! The words of the messages that are the same with and without std: lanes, bands, timings and fault codes.

use serde::{Deserialize, Serialize};

/// A queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Someone waits.
    #[default]
    Bedside,
    /// Nobody does.
    Batch,
}

/// Where a probability lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Below the benign threshold.
    Benign,
    /// Between the thresholds.
    Uncertain,
    /// Above the pathogenic threshold.
    Pathogenic,
    /// No probability.
    None,
}

impl Band {
    /// As written in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Benign => "benign",
            Self::Uncertain => "uncertain",
            Self::Pathogenic => "pathogenic",
            Self::None => "none",
        }
    }
}

/// Microseconds by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Waiting.
    pub queue: u64,
    /// Bases to tokens.
    pub tokenize: u64,
    /// Tokens to logits.
    pub infer: u64,
    /// Until durable.
    pub journal: u64,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $retryable:literal, $status:literal;)+) => {
        /// Why there is no answer. Codes are only ever added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum FaultCode { $($(#[$doc])* $name),+ }

        impl FaultCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// Whether the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable),+ }
            }

            /// HTTP status.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }
        }
    };
}

faults! {
    /// Not a message of the protocol.
    BadRequest, "bad_request", false, 400;
    /// Larger than a message may be.
    TooLarge, "too_large", false, 413;
    /// A sequence that cannot be read.
    BadSequence, "bad_sequence", false, 422;
    /// An empty sequence.
    Empty, "empty", false, 422;
    /// A sequence that is too long.
    TooLong, "too_long", false, 413;
    /// A mutation or variant that cannot be read.
    BadMutation, "bad_mutation", false, 422;
    /// A position outside of what is known.
    OutOfRange, "out_of_range", false, 422;
    /// The stated reference base disagrees with the sequence.
    RefMismatch, "ref_mismatch", false, 422;
    /// Nothing changes.
    RefEqualsAlt, "ref_equals_alt", false, 422;
    /// The reference pack lacks the contig.
    UnknownContig, "unknown_contig", false, 422;
    /// The reference pack lacks the transcript.
    UnknownTranscript, "unknown_transcript", false, 422;
    /// A transcript that contradicts itself.
    BadTranscript, "bad_transcript", false, 422;
    /// The box has no reference pack.
    NoReference, "no_reference", false, 422;
    /// Another model is active.
    UnknownModel, "unknown_model", false, 404;
    /// No model is active.
    NoModel, "no_model", true, 503;
    /// An assembly that is not the model's.
    WrongAssembly, "wrong_assembly", false, 422;
    /// The same id with another body.
    IdReused, "id_reused", false, 409;
    /// A response topic that is not the terminal's own.
    BadResponseTopic, "bad_response_topic", false, 403;
    /// Too much work is waiting.
    Busy, "busy", true, 429;
    /// The deadline passed first.
    DeadlineExceeded, "deadline_exceeded", true, 504;
    /// The box is stopping.
    ShuttingDown, "shutting_down", true, 503;
    /// The engine failed.
    EngineFailed, "engine_failed", true, 500;
    /// The journal failed: the box stops.
    JournalFailed, "journal_failed", true, 500;
    /// The reference pack's files cannot be read.
    ReferenceFailed, "reference_failed", false, 500;
    /// The journal's room is running out: nothing new is taken until there is room again.
    StorageFull, "storage_full", true, 503;
    /// A code of a later version. No box sends it; it stays last, so that new codes are added before it.
    #[serde(other)]
    Unknown, "unknown", false, 500;
}

impl FaultCode {
    /// The code of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str() == name)
    }
}
