//! Reads segments without any key that opens them, and proves what can be proved: frames, order, chain, signatures,
//! and the links from one segment to the next.

use std::collections::HashSet;

use ed25519_dalek::VerifyingKey;

use super::{
    format::{
        COMMIT, Commit, HEADER, Hash, Header, JournalId, RECORD, Record, frame_at, root_of_header,
        root_of_leaf,
    },
    merkle::Tree,
    places::Note,
    verify::Finding,
};

/// A record with the head of the chain on either side of it.
pub(super) struct Placed<'a> {
    pub(super) record: Record<'a>,
    pub(super) before: Hash,
    pub(super) after: Hash,
}

/// What stands behind the last good commit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    pub(super) bytes: u64,
    /// Records that are whole, as far as they can be told.
    pub(super) records: u64,
    /// A signed commit in it: what it covers is not whole any more.
    pub(super) commit: Option<Commit>,
}

/// A segment up to its last good commit.
pub(super) struct Segment<'a> {
    pub(super) number: u64,
    pub(super) header: Header,
    pub(super) journal: JournalId,
    pub(super) records: Vec<Placed<'a>>,
    /// Heads of the chain at the start and at every commit: (next index, root).
    pub(super) heads: Vec<(u64, Hash)>,
    pub(super) end: End,
    pub(super) clock_steps_back: u64,
}

impl Segment<'_> {
    /// Entries of the subject table that the records name.
    pub(super) fn slots(&self) -> HashSet<u32> {
        self.records.iter().filter_map(|placed| Some(placed.record.head.slot?.0)).collect()
    }
}

/// How a segment ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) segment: u64,
    pub(super) commits: u64,
    pub(super) next_index: u64,
    pub(super) root: Hash,
    /// Length up to the last good commit.
    pub(super) bytes: u64,
    pub(super) closed: bool,
    pub(super) tail: Tail,
}

impl End {
    /// Records that a signed commit covers and that are gone; none where the tail is what a power cut leaves.
    pub(super) fn damage(&self) -> Option<String> {
        let commit = self.tail.commit?;
        (commit.commit > self.commits + 1).then(|| {
            format!(
                "damaged behind byte {}: {} records are whole, {} were committed",
                self.bytes, self.next_index, commit.records
            )
        })
    }

    /// The first index that no record ever had.
    pub(super) fn free_index(&self) -> u64 {
        self.tail.commit.map_or(self.next_index, |commit| commit.records.max(self.next_index))
    }
}

/// How much of a segment is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every signature.
    Every,
    /// The header's and the last commit's, which covers every record before it: for a quick start.
    Last,
}

/// Reads one segment by what it says of itself.
fn scan<'a>(
    bytes: &'a [u8],
    number: u64,
    device: &VerifyingKey,
    depth: Depth,
) -> Result<Segment<'a>, &'static str> {
    let frame =
        frame_at(bytes, 0).filter(|frame| frame.kind == HEADER).ok_or("it does not start as a segment")?;
    let header = Header::decode(frame.payload, device)?;
    let journal = header.journal_id().ok_or("the journal id is none")?;
    let mut root = [0; 32];
    if let Some(previous) = &header.previous {
        hex::decode_to_slice(&previous.root, &mut root).map_err(|_| "the previous root is none")?;
    }
    root = root_of_header(&root, frame.payload);
    let mut at = frame.end;
    let mut next_index = header.first_index;
    let mut records = Vec::<Placed<'a>>::new();
    let start = End {
        segment: number,
        commits: 0,
        next_index,
        root,
        bytes: at as u64,
        closed: false,
        tail: Tail::default(),
    };
    // Each place where the segment may end, with the proof that it does.
    let mut ends: Vec<(End, &[u8])> = vec![(start, &[])];
    let mut closed = false;
    let mut tree = Tree::default();
    while !closed && let Some(frame) = frame_at(bytes, at) {
        if frame.kind == RECORD {
            let Some(record) = Record::parse(frame.payload) else { break };
            if record.head.index != next_index {
                break;
            }
            let before = root;
            root = root_of_leaf(&root, &record.leaf);
            next_index += 1;
            if depth == Depth::Every {
                tree.push(record.leaf);
            }
            records.push(Placed { record, before, after: root });
        } else {
            let commits = ends.len() as u64;
            let Some(commit) = Commit::parse(frame.payload).filter(|_| frame.kind == COMMIT) else { break };
            let expected = (commits, header.first_index, next_index, root);
            if (commit.commit, commit.first, commit.records, commit.root) != expected {
                break;
            }
            if depth == Depth::Every && commit.tree != tree.head() {
                break;
            }
            closed = commit.closed;
            ends.push((
                End { commits, next_index, root, bytes: frame.end as u64, closed, ..start },
                frame.payload,
            ));
        }
        at = frame.end;
    }
    let proved = |payload: &[u8]| Commit::verify(payload, &journal, number, device).is_some();
    let good = match depth {
        Depth::Every => ends[1..].iter().take_while(|(_, payload)| proved(payload)).count(),
        Depth::Last => ends[1..].iter().rposition(|(_, payload)| proved(payload)).map_or(0, |last| last + 1),
    };
    ends.truncate(good + 1);
    let mut end = ends[good].0;
    let whole = (end.next_index - header.first_index) as usize;
    let behind = &bytes[end.bytes as usize..];
    end.tail = Tail {
        bytes: behind.len() as u64,
        records: (records.len() - whole) as u64,
        commit: Commit::find_last(behind, &journal, number, device)
            .filter(|commit| commit.commit > end.commits),
    };
    records.truncate(whole);
    let stepped = |pair: &&[Placed<'_>]| pair[1].record.head.unix_ms < pair[0].record.head.unix_ms;
    let clock_steps_back = records.windows(2).filter(stepped).count() as u64;
    let heads = ends.iter().map(|(end, _)| (end.next_index, end.root)).collect();
    Ok(Segment { number, header, journal, records, heads, end, clock_steps_back })
}

/// Goes through the segments of a journal in their order.
pub(super) struct Walk {
    device: VerifyingKey,
    depth: Depth,
    journal: Option<JournalId>,
    /// The segment before; none where it could not be read.
    previous: Option<End>,
    last_number: u64,
    pub(super) findings: Vec<Finding>,
}

impl Walk {
    /// Starts behind segment `behind`, which is not read; 0 starts at the beginning.
    pub(super) fn behind(behind: u64, device: &VerifyingKey, depth: Depth) -> Self {
        Self {
            device: *device,
            depth,
            journal: None,
            previous: None,
            last_number: behind,
            findings: Vec::new(),
        }
    }

    /// Starts behind what the box freed, with the chain as it ended there.
    pub(super) fn after(note: Option<&Note>, device: &VerifyingKey, depth: Depth) -> Self {
        let Some(note) = note else { return Self::behind(0, device, depth) };
        let mut walk = Self::behind(note.last(), device, depth);
        walk.journal = note.journal_id();
        walk.previous = note.end();
        walk
    }

    pub(super) fn find(&mut self, segment: u64, code: &'static str, detail: String) {
        self.findings.push(Finding { segment, code, detail });
    }

    /// Reads the next segment; none where its header proves nothing.
    pub(super) fn step<'a>(&mut self, number: u64, bytes: &'a [u8]) -> Option<Segment<'a>> {
        if number != self.last_number + 1 {
            let detail = format!("segment {number} follows {}: {} are gone", self.last_number, {
                number.saturating_sub(self.last_number + 1)
            });
            self.find(number, "gap", detail);
            self.previous = None;
        }
        let started = self.last_number > 0;
        self.last_number = number;
        let segment = match scan(bytes, number, &self.device, self.depth) {
            Ok(segment) => segment,
            Err(reason) => {
                self.judge_previous(None);
                self.find(number, "header", reason.to_owned());
                return None;
            }
        };
        if segment.header.segment != number {
            let detail = format!("the file of segment {number} holds segment {}", segment.header.segment);
            self.find(number, "number", detail);
        }
        if *self.journal.get_or_insert(segment.journal) != segment.journal {
            self.find(number, "journal", format!("it belongs to the journal {}", segment.header.journal));
        }
        self.link(&segment, started);
        self.previous = Some(segment.end);
        Some(segment)
    }

    fn link(&mut self, segment: &Segment<'_>, started: bool) {
        let header = &segment.header;
        let (first, link) = (header.first_index, header.previous.clone());
        if !started {
            if first != 0 || link.is_some() {
                self.find(segment.number, "start", "the first segment continues another one".to_owned());
            }
            return;
        }
        let Some(end) = self.previous else { return };
        let Some(link) = link else {
            self.find(segment.number, "link", "the segment before is not named".to_owned());
            return self.judge_previous(None);
        };
        // Damage that the device wrote down is told once, where it is, and the chain goes on behind it.
        let accepted = !link.damage.is_empty();
        let expected = if accepted { end.free_index() } else { end.next_index };
        if (link.root.as_str(), link.bytes, link.closed, first)
            != (hex::encode(end.root).as_str(), end.bytes, end.closed, expected)
        {
            let detail = format!(
                "it continues {} records and {} bytes, the segment before holds {expected} and {}",
                first, link.bytes, end.bytes
            );
            self.find(segment.number, "link", detail);
        }
        self.judge_previous(if accepted { None } else { Some(link.torn_bytes) });
    }

    /// Judges what stands behind the last commit of the segment before: fine where the next header owns up to it.
    fn judge_previous(&mut self, torn_bytes: Option<u64>) {
        let Some(end) = self.previous.take() else { return };
        if end.tail.bytes == 0 || torn_bytes == Some(end.tail.bytes) {
            return;
        }
        let detail =
            end.damage().unwrap_or_else(|| format!("{} bytes behind the last commit", end.tail.bytes));
        self.find(end.segment, "damaged", detail);
    }

    /// How the last segment ends; none where it could not be read.
    pub(super) fn last(&self) -> Option<End> {
        self.previous
    }
}
