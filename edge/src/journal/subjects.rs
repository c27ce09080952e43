//! The erasable table of a segment: one key per subject, wrapped by the segment's key.
//!
//! `NNNNNNNN.sub` is a header and entries of 128 bytes each, so that none lies across two disk sectors. Records
//! name their entry and its hash. Erasing overwrites the key with the device's signed word that it was erased:
//! the records stay, and the chain over them, but nobody opens them any more. What a disk's wear levelling or a
//! snapshot keeps of the old bytes is beyond this.

use std::{collections::HashSet, io, path::Path};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{
    JournalError,
    format::{Hash, JournalId, WRAPPED, sha256},
    seal::{Purpose, Secret, unwrap, wrap},
};
use crate::vfs::{Vfs, VfsFile};

pub(super) const END: &str = ".sub";
pub(super) const ENTRY: usize = 128;
/// Longest table that is read, in bytes.
pub(super) const MAX_TABLE: u64 = 256 << 20;
const TAG: usize = 32;
const LIVE: u8 = 1;
const ERASED: u8 = 2;

pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:08}{END}")
}

pub(super) fn header(journal: &JournalId, segment: u64) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    out[..16].copy_from_slice(b"LOCUS-SUBJECTS-1");
    out[16..32].copy_from_slice(journal);
    out[32..40].copy_from_slice(&segment.to_le_bytes());
    out
}

fn aad(journal: &JournalId, segment: u64, slot: u32, tag: &Hash) -> Vec<u8> {
    [b"locus-subject-key-v1\0".as_slice(), journal, &segment.to_le_bytes(), &slot.to_le_bytes(), tag].concat()
}

/// An entry with a subject's key, and its hash.
pub(super) fn live_entry(
    journal: &JournalId,
    segment: u64,
    slot: u32,
    tag: &Hash,
    segment_key: &Secret,
    subject_key: &Secret,
) -> Result<([u8; ENTRY], Hash), JournalError> {
    let aad = aad(journal, segment, slot, tag);
    let wrapped = wrap(segment_key, Purpose::SubjectKey, u64::from(slot), subject_key, &aad)?;
    let mut out = [0; ENTRY];
    out[..TAG].copy_from_slice(tag);
    out[TAG] = LIVE;
    out[TAG + 1..TAG + 1 + WRAPPED].copy_from_slice(&wrapped);
    Ok((out, entry_hash(&out)))
}

fn entry_hash(entry: &[u8]) -> Hash {
    sha256(&[b"locus-slot-v1\0", entry])
}

fn erasure(journal: &JournalId, segment: u64, slot: u32, tag: &[u8], unix_ms: &[u8]) -> Vec<u8> {
    let (segment, slot) = (segment.to_le_bytes(), slot.to_le_bytes());
    [b"locus-erased-v1\0".as_slice(), journal, &segment, &slot, tag, unix_ms].concat()
}

/// What an entry is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Erased,
    /// Neither the key that the record names nor erased by the device.
    Wrong,
}

/// The table of one segment, as read.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// Reads a table; empty where there is none.
    pub(super) fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Self> {
        match vfs.read(path, MAX_TABLE) {
            Ok(bytes) => Ok(Self { bytes }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn has_header(&self, journal: &JournalId, segment: u64) -> bool {
        self.bytes.starts_with(&header(journal, segment))
    }

    fn entry(&self, slot: u32) -> Option<&[u8]> {
        let at = (slot as usize + 1).checked_mul(ENTRY)?;
        self.bytes.get(at..at + ENTRY)
    }

    /// The state of the entry that a record names.
    pub(super) fn state(
        &self,
        journal: &JournalId,
        segment: u64,
        slot: u32,
        hash: &Hash,
        device: &VerifyingKey,
    ) -> State {
        let Some(entry) = self.entry(slot) else { return State::Wrong };
        if entry_hash(entry) == *hash {
            return State::Live;
        }
        if is_erased(entry, journal, segment, slot, device) { State::Erased } else { State::Wrong }
    }

    /// The key of a live entry; none where the segment key does not open it.
    pub(super) fn key(
        &self,
        journal: &JournalId,
        segment: u64,
        slot: u32,
        segment_key: &Secret,
    ) -> Option<Secret> {
        let entry = self.entry(slot)?;
        let tag: Hash = entry[..TAG].try_into().ok()?;
        let wrapped = &entry[TAG + 1..TAG + 1 + WRAPPED];
        let aad = aad(journal, segment, slot, &tag);
        unwrap(segment_key, Purpose::SubjectKey, u64::from(slot), wrapped, &aad)
    }

    /// Entries of a subject that are not erased yet, or only by half.
    pub(super) fn slots_of(
        &self,
        tag: &Hash,
        journal: &JournalId,
        segment: u64,
        device: &VerifyingKey,
    ) -> Vec<u32> {
        (0..(self.bytes.len() / ENTRY).saturating_sub(1) as u32)
            .filter(|slot| {
                self.entry(*slot).is_some_and(|entry| {
                    entry.starts_with(tag) && !is_erased(entry, journal, segment, *slot, device)
                })
            })
            .collect()
    }

    /// Length up to the last entry that a record names: what is behind it belongs to no answer.
    pub(super) fn used_len(slots: &HashSet<u32>) -> u64 {
        slots.iter().max().map_or(0, |last| (u64::from(*last) + 2) * ENTRY as u64)
    }
}

fn is_erased(entry: &[u8], journal: &JournalId, segment: u64, slot: u32, device: &VerifyingKey) -> bool {
    let (tag, rest) = entry.split_at(TAG);
    let (unix_ms, rest) = rest[1..].split_at(8);
    let (signature, padding) = rest.split_at(64);
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    let message = erasure(journal, segment, slot, tag, unix_ms);
    entry[TAG] == ERASED
        && padding.iter().all(|byte| *byte == 0)
        && device.verify_strict(&message, &signature).is_ok()
}

/// Overwrites an entry's key for good; durable on return.
pub(super) fn erase(
    file: &mut dyn VfsFile,
    journal: &JournalId,
    segment: u64,
    slot: u32,
    tag: &Hash,
    unix_ms: u64,
    key: &SigningKey,
) -> io::Result<()> {
    let unix_ms = unix_ms.to_le_bytes();
    let signature = key.sign(&erasure(journal, segment, slot, tag, &unix_ms)).to_bytes();
    let mut out = [0; ENTRY - TAG];
    out[0] = ERASED;
    out[1..9].copy_from_slice(&unix_ms);
    out[9..73].copy_from_slice(&signature);
    file.write_at((u64::from(slot) + 1) * ENTRY as u64 + TAG as u64, &out)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::seal::new_key,
        vfs::{Access, FaultyVfs},
    };

    #[test]
    fn an_entry_opens_until_it_is_erased_and_only_the_device_erases() {
        let (vfs, device) = (FaultyVfs::new(), SigningKey::from_bytes(&[1; 32]));
        let (segment_key, subject_key) = (new_key().unwrap(), new_key().unwrap());
        let (journal, tag, path) = ([9; 16], [7; 32], Path::new("/00000003.sub"));
        vfs.create_dir_all(Path::new("/")).unwrap();
        let mut file = vfs.create(path, Access::Private).unwrap();
        let (entry, hash) = live_entry(&journal, 3, 0, &tag, &segment_key, &subject_key).unwrap();
        file.append(&[header(&journal, 3), entry].concat()).unwrap();
        let public = device.verifying_key();
        let table = Table::read(&vfs, path).unwrap();
        assert!(table.has_header(&journal, 3) && !table.has_header(&journal, 4));
        assert_eq!(table.state(&journal, 3, 0, &hash, &public), State::Live);
        assert_eq!(table.key(&journal, 3, 0, &segment_key), Some(subject_key.clone()));
        assert_eq!(table.slots_of(&tag, &journal, 3, &public), [0]);
        assert_eq!(table.state(&journal, 3, 1, &hash, &public), State::Wrong);
        erase(&mut *file, &journal, 3, 0, &tag, 5, &SigningKey::from_bytes(&[2; 32])).unwrap();
        let forged = Table::read(&vfs, path).unwrap();
        assert_eq!(forged.state(&journal, 3, 0, &hash, &public), State::Wrong);
        assert_eq!(forged.slots_of(&tag, &journal, 3, &public), [0], "it is erased again");
        erase(&mut *file, &journal, 3, 0, &tag, 5, &device).unwrap();
        let erased = Table::read(&vfs, path).unwrap();
        assert_eq!(erased.state(&journal, 3, 0, &hash, &public), State::Erased);
        assert_eq!(erased.key(&journal, 3, 0, &segment_key), None);
        assert!(erased.slots_of(&tag, &journal, 3, &public).is_empty());
        let mut moved = erased;
        moved.bytes[ENTRY + 127] ^= 1;
        assert_eq!(moved.state(&journal, 3, 0, &hash, &public), State::Wrong);
    }
}
