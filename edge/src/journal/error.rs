//! Why the journal cannot go on.

use std::{io, path::PathBuf};

use crate::keys::KeyError;

/// What goes wrong with a journal. None of it names a subject, a request or an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file operation failed.
    #[error("journal: {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An earlier error made it impossible to say what is on the disk.
    #[error("the journal stopped after an earlier error: restart the box, it recovers what was answered")]
    Poisoned,
    /// Another process has it open.
    #[error("{path} is locked: another process writes this journal")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is nobody to seal to.
    #[error("the journal has no recipient: name the public key of at least one who may read results")]
    NoRecipients,
    /// The head of a segment would not hold them.
    #[error("the journal has {got} recipients, expected at most {limit}: seal to fewer")]
    TooManyRecipients {
        /// How many there are.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// What is on the disk was not written by this device, or was changed since.
    #[error("the journal in {dir} is damaged ({}): keep a copy, run `locusctl journal verify`, then start once with `locusd --accept-journal-damage`", .findings.join("; "))]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        findings: Vec<String>,
    },
    /// Nothing on the disk says where the journal goes on.
    #[error("the journal in {dir} cannot be continued ({}), and `--accept-journal-damage` does not help: keep the folder elsewhere, as evidence, and the box begins a new journal", .findings.join("; "))]
    Lost {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        findings: Vec<String>,
    },
    /// An entry that no segment could hold.
    #[error("an entry of {got} bytes, at most {limit} are kept")]
    TooLarge {
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The folder holds no journal.
    #[error("{dir} holds no journal")]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// No record has the index here.
    #[error(
        "the journal in {dir} holds no record {index}: it was never written, or lies in an offloaded part"
    )]
    NoRecord {
        /// The index.
        index: u64,
        /// The folder.
        dir: PathBuf,
    },
    /// A checkpoint that does not cover the record.
    #[error(
        "record {index} is not under that checkpoint: expected one of this device, of segment {segment}, that was signed after the record"
    )]
    NotUnder {
        /// The record.
        index: u64,
        /// Its segment.
        segment: u64,
    },
    /// A folder with something else.
    #[error("{dir} holds another journal: name an empty folder, or the one of this journal")]
    OtherJournal {
        /// The folder.
        dir: PathBuf,
    },
    /// A copy that does not read back.
    #[error("{path} does not read back as it was written: the medium is faulty; nothing was freed")]
    CopyDiffers {
        /// The file.
        path: PathBuf,
    },
    /// The identity opens no segment of the journal.
    #[error("the identity {identity} opens none of the {segments} segments; they are sealed to {}", .recipients.join(", "))]
    WrongIdentity {
        /// Id of its public half.
        identity: String,
        /// How many were tried.
        segments: u64,
        /// Whom they are sealed to.
        recipients: Vec<String>,
    },
    /// Encryption failed, which only a broken key does.
    #[error("the journal cannot {operation}")]
    Crypto {
        /// What was tried.
        operation: &'static str,
    },
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}
