//! What opening a journal does before the first record: looks at what is there, proves it, and says what was lost.

use std::path::Path;

use super::{
    JournalConfig, JournalError, KnownRequests, Recovery,
    format::{Commit, Header, JournalId, MAX_HEADER, MAX_SEGMENT, Previous, file_name, segment_of},
    places::Places,
    scan::{Depth, End, Segment, Walk},
    segment::{Position, io_at},
    subjects::{self, Table},
};

/// Where a journal goes on.
pub(super) struct Resumed {
    pub(super) journal: JournalId,
    pub(super) next_segment: u64,
    pub(super) position: Position,
    pub(super) previous: Option<Previous>,
    pub(super) recovery: Recovery,
    /// Time of the last record that was written while the clock was trusted; 0 where none is known.
    pub(super) trusted_ms: u64,
    /// Bytes of the last segments, and the time in which they came, in milliseconds.
    pub(super) growth: (u64, u64),
    /// What is cut off once the new header, which owns up to it, is durable.
    pub(super) cuts: Vec<Cut>,
}

impl Resumed {
    /// The start of a journal that is not there yet.
    pub(super) fn fresh(journal: JournalId) -> Self {
        Self {
            journal,
            next_segment: 1,
            position: Position { next_index: 0, root: [0; 32] },
            previous: None,
            recovery: Recovery { clean: true, ..Recovery::default() },
            trusted_ms: 0,
            growth: (0, 0),
            cuts: Vec::new(),
        }
    }
}

/// Bytes behind the end of a file.
pub(super) struct Cut {
    pub(super) name: String,
    pub(super) len: u64,
}

/// Reads the last segments; none where the folder holds no journal.
pub(super) fn resume(
    dir: &Path,
    config: &JournalConfig,
    known: &KnownRequests,
) -> Result<Option<Resumed>, JournalError> {
    let names = config.vfs.list(dir).map_err(io_at("list", dir))?;
    for name in names.iter().filter(|name| name.ends_with(".seg.tmp")) {
        config.vfs.remove(&dir.join(name)).map_err(io_at("remove", dir.join(name)))?;
    }
    let device = config.device_key.verifying_key();
    let places = Places::look(&*config.vfs, dir, &[], &device)?;
    let numbers: Vec<u64> = places.segments.iter().map(|(number, _)| *number).collect();
    if numbers.is_empty() {
        let mut findings = places.findings;
        if names.iter().any(|name| name.ends_with(subjects::END)) {
            findings.push("subject tables without segments".to_owned());
        }
        if places.note.is_some() {
            findings.push("nothing follows the segments that were freed".to_owned());
        }
        if findings.is_empty() {
            return Ok(None);
        }
        return Err(JournalError::Lost { dir: dir.to_owned(), findings });
    }
    remove_freed(dir, config, &names, places.freed())?;
    let last = numbers[numbers.len() - 1];
    let window = window(dir, config, &numbers)?;
    let mut found = Found::default();
    // A chain that starts in the middle has no segment before to be compared with.
    let mut walk = match window.len() == numbers.len() {
        true => Walk::after(places.note.as_ref(), &device, Depth::Last),
        false => Walk::behind(window[0] - 1, &device, Depth::Last),
    };
    places.findings.iter().for_each(|finding| walk.find(0, "freed", finding.clone()));
    for number in window {
        let path = dir.join(file_name(number));
        let bytes = config.vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
        match walk.step(number, &bytes) {
            Some(segment) => {
                if segment.header.previous.as_ref().is_some_and(|previous| !previous.damage.is_empty()) {
                    // An operator let this pass when the segment was started.
                    walk.findings.clear();
                } else if let Some(end) = found.end.filter(|end| end.tail.bytes > 0) {
                    // A power cut came between the header that owns up to a torn tail and the cut.
                    found.cuts.push(Cut { name: file_name(end.segment), len: end.bytes });
                }
                if segment.end.damage().is_none() {
                    found.cuts.extend(unused_subjects(dir, config, &segment)?);
                }
                found.take(&segment, known);
            }
            None => {
                let commit = found.journal.and_then(|id| Commit::find_last(&bytes, &id, number, &device));
                found.free_index = found.free_index.max(commit.map_or(0, |commit| commit.records));
            }
        }
    }
    let mut damage: Vec<String> = walk.findings.iter().map(ToString::to_string).collect();
    let tail = walk.last().and_then(|end| Some(format!("segment {}: {}", end.segment, end.damage()?)));
    damage.extend(tail);
    match (found.journal, found.end) {
        (Some(journal), Some(end)) if damage.is_empty() || config.accept_damage => {
            Ok(Some(found.resume(journal, end, last, damage)))
        }
        (Some(_), Some(_)) => Err(JournalError::Damaged { dir: dir.to_owned(), findings: damage }),
        _ => Err(JournalError::Lost { dir: dir.to_owned(), findings: damage }),
    }
}

/// Removes what a power cut left of segments that were freed.
fn remove_freed(
    dir: &Path,
    config: &JournalConfig,
    names: &[String],
    freed: u64,
) -> Result<(), JournalError> {
    for name in names {
        let number = [".seg", subjects::END].iter().find_map(|end| segment_of(name, end));
        if number.is_some_and(|number| number <= freed) {
            config.vfs.remove(&dir.join(name)).map_err(io_at("remove", dir.join(name)))?;
        }
    }
    Ok(())
}

/// The last segments that hold the requests to remember, two at least.
fn window(dir: &Path, config: &JournalConfig, numbers: &[u64]) -> Result<Vec<u64>, JournalError> {
    let mut window = Vec::new();
    let mut newest = None;
    for number in numbers.iter().rev() {
        window.push(*number);
        let path = dir.join(file_name(*number));
        let start = config.vfs.read_start(&path, MAX_HEADER).map_err(io_at("read", &path))?;
        // Not proved here: a wrong number makes the window wider or narrower, and the walk looks at it closely.
        let Some(header) = Header::peek(&start) else { continue };
        let newest = *newest.get_or_insert(header.first_index);
        // Segments without records, which one start after another left behind, never fill it.
        if window.len() > 1 && newest.saturating_sub(header.first_index) >= config.remember.max(1) as u64 {
            break;
        }
    }
    window.reverse();
    Ok(window)
}

/// Entries of the subject table that no record names: their batch never became durable. In every segment that is
/// read, because the power may have gone again before the last start came to it.
fn unused_subjects(
    dir: &Path,
    config: &JournalConfig,
    segment: &Segment<'_>,
) -> Result<Option<Cut>, JournalError> {
    let name = subjects::file_name(segment.number);
    let path = dir.join(&name);
    let table = Table::read(&*config.vfs, &path).map_err(io_at("read", &path))?;
    let len = Table::used_len(&segment.slots());
    Ok((table.len() as u64 > len).then_some(Cut { name, len }))
}

#[derive(Default)]
struct Found {
    journal: Option<JournalId>,
    /// End of the last segment that proves anything.
    end: Option<End>,
    free_index: u64,
    cuts: Vec<Cut>,
    trusted_ms: u64,
    /// Bytes so far, and the times at which the first of these segments began and the last record came.
    bytes: u64,
    since: Option<u64>,
}

impl Found {
    fn take(&mut self, segment: &Segment<'_>, known: &KnownRequests) {
        self.bytes += segment.end.bytes;
        if segment.header.clock_trusted {
            self.since.get_or_insert(segment.header.unix_ms);
        }
        for head in segment.records.iter().map(|placed| &placed.record.head) {
            if head.clock_trusted {
                self.trusted_ms = head.unix_ms;
            }
            if let Some(request) = head.request {
                known.insert(request, head.repeat_of.unwrap_or(head.index), head.bundle);
            }
        }
        self.journal = Some(segment.journal);
        self.free_index = self.free_index.max(segment.end.free_index());
        self.end = Some(segment.end);
    }

    fn resume(mut self, journal: JournalId, end: End, last: u64, damage: Vec<String>) -> Resumed {
        let torn_records = match end.tail.commit {
            Some(commit) => commit.records.saturating_sub(end.next_index),
            None => end.tail.records,
        };
        let recovery = Recovery {
            records: end.next_index,
            torn_bytes: end.tail.bytes,
            torn_records,
            clean: end.closed && end.tail.bytes == 0 && damage.is_empty(),
            damage: damage.clone(),
        };
        let mut next_index = end.next_index;
        if !damage.is_empty() {
            // Damaged records stay where they are, as evidence, and their indices stay theirs: somebody may hold
            // receipts for them.
            self.cuts.clear();
            next_index = self.free_index;
        } else if end.tail.bytes > 0 {
            self.cuts.push(Cut { name: file_name(end.segment), len: end.bytes });
        }
        Resumed {
            journal,
            next_segment: last + 1,
            position: Position { next_index, root: end.root },
            previous: Some(Previous {
                root: hex::encode(end.root),
                bytes: end.bytes,
                closed: end.closed,
                torn_bytes: end.tail.bytes,
                torn_records,
                damage,
            }),
            recovery,
            trusted_ms: self.trusted_ms,
            growth: match self.since {
                Some(since) if self.trusted_ms > since => (self.bytes, self.trusted_ms - since),
                _ => (0, 0),
            },
            cuts: self.cuts,
        }
    }
}
