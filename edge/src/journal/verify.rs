//! Proves a journal without any key that opens it.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::{
    Checkpoint, JournalError, Receipt,
    format::{MAX_SEGMENT, file_name},
    places::{Note, Places, Span},
    scan::{Depth, Segment, Walk},
    segment::io_at,
    subjects::{self, State, Table},
};
use crate::vfs::Vfs;

/// What others kept of the journal.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// Receipts of answers.
    pub receipts: Vec<Receipt>,
    /// Signed heads of the chain.
    pub checkpoints: Vec<Checkpoint>,
    /// Folders with segments that were offloaded.
    pub copies: Vec<PathBuf>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Number of the segment; 0 for what others kept.
    pub segment: u64,
    /// Stable name.
    pub code: &'static str,
    /// What was got and expected.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}: {}: {}", self.segment, self.code, self.detail)
    }
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
    /// Records lost at power cuts, as the device wrote down itself.
    pub recovered_losses: u64,
    /// How often the wall clock went backwards between records.
    pub clock_steps_back: u64,
    /// Records whose time the box did not trust itself.
    pub clock_untrusted: u64,
    /// What the box freed, by its signed word, and is not here.
    pub freed: Vec<Span>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing is wrong. A torn or unfinished tail of the last segment is told, and is not wrong by itself.
    pub fn intact(&self) -> bool {
        self.findings.is_empty()
    }

    /// Nothing is wrong, and the journal ends as it does when it is closed.
    pub fn complete(&self) -> bool {
        self.intact() && self.closed && self.torn_bytes == 0
    }
}

/// Verifies every segment, the chain through them, and what witnesses kept. Without a witness nobody can see that
/// a journal was cut off at a commit of its last segment.
///
/// # Errors
/// Files that cannot be read; what is wrong with their contents stands in the report.
pub fn verify(
    vfs: &dyn Vfs,
    dir: &Path,
    device: &VerifyingKey,
    witnesses: &Witnesses,
) -> Result<Report, JournalError> {
    let places = Places::look(vfs, dir, &witnesses.copies, device)?;
    let Some(&(last, _)) = places.segments.last() else {
        return Err(JournalError::Empty { dir: dir.to_owned() });
    };
    let mut report = Report::default();
    let mut walk = Walk::after(places.note.as_ref(), device, Depth::Every);
    places.findings.iter().for_each(|finding| walk.find(0, "freed", finding.clone()));
    report.freed = places.note.as_ref().map_or_else(Vec::new, |note| note.freed.clone());
    let mut claims = Claims::new(witnesses, device, &mut walk);
    claims.freed = (places.freed(), places.note.as_ref().and_then(Note::end).map_or(0, |end| end.next_index));
    for (number, folder) in &places.segments {
        let number = *number;
        let path = folder.join(file_name(number));
        let bytes = vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
        report.segments += 1;
        let Some(segment) = walk.step(number, &bytes) else { continue };
        let path = folder.join(subjects::file_name(number));
        let table = Table::read(vfs, &path).map_err(io_at("read", &path))?;
        report.shredded += check_subjects(&segment, &table, number == last, device, &mut walk);
        claims.check(&segment, &mut walk);
        report.journal.clone_from(&segment.header.journal);
        report.records += segment.records.len() as u64;
        report.recovered_losses += segment.header.previous.as_ref().map_or(0, |p| p.torn_records);
        report.clock_steps_back += segment.clock_steps_back;
        let doubted = segment.records.iter().filter(|placed| !placed.record.head.clock_trusted);
        report.clock_untrusted += doubted.count() as u64;
    }
    let (names, freed) = (&places.names, places.freed());
    for name in names.iter().filter(|name| subject_file_without(name, names, freed)) {
        walk.find(0, "subjects", format!("{name} belongs to no segment"));
    }
    if let Some(end) = walk.last() {
        if end.tail.commit.is_some() {
            let detail = end.damage().unwrap_or_else(|| "the last batch is signed and not whole".to_owned());
            walk.find(end.segment, "damaged", detail);
        }
        report.root = hex::encode(end.root);
        report.closed = end.closed;
        report.torn_bytes = end.tail.bytes;
    }
    claims.finish(&mut walk);
    report.findings = walk.findings;
    Ok(report)
}

fn subject_file_without(name: &str, names: &[String], freed: u64) -> bool {
    super::format::segment_of(name, subjects::END)
        .is_some_and(|number| number > freed && !names.contains(&file_name(number)))
}

/// Checks the table against the records that name its entries; how many records are shredded.
fn check_subjects(
    segment: &Segment<'_>,
    table: &Table,
    last: bool,
    device: &VerifyingKey,
    walk: &mut Walk,
) -> u64 {
    let used = Table::used_len(&segment.slots());
    let (journal, number) = (&segment.journal, segment.number);
    if used > 0 && !table.has_header(journal, number) {
        walk.find(number, "subjects", "the subject table is not of this segment".to_owned());
    }
    // The last table may be ahead of its segment while a batch is being written.
    if table.len() as u64 > used && !last {
        walk.find(number, "subjects", format!("the table has {} bytes, its records use {used}", table.len()));
    }
    let mut states = HashMap::new();
    let mut shredded = 0;
    for (slot, hash) in segment.records.iter().filter_map(|placed| placed.record.head.slot) {
        let state = *states.entry((slot, hash)).or_insert_with(|| {
            let state = table.state(journal, number, slot, &hash, device);
            if state == State::Wrong {
                walk.find(number, "subjects", format!("entry {slot} is gone, and not by the device"));
            }
            state
        });
        shredded += u64::from(state == State::Erased);
    }
    shredded
}

/// What witnesses say, by the place in the chain that it is about.
struct Claims<'w> {
    receipts: HashMap<u64, Vec<&'w Receipt>>,
    checkpoints: HashMap<(u64, u64), Vec<&'w Checkpoint>>,
    journals: Vec<&'w str>,
    /// Last segment and next index behind what was freed: no word on what came before can be compared here.
    freed: (u64, u64),
}

impl<'w> Claims<'w> {
    fn new(witnesses: &'w Witnesses, device: &VerifyingKey, walk: &mut Walk) -> Self {
        let mut claims = Self {
            receipts: HashMap::new(),
            checkpoints: HashMap::new(),
            journals: Vec::new(),
            freed: (0, 0),
        };
        for receipt in &witnesses.receipts {
            claims.journals.push(&receipt.journal);
            claims.receipts.entry(receipt.index).or_default().push(receipt);
        }
        for checkpoint in &witnesses.checkpoints {
            if !checkpoint.verify(device) {
                walk.find(0, "checkpoint", "a checkpoint is not signed by this device".to_owned());
                continue;
            }
            claims.journals.push(&checkpoint.journal);
            let place = (checkpoint.segment, checkpoint.records);
            claims.checkpoints.entry(place).or_default().push(checkpoint);
        }
        claims
    }

    fn check(&mut self, segment: &Segment<'_>, walk: &mut Walk) {
        if let Some(other) = self.journals.iter().find(|journal| **journal != segment.header.journal) {
            walk.find(0, "witness", format!("a witness knows the journal {other}"));
            self.journals.clear();
        }
        for placed in &segment.records {
            let index = placed.record.head.index;
            for receipt in self.receipts.remove(&index).unwrap_or_default() {
                let got = (hex::encode(placed.record.leaf), hex::encode(placed.after));
                if (&got.0, &got.1) != (&receipt.leaf, &receipt.root) {
                    walk.find(
                        segment.number,
                        "receipt",
                        format!("record {index} is not the one of the receipt"),
                    );
                }
            }
        }
        for (records, root) in &segment.heads {
            for checkpoint in self.checkpoints.remove(&(segment.number, *records)).unwrap_or_default() {
                if checkpoint.root != hex::encode(root) {
                    let detail = format!("the chain at {records} records is not the one of the checkpoint");
                    walk.find(segment.number, "checkpoint", detail);
                }
            }
        }
    }

    fn finish(self, walk: &mut Walk) {
        let (segment, index) = self.freed;
        let mut gone: Vec<u64> = self.receipts.into_keys().filter(|gone| *gone >= index).collect();
        gone.sort_unstable();
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            let detail = format!("{} receipts from {first} to {last} have no record", gone.len());
            walk.find(0, "truncated", detail);
        }
        for (segment, records) in self.checkpoints.into_keys().filter(|(of, _)| *of > segment) {
            walk.find(segment, "truncated", format!("the checkpoint at {records} records has no commit"));
        }
    }
}
