//! Which segments there are, where they lie, and which ones the box freed by its own signed word.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{
    JournalError,
    format::{JournalId, MAX_RECORDS, segment_of},
    scan::{End, Tail},
    segment::io_at,
};
use crate::vfs::{Access, Vfs, write_atomic};

/// What the box wrote down when it freed segments.
const NOTE: &str = "freed.json";
/// Largest note, in bytes: a year of freeing for another reason each day is a tenth of it.
const MAX_NOTE: u64 = 1 << 20;
const DOMAIN: &[u8] = b"locus-freed-v1\0";

/// Why segments were freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A copy elsewhere was verified.
    Copied,
    /// The configuration says so (`journal.free_without_copy`).
    Policy,
}

/// Segments that were freed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First of them.
    pub first_segment: u64,
    /// Last of them.
    pub last_segment: u64,
    /// Records in them.
    pub records: u64,
    /// Why.
    pub why: Why,
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
}

/// How the last segment that was freed ended: the chain goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreedEnd {
    segment: u64,
    next_index: u64,
    root: String,
    bytes: u64,
    closed: bool,
}

/// The box's word on what is not here any more, and on what lies elsewhere too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    format: u32,
    journal: String,
    pub(super) freed: Vec<Span>,
    end: Option<FreedEnd>,
    /// Last segment of which a copy was verified.
    pub(super) copied_to: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    note: Note,
    signature: String,
}

impl Note {
    pub(super) fn new(journal: &JournalId) -> Self {
        Self { format: 1, journal: hex::encode(journal), freed: Vec::new(), end: None, copied_to: 0 }
    }

    pub(super) fn journal_id(&self) -> Option<JournalId> {
        let mut id = [0; 16];
        hex::decode_to_slice(&self.journal, &mut id).ok()?;
        Some(id)
    }

    /// Last segment that was freed; 0 where none was.
    pub(super) fn last(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| end.segment)
    }

    /// Segments up to one are freed.
    pub(super) fn free(&mut self, first_index: u64, end: &End, why: Why, unix_ms: u64) {
        let (first_segment, records) = (self.last() + 1, end.next_index - first_index);
        match self.freed.last_mut().filter(|span| span.why == why) {
            Some(span) => {
                span.last_segment = end.segment;
                span.records += records;
                span.unix_ms = unix_ms;
            }
            None => self.freed.push(Span { first_segment, last_segment: end.segment, records, why, unix_ms }),
        }
        self.end = Some(FreedEnd {
            segment: end.segment,
            next_index: end.next_index,
            root: hex::encode(end.root),
            bytes: end.bytes,
            closed: end.closed,
        });
    }

    /// Where the chain goes on.
    pub(super) fn end(&self) -> Option<End> {
        let end = self.end.as_ref()?;
        let mut root = [0; 32];
        hex::decode_to_slice(&end.root, &mut root).ok()?;
        Some(End {
            segment: end.segment,
            commits: 0,
            next_index: end.next_index,
            root,
            bytes: end.bytes,
            closed: end.closed,
            tail: Tail::default(),
        })
    }

    fn message(&self) -> Vec<u8> {
        [DOMAIN, &serde_json::to_vec(self).expect("texts and whole numbers serialise")].concat()
    }

    /// Reads the note of a folder; none where there is none.
    pub(super) fn read(
        vfs: &dyn Vfs,
        dir: &Path,
        device: &VerifyingKey,
    ) -> Result<Option<Result<Self, &'static str>>, JournalError> {
        let path = dir.join(NOTE);
        let bytes = match vfs.read(&path, MAX_NOTE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at("read", path)(error)),
        };
        let parse = || {
            let signed: Signed = serde_json::from_slice(&bytes).map_err(|_| "it is not what it should be")?;
            let mut signature = [0; 64];
            hex::decode_to_slice(&signed.signature, &mut signature).map_err(|_| "it has no signature")?;
            device
                .verify_strict(&signed.note.message(), &Signature::from_bytes(&signature))
                .map_err(|_| "its signature is not this device's")?;
            // What is not signed over does not stand there either.
            let same = serde_json::to_vec(&signed).is_ok_and(|again| again == bytes);
            if !same || signed.signature != hex::encode(signature) {
                return Err("it is not as the device wrote it");
            }
            if signed.note.format != 1 {
                return Err("it has another format than 1");
            }
            if signed.note.end.as_ref().is_some_and(|end| end.next_index.max(end.segment) > MAX_RECORDS) {
                return Err("no journal has so many records");
            }
            Ok(signed.note)
        };
        Ok(Some(parse()))
    }

    /// Puts the note in a folder; durable on return.
    pub(super) fn write(&self, vfs: &dyn Vfs, dir: &Path, key: &SigningKey) -> Result<(), JournalError> {
        let signature = hex::encode(key.sign(&self.message()).to_bytes());
        let signed = Signed { note: self.clone(), signature };
        let bytes = serde_json::to_vec(&signed).expect("texts and whole numbers serialise");
        let path = dir.join(NOTE);
        write_atomic(vfs, &path, &bytes, Access::Group).map_err(io_at("write", path))
    }
}

/// What lies in the folders of a journal.
#[derive(Debug)]
pub(super) struct Places {
    /// What was freed before the first segment here.
    pub(super) note: Option<Note>,
    /// Numbers and folders of the segments, in order.
    pub(super) segments: Vec<(u64, PathBuf)>,
    /// Names in the first folder.
    pub(super) names: Vec<String>,
    /// Notes that are not the device's.
    pub(super) findings: Vec<String>,
}

impl Places {
    /// Looks into the folder of a journal and those of its copies.
    pub(super) fn look(
        vfs: &dyn Vfs,
        dir: &Path,
        copies: &[PathBuf],
        device: &VerifyingKey,
    ) -> Result<Self, JournalError> {
        let (mut segments, mut notes, mut findings) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut first_names = None;
        for folder in std::iter::once(dir).chain(copies.iter().map(PathBuf::as_path)) {
            let names = vfs.list(folder).map_err(io_at("list", folder))?;
            let note = match Note::read(vfs, folder, device)? {
                None => None,
                Some(Ok(note)) => Some(note),
                Some(Err(reason)) => {
                    findings.push(format!("{NOTE}: {reason}"));
                    None
                }
            };
            // What a power cut left of freed segments is gone, by the box's own word.
            let freed = note.as_ref().map_or(0, Note::last);
            notes.extend(note);
            for number in names.iter().filter_map(|name| segment_of(name, ".seg")).filter(|n| *n > freed) {
                segments.entry(number).or_insert_with(|| folder.to_owned());
            }
            first_names.get_or_insert(names);
        }
        let whole = segments.contains_key(&1);
        let note = notes
            .into_iter()
            .filter(|note| !whole && (segments.is_empty() || segments.contains_key(&(note.last() + 1))))
            .min_by_key(Note::last);
        let behind = note.as_ref().map_or(0, Note::last);
        segments.retain(|number, _| *number > behind);
        let segments = segments.into_iter().collect();
        Ok(Self { note, segments, names: first_names.unwrap_or_default(), findings })
    }

    /// Last segment that was freed before the first one here.
    pub(super) fn freed(&self) -> u64 {
        self.note.as_ref().map_or(0, Note::last)
    }
}
