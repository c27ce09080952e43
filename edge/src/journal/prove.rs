//! Proofs that one record is in the journal, for somebody who has nothing of it but the device's public key.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, JournalError, Receipt,
    format::{COMMIT_LEN, Hash, Header, MAX_HEADER, MAX_SEGMENT, file_name},
    merkle::{Tree, proves},
    places::Places,
    receipt,
    scan::{Depth, Walk},
    segment::io_at,
};
use crate::vfs::Vfs;

/// Longest way through a tree.
const MAX_PATH: usize = 64;

/// That a record is under a signed head of its segment's Merkle tree (RFC 6962).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The record, as its asker was told of it.
    pub receipt: Receipt,
    /// Hashes beside the way from the record to the head, hexadecimal, from the leaf on.
    pub path: Vec<String>,
    /// The signed head.
    pub checkpoint: Checkpoint,
}

/// What a proof does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// The head is not the device's.
    #[error("the checkpoint is not signed by this device")]
    Signature,
    /// Receipt and head are of two journals.
    #[error("record and checkpoint are of two journals")]
    Journal,
    /// The path does not lead from the record to the head.
    #[error("the record is not under the checkpoint's tree head")]
    Path,
    /// The proof is for another record.
    #[error("the proof is for another record than the receipt's")]
    Receipt,
    /// The proof is under another head.
    #[error(
        "the proof is under another head than the checkpoint that was kept; ask for one under it: `prove --checkpoint`"
    )]
    Checkpoint,
}

impl Proof {
    /// Whether it proves the record, to somebody who kept the receipt of an answer, or a checkpoint, or neither.
    ///
    /// # Errors
    /// [`Unproved`].
    pub fn check(
        &self,
        device: &VerifyingKey,
        receipt: Option<&Receipt>,
        kept: Option<&Checkpoint>,
    ) -> Result<(), Unproved> {
        let Self { receipt: own, path, checkpoint } = self;
        if !checkpoint.verify(device) {
            return Err(Unproved::Signature);
        }
        if own.journal != checkpoint.journal {
            return Err(Unproved::Journal);
        }
        if receipt.is_some_and(|receipt| receipt != own) {
            return Err(Unproved::Receipt);
        }
        if kept.is_some_and(|kept| kept != checkpoint) {
            return Err(Unproved::Checkpoint);
        }
        let hash = |text: &String| {
            let mut out: Hash = [0; 32];
            hex::decode_to_slice(text, &mut out).ok().map(|()| out)
        };
        let (leaf, head) = (hash(&own.leaf), hash(&checkpoint.tree));
        let path: Option<Vec<Hash>> = path.iter().take(MAX_PATH + 1).map(hash).collect();
        let leaves = checkpoint.records.checked_sub(checkpoint.first);
        match (leaf, head, path, leaves, own.index.checked_sub(checkpoint.first)) {
            (Some(leaf), Some(head), Some(path), Some(leaves), Some(place))
                if path.len() <= MAX_PATH && proves(&head, leaves, &leaf, place, &path) =>
            {
                Ok(())
            }
            _ => Err(Unproved::Path),
        }
    }
}

/// Proves a record under the last head of its segment, or under a checkpoint that somebody kept.
///
/// # Errors
/// No such record, a segment that is damaged, or a checkpoint that does not cover it.
pub fn prove(
    vfs: &dyn Vfs,
    dir: &Path,
    device: &VerifyingKey,
    index: u64,
    under: Option<&Checkpoint>,
) -> Result<Proof, JournalError> {
    let places = Places::look(vfs, dir, &[], device)?;
    let mut found = None;
    for (number, folder) in places.segments.iter().rev() {
        let path = folder.join(file_name(*number));
        let start = vfs.read_start(&path, MAX_HEADER).map_err(io_at("read", &path))?;
        if Header::peek(&start).is_some_and(|header| header.first_index <= index) {
            found = Some((*number, path));
            break;
        }
    }
    let absent = || JournalError::NoRecord { index, dir: dir.to_owned() };
    let (number, path) = found.ok_or_else(absent)?;
    let bytes = vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
    let mut walk = Walk::behind(number - 1, device, Depth::Every);
    let segment = walk.step(number, &bytes).ok_or_else(|| JournalError::Damaged {
        dir: dir.to_owned(),
        findings: walk.findings.iter().map(ToString::to_string).collect(),
    })?;
    let first = segment.header.first_index;
    let place = usize::try_from(index.saturating_sub(first)).map_err(|_| absent())?;
    let placed = segment.records.get(place).ok_or_else(absent)?;
    let end = usize::try_from(segment.end.bytes).map_err(|_| absent())?;
    let last = bytes
        .get(end.saturating_sub(COMMIT_LEN)..end)
        .and_then(|payload| Checkpoint::of(payload, &segment.journal, number));
    let checkpoint = match under {
        None => last.ok_or_else(absent)?,
        Some(kept) => {
            let here = kept.segment == number
                && kept.journal == segment.header.journal
                && kept.verify(device)
                && (first..=segment.end.next_index).contains(&kept.records)
                && index < kept.records;
            if !here {
                return Err(JournalError::NotUnder { index, segment: number });
            }
            kept.clone()
        }
    };
    let mut tree = Tree::default();
    let covered = usize::try_from(checkpoint.records - first).map_err(|_| absent())?;
    segment.records.iter().take(covered).for_each(|placed| tree.push(placed.record.leaf));
    let path = tree.proof(place as u64).ok_or_else(absent)?;
    Ok(Proof {
        receipt: receipt(&segment.header.journal, index, &placed.record.leaf, &placed.after),
        path: path.iter().map(hex::encode).collect(),
        checkpoint,
    })
}
