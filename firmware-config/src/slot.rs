//! The slot record: which models a box runs. Two copies are written in turn, so that a torn write never
//! loses both.

use std::collections::BTreeMap;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Deserialize, Serialize};

/// Most models that have a bundle in their slots.
pub const MAX_MODELS: usize = 8;
/// Most names that the record knows: a model that was removed leaves its floor.
pub const MAX_NAMES: usize = 32;

/// What a box runs of one model, and may go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Digest of the bundle that serves.
    pub active: Option<String>,
    /// Digest of the bundle that served before.
    pub previous: Option<String>,
    /// Digest of the bundle that is being tried: after a restart it is not trusted.
    pub trial: Option<String>,
    /// Lowest `security_counter` that is still taken.
    pub floor: u64,
    /// How often in a row the daemon ended while the active bundle started or gave its first answers.
    #[serde(default)]
    pub crashes: u32,
    /// Digest of a bundle that was set back to the previous one, because the daemon ended again and again with it.
    #[serde(default)]
    pub set_back: Option<String>,
}

impl Slots {
    /// Digests of what the slots refer to.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        [&self.active, &self.previous, &self.trial].into_iter().flatten().map(String::as_str)
    }

    /// Whether no slot refers to a bundle.
    pub const fn is_empty(&self) -> bool {
        self.active.is_none() && self.previous.is_none() && self.trial.is_none()
    }
}

/// The slots of every model, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// Grows with every write; the higher of two good copies counts.
    pub sequence: u64,
    /// By the manifest's name. A record of the time when a box ran one model has its slots under an empty name, until
    /// they are opened for writing.
    pub models: BTreeMap<String, Slots>,
}

/// A record of the time when a box ran one model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Single {
    sequence: u64,
    active: Option<String>,
    previous: Option<String>,
    trial: Option<String>,
    floor: u64,
}

impl From<Single> for SlotRecord {
    fn from(Single { sequence, active, previous, trial, floor }: Single) -> Self {
        let slots = Slots { active, previous, trial, floor, ..Slots::default() };
        let models = BTreeMap::from([(String::new(), slots)]);
        Self { sequence, models }
    }
}

const MAGIC: &[u8; 8] = b"LOCUSSL2";
const MAGIC_SINGLE: &[u8; 8] = b"LOCUSSL1";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

impl SlotRecord {
    /// Magic, JSON, CRC-32 over both.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(serde_json::to_vec(self).expect("texts and whole numbers serialise"));
        let crc = CRC.checksum(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// `None` where the copy is torn or not ours, or counts so high that no write could follow it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).filter(|record| record.sequence < u64::MAX)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if CRC.checksum(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        if let Some(json) = body.strip_prefix(MAGIC_SINGLE) {
            return serde_json::from_slice::<Single>(json).ok().map(Self::from);
        }
        serde_json::from_slice(body.strip_prefix(MAGIC)?).ok()
    }

    /// The record that counts, of two copies.
    pub fn newest(copies: [Option<&[u8]>; 2]) -> Option<Self> {
        copies.into_iter().flatten().filter_map(Self::decode).max_by_key(|r| r.sequence)
    }

    /// Which copy (0 or 1) the next write goes to: the one that does not hold this record.
    pub const fn next_copy(&self) -> usize {
        self.sequence.is_multiple_of(2) as usize
    }

    /// The slots of a model; empty ones where the record does not know it.
    pub fn of(&self, model: &str) -> Slots {
        self.models.get(model).cloned().unwrap_or_default()
    }

    /// The same with other slots of a model. Slots that hold nothing, not even a floor, are left out.
    #[must_use]
    pub fn with(mut self, model: &str, slots: Slots) -> Self {
        match slots.is_empty() && slots.floor == 0 {
            true => self.models.remove(model),
            false => self.models.insert(model.to_owned(), slots),
        };
        self
    }

    /// Names of the models that have a bundle in their slots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().filter(|(_, slots)| !slots.is_empty()).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> SlotRecord {
        let slots = Slots { active: Some("a".repeat(64)), floor: 2, ..Slots::default() };
        let record = SlotRecord { sequence, ..SlotRecord::default() };
        record.with("one", slots.clone()).with("two", Slots { floor: 9, ..slots })
    }

    #[test]
    fn a_record_that_no_write_could_follow_is_not_taken() {
        assert_eq!(SlotRecord::decode(&record(u64::MAX).encode()), None);
        let last = record(u64::MAX - 1);
        assert_eq!(SlotRecord::decode(&last.encode()), Some(last.clone()));
        assert_eq!((last.next_copy(), record(7).next_copy()), (1, 0));
    }

    #[test]
    fn a_copy_cut_or_flipped_anywhere_is_not_taken() {
        let record = record(3);
        let bytes = record.encode();
        assert_eq!(SlotRecord::decode(&bytes), Some(record.clone()));
        for n in 0..bytes.len() {
            assert_eq!(SlotRecord::decode(&bytes[..n]), None);
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[n] ^= 1 << bit;
                assert_eq!(SlotRecord::decode(&flipped), None);
            }
        }
        let older = SlotRecord { sequence: 2, ..record.clone() }.encode();
        assert_eq!(SlotRecord::newest([Some(&older), Some(&bytes)]), Some(record.clone()));
        assert_eq!(SlotRecord::newest([Some(&older), Some(&bytes[..9])]).map(|r| r.sequence), Some(2));
        assert_ne!(record.next_copy(), (record.sequence % 2) as usize);
    }

    #[test]
    fn a_record_of_one_model_is_read_under_an_empty_name() {
        let digest = "a".repeat(64);
        let json = format!(r#"{{"sequence":7,"active":"{digest}","previous":null,"trial":null,"floor":3}}"#);
        let mut bytes = [MAGIC_SINGLE.as_slice(), json.as_bytes()].concat();
        bytes.extend(CRC.checksum(&bytes).to_le_bytes());
        let read = SlotRecord::decode(&bytes).unwrap();
        let slots = Slots { active: Some(digest), floor: 3, ..Slots::default() };
        assert_eq!((read.sequence, read.of("")), (7, slots));
        assert_eq!(SlotRecord::newest([Some(&bytes), Some(&record(8).encode())]), Some(record(8)));
    }

    #[test]
    fn slots_that_hold_nothing_are_left_out_and_a_floor_stays() {
        let removed = record(1).with("one", Slots { floor: 2, ..Slots::default() });
        assert_eq!((removed.names().count(), removed.of("one").floor), (1, 2));
        assert_eq!(removed.with("one", Slots::default()).models.len(), 1);
    }

    #[test]
    fn the_largest_record_is_small() {
        let digest = Some("a".repeat(64));
        let full = Slots {
            active: digest.clone(),
            previous: digest.clone(),
            trial: digest.clone(),
            floor: u64::MAX,
            crashes: u32::MAX,
            set_back: digest,
        };
        let names = (0..MAX_NAMES).map(|n| format!("{n:064}"));
        let record = names.fold(record(u64::MAX), |record, name| record.with(&name, full.clone()));
        assert!(record.encode().len() < 32 << 10, "{}", record.encode().len());
    }
}
