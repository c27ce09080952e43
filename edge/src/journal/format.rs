//! The bytes of a segment: frames, header, records, commits.
//!
//! A segment is a run of frames, each a kind (u8), a length (u32, little-endian) and that many bytes. The first is
//! a header: JSON, then the device's Ed25519 signature over it. Then come records, in batches that each end with
//! a commit: a signed head of the chain and of the segment's Merkle tree (RFC 6962). What stands behind the last
//! good commit was never answered for.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(super) type Hash = [u8; 32];
pub(super) type JournalId = [u8; 16];

pub(super) const HEADER: u8 = b'H';
pub(super) const RECORD: u8 = b'R';
pub(super) const COMMIT: u8 = b'C';
/// Bytes in front of a frame's payload.
pub(super) const FRAME: usize = 5;
/// Longest plaintext of a record, in bytes.
pub const MAX_ENTRY: usize = 16 << 20;
/// Longest segment that is read or written, in bytes.
pub(super) const MAX_SEGMENT: u64 = 1 << 30;
/// Longest header frame, in bytes: [`MAX_RECIPIENTS`] take half of it.
pub(super) const MAX_HEADER: u64 = 64 << 10;
/// Most recipients of a segment.
pub(super) const MAX_RECIPIENTS: usize = 128;
const SIGNATURE: usize = 64;
/// Bytes of a body's hash that are kept: enough to tell a reused id, too few to tell what was asked.
pub(super) const BODY: usize = 2;
/// Bytes of a terminal's hash that are kept.
pub(super) const TERMINAL: usize = 8;
const HEAD: usize = 125 + BODY + TERMINAL;
/// Data key and tag.
pub(super) const WRAPPED: usize = 48;
const TAG: usize = 16;
/// Bytes of a record's frame beside its plaintext.
pub(super) const RECORD_OVERHEAD: usize = FRAME + HEAD + WRAPPED + TAG;
pub(super) const COMMIT_LEN: usize = 3 * 8 + 2 * 32 + 8 + 1 + SIGNATURE;
/// Most records that a journal counts: behind it, numbers of the next ones would overflow.
pub(super) const MAX_RECORDS: u64 = u64::MAX / 4;
/// Version of the format. Version 1 had no Merkle tree and was never outside of tests.
pub(super) const FORMAT: u32 = 2;

pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:08}.seg")
}

/// The number of a segment's file name.
pub(super) fn segment_of(name: &str, end: &str) -> Option<u64> {
    let digits = name.strip_suffix(end)?;
    let number = digits.parse().ok()?;
    // One name per number: `+1.seg` and `1.seg` are not ours.
    (number > 0 && format!("{number:08}") == digits).then_some(number)
}

pub(super) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// One frame of a segment.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Offset behind it.
    pub(super) end: usize,
}

/// The frame at an offset; none where the bytes end inside it or are none.
pub(super) fn frame_at(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<FRAME>()?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let payload = rest.get(..len)?;
    matches!(head[0], HEADER | RECORD | COMMIT).then_some(Frame {
        kind: head[0],
        payload,
        end: at + FRAME + len,
    })
}

pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend((len as u32).to_le_bytes());
    payload.iter().for_each(|part| out.extend(*part));
}

/// The segment key, sealed to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedKey {
    /// Id of the recipient.
    pub(crate) recipient: String,
    /// HPKE encapsulated key, hexadecimal.
    pub(crate) enc: String,
    /// The sealed key, hexadecimal.
    pub(crate) key: String,
}

/// What a segment says of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Previous {
    /// Head of the chain at its last commit, hexadecimal.
    pub(super) root: String,
    /// Its length up to there.
    pub(super) bytes: u64,
    /// Whether it was closed.
    pub(super) closed: bool,
    /// Bytes behind, which were cut off.
    pub(super) torn_bytes: u64,
    /// Records in them.
    pub(super) torn_records: u64,
    /// Damage that an operator accepted.
    pub(super) damage: Vec<String>,
}

/// The head of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) journal: String,
    pub(super) segment: u64,
    pub(super) first_index: u64,
    pub(super) unix_ms: u64,
    /// Whether the box trusted its clock then.
    pub(super) clock_trusted: bool,
    pub(super) previous: Option<Previous>,
    pub(super) recipients: Vec<SealedKey>,
}

const HEADER_DOMAIN: &[u8] = b"locus-segment-v1\0";

impl Header {
    /// The payload: JSON and signature.
    pub(super) fn encode(&self, key: &SigningKey) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("texts and whole numbers serialise");
        let signature = key.sign(&[HEADER_DOMAIN, &bytes].concat());
        bytes.extend(signature.to_bytes());
        bytes
    }

    pub(super) fn decode(payload: &[u8], key: &VerifyingKey) -> Result<Self, &'static str> {
        let (json, signature) =
            payload.split_last_chunk::<SIGNATURE>().ok_or("the header is too short for a signature")?;
        key.verify_strict(&[HEADER_DOMAIN, json].concat(), &Signature::from_bytes(signature))
            .map_err(|_| "the header's signature is not this device's")?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = "the header is not what it should be";
        let Format { format } = serde_json::from_slice(json).map_err(|_| wrong)?;
        if format != FORMAT {
            return Err(
                "the header has another format than 2: read it with the version of locusctl that wrote it",
            );
        }
        let header: Self = serde_json::from_slice(json).map_err(|_| wrong)?;
        if header.first_index > MAX_RECORDS { Err("no journal has so many records") } else { Ok(header) }
    }

    /// What the start of a segment says, unproved.
    pub(super) fn peek(start: &[u8]) -> Option<Self> {
        let frame = frame_at(start, 0)?;
        serde_json::from_slice(frame.payload.split_last_chunk::<SIGNATURE>()?.0).ok()
    }

    pub(super) fn journal_id(&self) -> Option<JournalId> {
        let mut id = [0; 16];
        hex::decode_to_slice(&self.journal, &mut id).ok()?;
        Some(id)
    }
}

/// The head of the chain where a segment starts.
pub(super) fn root_of_header(root: &Hash, payload: &[u8]) -> Hash {
    sha256(&[b"locus-head-v1\0", root, &sha256(&[payload])])
}

/// The head of the chain behind a record.
pub(super) fn root_of_leaf(root: &Hash, leaf: &Hash) -> Hash {
    sha256(&[b"locus-root-v1\0", root, leaf])
}

/// The part of a record that is not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) index: u64,
    pub(super) unix_ms: u64,
    /// Hashes of the id and of the body; none where the request had no id.
    pub(super) request: Option<(Hash, [u8; BODY])>,
    pub(super) bundle: Hash,
    pub(super) repeat_of: Option<u64>,
    /// Entry of the subject table that holds the key, and its hash.
    pub(super) slot: Option<(u32, Hash)>,
    /// Who asked, hashed.
    pub(super) terminal: Option<[u8; TERMINAL]>,
    /// Whether the box trusted its clock.
    pub(super) clock_trusted: bool,
}

impl Head {
    pub(super) fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        let (slot, slot_hash) = self.slot.unwrap_or((0, [0; 32]));
        let (id, body) = self.request.unwrap_or(([0; 32], [0; BODY]));
        out[..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..16].copy_from_slice(&self.unix_ms.to_le_bytes());
        out[16] = u8::from(self.repeat_of.is_some())
            | u8::from(self.slot.is_some()) << 1
            | u8::from(self.request.is_some()) << 2
            | u8::from(self.terminal.is_some()) << 3
            | u8::from(!self.clock_trusted) << 4;
        out[17..49].copy_from_slice(&id);
        out[49..51].copy_from_slice(&body);
        out[51..83].copy_from_slice(&self.bundle);
        out[83..91].copy_from_slice(&self.repeat_of.unwrap_or(0).to_le_bytes());
        out[91..95].copy_from_slice(&slot.to_le_bytes());
        out[95..127].copy_from_slice(&slot_hash);
        out[127..].copy_from_slice(&self.terminal.unwrap_or_default());
        out
    }

    fn decode(bytes: &[u8; HEAD]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let hash = |at: usize| -> Hash { bytes[at..at + 32].try_into().expect("32 bytes") };
        let slot = u32::from_le_bytes(bytes[91..95].try_into().expect("four bytes"));
        Self {
            index: word(0),
            unix_ms: word(8),
            request: (bytes[16] & 4 != 0).then(|| (hash(17), [bytes[49], bytes[50]])),
            bundle: hash(51),
            repeat_of: (bytes[16] & 1 != 0).then(|| word(83)),
            slot: (bytes[16] & 2 != 0).then(|| (slot, hash(95))),
            terminal: (bytes[16] & 8 != 0).then(|| bytes[127..].try_into().expect("eight bytes")),
            clock_trusted: bytes[16] & 16 == 0,
        }
    }
}

/// A record as it lies in a segment.
pub(super) struct Record<'a> {
    pub(super) head: Head,
    /// The same as bytes, which the encryption is bound to.
    pub(super) head_bytes: &'a [u8],
    pub(super) wrapped: &'a [u8; WRAPPED],
    pub(super) ciphertext: &'a [u8],
    pub(super) leaf: Hash,
}

impl<'a> Record<'a> {
    /// None where the payload is too short.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD>()?;
        let (wrapped, ciphertext) = rest.split_first_chunk::<WRAPPED>()?;
        if ciphertext.len() < TAG {
            return None;
        }
        let leaf = leaf_of(payload);
        Some(Self { head: Head::decode(head), head_bytes: head, wrapped, ciphertext, leaf })
    }
}

pub(super) fn leaf_of(payload: &[u8]) -> Hash {
    sha256(&[b"locus-leaf-v1\0", payload])
}

/// What the encryption of a record is bound to.
pub(super) fn associated_data(journal: &JournalId, segment: u64, root: &Hash, head: &[u8]) -> Vec<u8> {
    [b"locus-record-v1\0".as_slice(), journal, &segment.to_le_bytes(), root, head].concat()
}

/// The head of the chain at a commit, signed by the device: what a witness outside the box keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Journal id, hexadecimal.
    pub journal: String,
    /// Number of the segment.
    pub segment: u64,
    /// Number of the commit in the segment, from 1; 0 for a segment without one.
    pub commit: u64,
    /// Index of the segment's first record.
    pub first: u64,
    /// Index of the next record.
    pub records: u64,
    /// Head of the chain, hexadecimal.
    pub root: String,
    /// Head of the Merkle tree (RFC 6962) over the segment's records so far, hexadecimal.
    pub tree: String,
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    /// Whether the segment ends here.
    pub closed: bool,
    /// Ed25519 signature of the device, hexadecimal.
    pub signature: String,
}

/// A commit as it lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) commit: u64,
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) root: Hash,
    pub(super) tree: Hash,
    pub(super) unix_ms: u64,
    pub(super) closed: bool,
}

impl Commit {
    fn fields(&self) -> [u8; COMMIT_LEN - SIGNATURE] {
        let mut out = [0; COMMIT_LEN - SIGNATURE];
        out[..8].copy_from_slice(&self.commit.to_le_bytes());
        out[8..16].copy_from_slice(&self.first.to_le_bytes());
        out[16..24].copy_from_slice(&self.records.to_le_bytes());
        out[24..56].copy_from_slice(&self.root);
        out[56..88].copy_from_slice(&self.tree);
        out[88..96].copy_from_slice(&self.unix_ms.to_le_bytes());
        out[96] = u8::from(self.closed);
        out
    }

    fn message(journal: &JournalId, segment: u64, fields: &[u8]) -> Vec<u8> {
        [b"locus-checkpoint-v2\0".as_slice(), journal, &segment.to_le_bytes(), fields].concat()
    }

    /// The payload, and the same for a witness.
    pub(super) fn sign(
        &self,
        journal: &JournalId,
        segment: u64,
        key: &SigningKey,
    ) -> ([u8; COMMIT_LEN], Checkpoint) {
        let fields = self.fields();
        let signature = key.sign(&Self::message(journal, segment, &fields)).to_bytes();
        let mut payload = [0; COMMIT_LEN];
        payload[..fields.len()].copy_from_slice(&fields);
        payload[fields.len()..].copy_from_slice(&signature);
        let checkpoint = Checkpoint {
            journal: hex::encode(journal),
            segment,
            commit: self.commit,
            first: self.first,
            records: self.records,
            root: hex::encode(self.root),
            tree: hex::encode(self.tree),
            unix_ms: self.unix_ms,
            closed: self.closed,
            signature: hex::encode(signature),
        };
        (payload, checkpoint)
    }

    /// None where it is not this device's commit of this segment.
    pub(super) fn verify(
        payload: &[u8],
        journal: &JournalId,
        segment: u64,
        key: &VerifyingKey,
    ) -> Option<Self> {
        let commit = Self::parse(payload)?;
        let (fields, signature) = payload.split_last_chunk::<SIGNATURE>()?;
        key.verify_strict(&Self::message(journal, segment, fields), &Signature::from_bytes(signature))
            .ok()?;
        Some(commit)
    }

    /// What it says, proved or not; none where it is not what [`Commit::sign`] writes.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let fields = <&[u8; COMMIT_LEN]>::try_from(payload).ok()?;
        let word = |at: usize| u64::from_le_bytes(fields[at..at + 8].try_into().expect("eight bytes"));
        let said = Self {
            commit: word(0),
            first: word(8),
            records: word(16),
            root: fields[24..56].try_into().expect("32 bytes"),
            tree: fields[56..88].try_into().expect("32 bytes"),
            unix_ms: word(88),
            closed: fields[96] == 1,
        };
        (fields[96] <= 1 && said.records <= MAX_RECORDS).then_some(said)
    }

    /// The last commit of a segment somewhere in bytes that do not parse from their start.
    pub(super) fn find_last(
        bytes: &[u8],
        journal: &JournalId,
        segment: u64,
        key: &VerifyingKey,
    ) -> Option<Self> {
        let mut start = [0; FRAME];
        start[0] = COMMIT;
        start[1..].copy_from_slice(&(COMMIT_LEN as u32).to_le_bytes());
        (0..bytes.len().saturating_sub(FRAME))
            .rev()
            .filter(|at| bytes[*at..].starts_with(&start))
            .filter_map(|at| bytes.get(at + FRAME..at + FRAME + COMMIT_LEN))
            .find_map(|payload| Self::verify(payload, journal, segment, key))
    }
}

impl Checkpoint {
    /// Of a commit as it lies in a segment, proved or not.
    pub(super) fn of(payload: &[u8], journal: &JournalId, segment: u64) -> Option<Self> {
        let Commit { commit, first, records, root, tree, unix_ms, closed } = Commit::parse(payload)?;
        Some(Self {
            journal: hex::encode(journal),
            segment,
            commit,
            first,
            records,
            root: hex::encode(root),
            tree: hex::encode(tree),
            unix_ms,
            closed,
            signature: hex::encode(payload.last_chunk::<SIGNATURE>()?),
        })
    }

    /// Whether the device signed it.
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        let (mut journal, mut root, mut tree, mut signature) = ([0; 16], [0; 32], [0; 32], [0; SIGNATURE]);
        if hex::decode_to_slice(&self.journal, &mut journal).is_err()
            || hex::decode_to_slice(&self.root, &mut root).is_err()
            || hex::decode_to_slice(&self.tree, &mut tree).is_err()
            || hex::decode_to_slice(&self.signature, &mut signature).is_err()
        {
            return false;
        }
        let Self { commit, first, records, unix_ms, closed, .. } = *self;
        let fields = Commit { commit, first, records, root, tree, unix_ms, closed }.fields();
        let message = Commit::message(&journal, self.segment, &fields);
        key.verify_strict(&message, &Signature::from_bytes(&signature)).is_ok()
    }
}

#[cfg(test)]
mod tests;
