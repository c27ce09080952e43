//! The slot record: which model a box runs. Two copies are written in turn, so that a torn write never
//! loses both.

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Deserialize, Serialize};

/// What a box runs, and may go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// Grows with every write; the higher of two good copies counts.
    pub sequence: u64,
    /// Digest of the bundle that serves.
    pub active: Option<String>,
    /// Digest of the bundle that served before.
    pub previous: Option<String>,
    /// Digest of the bundle that is being tried: after a restart it is not trusted.
    pub trial: Option<String>,
    /// Lowest `security_counter` that is still taken.
    pub floor: u64,
}

const MAGIC: &[u8; 8] = b"LOCUSSL1";
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

    /// `None` where the copy is torn or not ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if CRC.checksum(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        serde_json::from_slice(body.strip_prefix(MAGIC)?).ok()
    }

    /// The record that counts, of two copies.
    pub fn newest(copies: [Option<&[u8]>; 2]) -> Option<Self> {
        copies.into_iter().flatten().filter_map(Self::decode).max_by_key(|r| r.sequence)
    }

    /// Which copy (0 or 1) the next write goes to: the one that does not hold this record.
    pub const fn next_copy(&self) -> usize {
        ((self.sequence + 1) % 2) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_cut_or_flipped_anywhere_is_not_taken() {
        let record =
            SlotRecord { sequence: 3, active: Some("a".repeat(64)), floor: 2, ..SlotRecord::default() };
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
}
