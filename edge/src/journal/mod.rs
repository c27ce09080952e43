//! The encrypted, tamper-evident journal of a box.

mod error;
mod export;
mod known;
mod verify;

use std::{path::Path, sync::Arc};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use error::JournalError;
pub use export::{Exported, export};
pub use known::{KnownRequests, Seen};
pub use verify::{Finding, Report, Witnesses, verify};
pub use locus_firmware_config::message::ReceiptInfo as Receipt;

use crate::{
    clock::Clock,
    keys::{IndexKey, Recipient},
    vfs::Vfs,
};

/// When a segment ends and its key leaves memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Most records of a segment.
    pub records: u64,
    /// Most bytes of a segment, before the batch that goes over it.
    pub bytes: u64,
    /// Longest time that a segment with records stays open, in milliseconds.
    pub age_ms: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { records: 10_000, bytes: 64 << 20, age_ms: 15 * 60_000 }
    }
}

/// What a journal needs.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Files.
    pub vfs: Arc<dyn Vfs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Signs headers, commits and erasures.
    pub device_key: SigningKey,
    /// Hashes ids.
    pub index_key: IndexKey,
    /// Whom every segment is sealed to; at least one.
    pub recipients: Vec<Recipient>,
    /// When segments end.
    pub rotation: Rotation,
    /// How many of the latest requests are recognised after a restart.
    pub remember: usize,
    /// Goes on behind damage that was found, and writes it down. Otherwise the journal does not open.
    pub accept_damage: bool,
}

/// One answer to keep.
#[derive(Debug, Clone)]
pub struct Entry {
    /// JSON of the request and its outcome.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Who asked, hashed.
    pub request: RequestHash,
    /// Whose sample it is: the record becomes unreadable when this subject is shredded.
    pub subject: Option<String>,
    /// SHA-256 of the manifest of the bundle that answered; zeros where none did.
    pub bundle: [u8; 32],
    /// Index of the record that this one repeats.
    pub repeat_of: Option<u64>,
}

/// Keyed hashes of a request: [`IndexKey::request`] and [`IndexKey::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestHash {
    /// Of terminal and id.
    pub id: [u8; 32],
    /// Of the body.
    pub body: [u8; 32],
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Complete records that are there.
    pub records: u64,
    /// Bytes behind the last commit that were cut off: a batch that nobody was answered for.
    pub torn_bytes: u64,
    /// Records in those bytes, as far as they can be told.
    pub torn_records: u64,
    /// Whether the journal was closed properly.
    pub clean: bool,
    /// Damage that `accept_damage` let pass, in words.
    pub damage: Vec<String>,
}

/// The head of the chain at a commit, signed by the device: what a witness outside the box keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Journal id, hexadecimal.
    pub journal: String,
    /// Records so far.
    pub records: u64,
    /// Head of the chain, hexadecimal.
    pub root: String,
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    /// Ed25519 signature of the device, hexadecimal.
    pub signature: String,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {}

impl Journal {
    /// Opens the journal of a folder, or begins one; recovers from a power cut and starts a new segment.
    ///
    /// # Errors
    /// [`JournalError`]; damage is one unless `accept_damage`.
    pub fn open(_dir: &Path, _config: JournalConfig) -> Result<(Self, Recovery), JournalError> {
        Err(JournalError::NoRecipients)
    }

    /// Appends entries; they are durable on return (one `fdatasync`, a second one where a new subject appears).
    /// After any error the journal refuses everything: the process must end.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&mut self, _entries: &[Entry]) -> Result<Vec<Receipt>, JournalError> {
        Err(JournalError::Poisoned)
    }

    /// Starts a new segment when the old one is full or old enough; call it now and then.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn rotate_if_due(&mut self) -> Result<bool, JournalError> {
        Err(JournalError::Poisoned)
    }

    /// Makes everything of a subject unreadable for ever; how many segments held something.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn shred(&mut self, _subject: &str) -> Result<usize, JournalError> {
        Err(JournalError::Poisoned)
    }

    /// The journal's id, hexadecimal.
    pub fn id(&self) -> &str {
        ""
    }

    /// The signed head of the chain, to be kept by others.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { journal: String::new(), records: 0, root: String::new(), unix_ms: 0, signature: String::new() }
    }

    /// What is known of earlier requests; shared with other threads.
    pub fn known(&self) -> KnownRequests {
        KnownRequests::new(0)
    }

    /// Ends the journal properly.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn close(self) -> Result<(), JournalError> {
        Err(JournalError::Poisoned)
    }
}
