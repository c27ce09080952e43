//! Opens a journal with a recipient's private key.

use std::{collections::VecDeque, fmt::Write as _, path::Path};

use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use super::{
    JournalError, Receipt,
    format::{Header, MAX_HEADER, MAX_SEGMENT, associated_data, file_name},
    places::Places,
    receipt,
    scan::{Depth, Placed, Segment, Walk},
    seal::{Purpose, Secret, decrypt, open, unwrap},
    segment::io_at,
    subjects::{self, State, Table},
};
use crate::{keys::Identity, vfs::Vfs};

/// What is in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The entry as it was appended.
    Open(Zeroizing<Vec<u8>>),
    /// The subject's key was erased.
    Shredded,
    /// The segment is sealed to others only.
    SealedToOthers,
}

/// A record, opened.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Segment it lies in.
    pub segment: u64,
    /// What the asker was given.
    pub receipt: Receipt,
    /// When it was written, milliseconds since 1970.
    pub unix_ms: u64,
    /// Whether the box trusted its clock then.
    pub clock_trusted: bool,
    /// Digest of the bundle that answered, hexadecimal.
    pub bundle: String,
    /// Record that it repeats.
    pub repeat_of: Option<u64>,
    /// The entry.
    pub content: Content,
}

impl Exported {
    /// One line of JSON, without the line's end: `index, segment, unix_ms, clock_trusted, bundle, repeat_of, receipt` and either
    /// `record`, the entry as it was appended, or `unreadable` with the reason.
    pub fn to_json_line(&self) -> Zeroizing<String> {
        let Self { segment, receipt, unix_ms, clock_trusted, bundle, .. } = self;
        let Receipt { journal, index, leaf, root } = receipt;
        let repeat_of = self.repeat_of.map_or_else(|| "null".to_owned(), |index| index.to_string());
        let plaintext = if let Content::Open(bytes) = &self.content { bytes.as_slice() } else { &[] };
        // Room for all of it: a reallocation would leave a copy behind.
        let mut line = Zeroizing::new(String::with_capacity(plaintext.len() * 2 + 1024));
        // Writing into a text cannot fail; all the texts here are hexadecimal.
        let _ = write!(
            line,
            r#"{{"index":{index},"segment":{segment},"unix_ms":{unix_ms},"clock_trusted":{clock_trusted},"bundle":"{bundle}","repeat_of":{repeat_of},"receipt":{{"journal":"{journal}","index":{index},"leaf":"{leaf}","root":"{root}"}},"#
        );
        match &self.content {
            Content::Open(bytes) => match json_text(bytes) {
                // A line break in valid JSON is white space: inside a text it would be escaped.
                Some(text) => {
                    line.push_str(r#""record":"#);
                    line.extend(text.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
                }
                None => {
                    let _ = write!(line, r#""record_hex":"{}""#, &*Zeroizing::new(hex::encode(&**bytes)));
                }
            },
            Content::Shredded => line.push_str(r#""unreadable":"shredded""#),
            Content::SealedToOthers => line.push_str(r#""unreadable":"sealed_to_others""#),
        }
        line.push('}');
        line
    }
}

fn json_text(bytes: &[u8]) -> Option<&str> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).ok()?;
    std::str::from_utf8(bytes).ok()
}

/// Verifies a journal and opens its records one after the other, one segment in memory at a time. Damage is an
/// error among the records, told before those of the segment in which it is noticed; the walk goes on behind it.
///
/// # Errors
/// An identity that opens nothing, files that cannot be read.
pub fn export<'a>(
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    device: &VerifyingKey,
    identity: &'a Identity,
) -> Result<impl Iterator<Item = Result<Exported, JournalError>> + use<'a>, JournalError> {
    let device = *device;
    let places = Places::look(vfs, dir, &[], &device)?;
    let numbers: Vec<u64> = places.segments.iter().map(|(number, _)| *number).collect();
    if numbers.is_empty() {
        return Err(JournalError::Empty { dir: dir.to_owned() });
    }
    check_identity(vfs, dir, identity, &numbers)?;
    let mut walk = Walk::after(places.note.as_ref(), &device, Depth::Every);
    places.findings.iter().for_each(|finding| walk.find(0, "freed", finding.clone()));
    let mut numbers = VecDeque::from(numbers);
    let mut ready = VecDeque::new();
    Ok(std::iter::from_fn(move || {
        while ready.is_empty() {
            let number = numbers.pop_front()?;
            let records = read(vfs, dir, &device, identity, number, &mut walk);
            let mut findings: Vec<String> = walk.findings.drain(..).map(|f| f.to_string()).collect();
            if numbers.is_empty() {
                findings.extend(walk.last().and_then(|end| end.damage()));
            }
            if !findings.is_empty() {
                ready.push_back(Err(JournalError::Damaged { dir: dir.to_owned(), findings }));
            }
            match records {
                Ok(records) => ready.extend(records.into_iter().map(Ok)),
                Err(error) => ready.push_back(Err(error)),
            }
        }
        ready.pop_front()
    }))
}

/// Refuses an identity that no segment is sealed to, before a whole journal is read for nothing.
fn check_identity(
    vfs: &dyn Vfs,
    dir: &Path,
    identity: &Identity,
    numbers: &[u64],
) -> Result<(), JournalError> {
    let id = identity.recipient().id();
    let mut recipients = std::collections::BTreeSet::new();
    for number in numbers {
        let path = dir.join(file_name(*number));
        let start = vfs.read_start(&path, MAX_HEADER).map_err(io_at("read", &path))?;
        for sealed in Header::peek(&start).into_iter().flat_map(|header| header.recipients) {
            if sealed.recipient == id {
                return Ok(());
            }
            recipients.insert(sealed.recipient);
        }
    }
    Err(JournalError::WrongIdentity {
        identity: id,
        segments: numbers.len() as u64,
        recipients: recipients.into_iter().collect(),
    })
}

fn read(
    vfs: &dyn Vfs,
    dir: &Path,
    device: &VerifyingKey,
    identity: &Identity,
    number: u64,
    walk: &mut Walk,
) -> Result<Vec<Exported>, JournalError> {
    let path = dir.join(file_name(number));
    let bytes = vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
    let Some(segment) = walk.step(number, &bytes) else { return Ok(Vec::new()) };
    let path = dir.join(subjects::file_name(number));
    let table = Table::read(vfs, &path).map_err(io_at("read", &path))?;
    let key = open(identity, &segment.journal, number, &segment.header.recipients);
    let mut records = Vec::with_capacity(segment.records.len());
    for placed in &segment.records {
        let content = match &key {
            None => Some(Content::SealedToOthers),
            Some(key) => content(&segment, placed, key, &table, device),
        };
        let head = &placed.record.head;
        let Some(content) = content else {
            walk.find(number, "sealed", format!("record {} does not open with its key", head.index));
            continue;
        };
        records.push(Exported {
            segment: number,
            receipt: receipt(&segment.header.journal, head.index, &placed.record.leaf, &placed.after),
            unix_ms: head.unix_ms,
            clock_trusted: head.clock_trusted,
            bundle: hex::encode(head.bundle),
            repeat_of: head.repeat_of,
            content,
        });
    }
    Ok(records)
}

/// None where the record is not what its key sealed.
fn content(
    segment: &Segment<'_>,
    placed: &Placed<'_>,
    key: &Secret,
    table: &Table,
    device: &VerifyingKey,
) -> Option<Content> {
    let (journal, number, record) = (&segment.journal, segment.number, &placed.record);
    let subject_key = match record.head.slot {
        None => None,
        Some((slot, hash)) => match table.state(journal, number, slot, &hash, device) {
            State::Live => Some(table.key(journal, number, slot, key)?),
            State::Erased => return Some(Content::Shredded),
            State::Wrong => return None,
        },
    };
    let aad = associated_data(journal, number, &placed.before, record.head_bytes);
    let outer = subject_key.as_ref().unwrap_or(key);
    let data_key = unwrap(outer, Purpose::DataKey, record.head.index, record.wrapped, &aad)?;
    let plaintext = decrypt(&data_key, Purpose::Record, record.head.index, record.ciphertext, &aad)?;
    Some(Content::Open(plaintext))
}
