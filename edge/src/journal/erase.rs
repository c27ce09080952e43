//! Makes everything of a subject unreadable, for ever, in one folder of a journal.

use std::{collections::HashSet, path::Path};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{
    JournalError,
    format::{FRAME, JournalId, MAX_SEGMENT, RECORD, Record, file_name, frame_at},
    segment::io_at,
    subjects::{self, Table},
};
use crate::{keys::IndexKey, vfs::Vfs};

/// What was made unreadable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Records that nobody opens any more.
    pub records: u64,
    /// Keys that were overwritten.
    pub keys: u64,
    /// Segments in which they lay.
    pub segments: u64,
}

impl Erased {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            keys: self.keys + other.keys,
            segments: self.segments + other.segments,
        }
    }
}

/// Who erases.
pub(super) struct Eraser<'a> {
    pub(super) vfs: &'a dyn Vfs,
    pub(super) journal: JournalId,
    pub(super) device_key: &'a SigningKey,
    pub(super) index_key: &'a IndexKey,
    pub(super) unix_ms: u64,
}

impl Eraser<'_> {
    /// Overwrites the subject's keys of one segment; durable on return. Can be repeated when it failed half-way.
    pub(super) fn erase(&self, dir: &Path, number: u64, subject: &str) -> Result<Erased, JournalError> {
        let device = self.device_key.verifying_key();
        let tag = self.index_key.subject(&self.journal, number, subject);
        let path = dir.join(subjects::file_name(number));
        let table = Table::read(self.vfs, &path).map_err(io_at("read", &path))?;
        let slots = table.slots_of(&tag, &self.journal, number, &device);
        if slots.is_empty() {
            return Ok(Erased::default());
        }
        let mut file = self.vfs.open(&path).map_err(io_at("open", &path))?;
        for slot in &slots {
            subjects::erase(&mut *file, &self.journal, number, *slot, &tag, self.unix_ms, self.device_key)
                .map_err(io_at("erase in", &path))?;
        }
        let slots: HashSet<u32> = slots.into_iter().collect();
        let path = dir.join(file_name(number));
        let bytes = self.vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
        Ok(Erased { records: records_of(&bytes, &slots), keys: slots.len() as u64, segments: 1 })
    }
}

/// Records that name one of these entries of the table.
fn records_of(bytes: &[u8], slots: &HashSet<u32>) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(frame) = frame_at(bytes, at) {
        let slot = (frame.kind == RECORD).then(|| Record::parse(frame.payload)).flatten();
        let named = slot.and_then(|record| record.head.slot);
        count += u64::from(named.is_some_and(|(slot, _)| slots.contains(&slot)));
        at = frame.end.max(at + FRAME);
    }
    count
}
