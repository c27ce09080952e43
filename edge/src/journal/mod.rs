//! The encrypted, tamper-evident journal of a box.

mod erase;
mod error;
mod export;
mod fhir;
mod format;
mod formats;
mod known;
mod merkle;
mod places;
mod prove;
mod recall;
mod recover;
mod scan;
pub(crate) mod seal;
mod segment;
mod space;
mod subjects;
mod upkeep;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ed25519_dalek::SigningKey;
use serde::Serialize;
use zeroize::Zeroizing;

pub use erase::Erased;
pub use error::JournalError;
pub use export::{Content, Exported, export};
pub(crate) use format::SealedKey;
pub use format::{Checkpoint, MAX_ENTRY};
pub use formats::{COLUMNS, fhir_of};
pub use known::{KnownRequests, Seen};
pub use locus_firmware_config::message::ReceiptInfo as Receipt;
pub use places::{Span, Why};
pub use prove::{Proof, Unproved, prove};
pub use recall::{Recalled, recall};
pub use space::Space;
pub use upkeep::{Freed, Hold, Keep, Offloaded, OnDisk, Upkeep, on_disk};
pub use verify::{Finding, Report, Witnesses, verify};

use crate::{
    clock::{Clock, ClockWatch},
    keys::{IndexKey, Recipient, random},
    vfs::{Vfs, VfsLock},
};
use erase::Eraser;
use format::{BODY, MAX_RECIPIENTS, MAX_SEGMENT};
use recover::{Resumed, resume};
use segment::{OpenSegment, Position, io_at};

/// Held by the process that writes.
const LOCK: &str = "lock";

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
    /// Bytes of the disk that are kept free: [`Space::short`] says when they are touched.
    pub reserve_bytes: u64,
    /// Where the system says that it has set its clock by a server; none where that is not asked for.
    pub synchronized: Option<PathBuf>,
}

/// One answer to keep.
#[derive(Debug, Clone)]
pub struct Entry {
    /// JSON of the request and its outcome.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// Who asked what, hashed; none for a request without an id, which nobody can repeat.
    pub request: Option<RequestHash>,
    /// Whose sample it is: the record becomes unreadable when this subject is shredded.
    pub subject: Option<String>,
    /// SHA-256 of the manifest of the bundle that answered; zeros where none did.
    pub bundle: [u8; 32],
    /// Index of the record that this one repeats.
    pub repeat_of: Option<u64>,
    /// Who asked: [`IndexKey::terminal`].
    pub terminal: Option<[u8; 8]>,
}

/// Keyed hashes of a request: [`IndexKey::request`] and [`IndexKey::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestHash {
    /// Of terminal and id.
    pub id: [u8; 32],
    /// Of the body. The journal keeps the first bytes of it only.
    pub body: [u8; 32],
}

impl RequestHash {
    /// What the journal keeps of it.
    fn kept(&self) -> ([u8; 32], [u8; BODY]) {
        (self.id, [self.body[0], self.body[1]])
    }
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

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    config: JournalConfig,
    id: format::JournalId,
    id_text: String,
    position: Position,
    /// None once anything failed: its keys are gone, and nothing is appended any more.
    segment: Option<Box<OpenSegment>>,
    known: KnownRequests,
    watch: ClockWatch,
    space: Space,
    _lock: Box<dyn VfsLock>,
}

impl Journal {
    /// Opens the journal of a folder, or begins one; recovers from a power cut and starts a new segment.
    ///
    /// # Errors
    /// [`JournalError`]; damage is one unless `accept_damage`.
    pub fn open(dir: &Path, config: JournalConfig) -> Result<(Self, Recovery), JournalError> {
        if config.recipients.is_empty() {
            return Err(JournalError::NoRecipients);
        }
        if config.recipients.len() > MAX_RECIPIENTS {
            let (got, limit) = (config.recipients.len(), MAX_RECIPIENTS);
            return Err(JournalError::TooManyRecipients { got, limit });
        }
        config.vfs.create_dir_all(dir).map_err(io_at("create", dir))?;
        let path = dir.join(LOCK);
        let lock = config.vfs.lock(&path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JournalError::Locked { path: path.clone() },
            _ => JournalError::Io { operation: "lock", path: path.clone(), source },
        })?;
        let known = KnownRequests::new(config.remember);
        let resumed = resume(dir, &config, &known)?;
        let start = match resumed {
            Some(resumed) => resumed,
            None => Resumed::fresh(*random::<16>()?),
        };
        let Resumed { journal: id, next_segment, mut position, previous, recovery, cuts, .. } = start;
        let watch = ClockWatch::new(config.clock.clone(), start.trusted_ms, config.synchronized.clone());
        let started_ms = config.clock.monotonic_ms();
        let (vfs, reserve) = (config.vfs.clone(), config.reserve_bytes);
        let space = Space::new(vfs, dir.to_owned(), reserve, start.growth, started_ms);
        let segment =
            OpenSegment::start(&config, dir, id, next_segment, &mut position, previous, watch.now())?;
        for cut in cuts {
            let path = dir.join(&cut.name);
            let mut file = config.vfs.open(&path).map_err(io_at("open", &path))?;
            file.truncate(cut.len).and_then(|()| file.sync()).map_err(io_at("truncate", &path))?;
        }
        let journal = Self {
            dir: dir.to_owned(),
            config,
            id,
            id_text: hex::encode(id),
            position,
            segment: Some(Box::new(segment)),
            known,
            watch,
            space,
            _lock: lock,
        };
        Ok((journal, recovery))
    }

    /// Appends entries; they are durable on return (one `fdatasync`, a second one where a new subject appears).
    /// After any error but [`JournalError::TooLarge`] the journal refuses everything: the process must end.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&mut self, entries: &[Entry]) -> Result<Vec<Receipt>, JournalError> {
        let too_large = entries.iter().map(|entry| entry.plaintext.len()).find(|len| *len > MAX_ENTRY);
        if let Some(got) = too_large {
            return Err(JournalError::TooLarge { got, limit: MAX_ENTRY });
        }
        self.rotate_if_due()?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.position.next_index;
        let now = self.watch.now();
        let (hashes, grown) = self.guarded(|mut segment, config, position| {
            let before = segment.bytes;
            let hashes = segment.append(config, entries, position, now)?;
            let grown = segment.bytes - before;
            Ok((segment, (hashes, grown)))
        })?;
        self.space.grew(grown, self.config.clock.monotonic_ms());
        let mut receipts = Vec::with_capacity(entries.len());
        for ((index, entry), (leaf, root)) in (first..).zip(entries).zip(hashes) {
            if let Some(request) = &entry.request {
                self.known.insert(request.kept(), entry.repeat_of.unwrap_or(index), entry.bundle);
            }
            receipts.push(receipt(&self.id_text, index, &leaf, &root));
        }
        Ok(receipts)
    }

    /// Starts a new segment when the old one is full or old enough; call it now and then, so that the key of an
    /// idle box changes too.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn rotate_if_due(&mut self) -> Result<bool, JournalError> {
        let segment = self.segment.as_ref().ok_or(JournalError::Poisoned)?;
        let rotation = &self.config.rotation;
        let records = self.position.next_index - segment.first_index;
        let age_ms = self.config.clock.monotonic_ms().saturating_sub(segment.opened_ms);
        let due = records >= rotation.records
            || segment.bytes >= rotation.bytes.min(MAX_SEGMENT / 2)
            || age_ms >= rotation.age_ms;
        if records == 0 || !due {
            return Ok(false);
        }
        let (dir, id, now) = (self.dir.clone(), self.id, self.watch.now());
        self.guarded(|segment, config, position| {
            let number = segment.number + 1;
            let previous = Some(segment.close(config, *position, now.unix_ms)?);
            Ok((Box::new(OpenSegment::start(config, &dir, id, number, position, previous, now)?), ()))
        })?;
        Ok(true)
    }

    /// Runs one step on the open segment. Whatever fails drops the segment, and its keys with it.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(
            Box<OpenSegment>,
            &JournalConfig,
            &mut Position,
        ) -> Result<(Box<OpenSegment>, T), JournalError>,
    ) -> Result<T, JournalError> {
        let segment = self.segment.take().ok_or(JournalError::Poisoned)?;
        let (segment, value) = step(segment, &self.config, &mut self.position)?;
        self.segment = Some(segment);
        Ok(value)
    }

    /// Makes everything of a subject in the segment that is being written unreadable for ever; its number, and what was
    /// erased. What comes later gets a new key. The finished segments are [`Hold::erase`]'s.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal goes on, and it can be done again.
    pub fn erase(&mut self, subject: &str) -> Result<(u64, Erased), JournalError> {
        let open = self.segment.as_mut().ok_or(JournalError::Poisoned)?;
        open.forget(&self.config.index_key.subject(&self.id, open.number, subject));
        let eraser = Eraser {
            vfs: &*self.config.vfs,
            journal: self.id,
            device_key: &self.config.device_key,
            index_key: &self.config.index_key,
            unix_ms: self.watch.now().unix_ms,
        };
        Ok((open.number, eraser.erase(&self.dir, open.number, subject)?))
    }

    /// Whether the box's clock is to be believed; shared with other threads.
    pub fn clock(&self) -> ClockWatch {
        self.watch.clone()
    }

    /// How much room is left; shared with other threads.
    pub fn space(&self) -> Space {
        self.space.clone()
    }

    /// Asks the system how much room is left.
    pub fn look_at_space(&self) {
        self.space.look(self.config.clock.monotonic_ms());
    }

    /// The journal's id, hexadecimal.
    pub fn id(&self) -> &str {
        &self.id_text
    }

    /// Index of the next record.
    pub fn next_index(&self) -> u64 {
        self.position.next_index
    }

    /// The signed head of the chain, to be kept by others; none once the journal has stopped.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.segment.as_ref().map(|segment| &segment.checkpoint)
    }

    /// What is known of earlier requests; shared with other threads.
    pub fn known(&self) -> KnownRequests {
        self.known.clone()
    }

    /// Ends the journal properly.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn close(mut self) -> Result<(), JournalError> {
        let segment = self.segment.take().ok_or(JournalError::Poisoned)?;
        segment.close(&self.config, self.position, self.watch.now().unix_ms).map(drop)
    }
}

fn receipt(journal: &str, index: u64, leaf: &[u8; 32], root: &[u8; 32]) -> Receipt {
    Receipt { journal: journal.to_owned(), index, leaf: hex::encode(leaf), root: hex::encode(root) }
}

#[cfg(test)]
mod tests;
