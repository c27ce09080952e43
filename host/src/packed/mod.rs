//! Packed genomes, `*.packed`: two bits a base, what is not A, C, G or T apart, read through a memory map, so that a
//! genome larger than memory can be drawn from.
//!
//! Layout, little-endian: magic `LOCUSPK1`; the bases of each record from a byte of its own, four a byte, the first
//! in the lowest bits (A 0, C 1, G 2, T 3); the index (postcard: records with their lengths, places and runs of other
//! codes); the index's length, u64; SHA-256 of all before it.

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::PackedGenome;
pub use write::PackedWriter;

const MAGIC: &[u8; 8] = b"LOCUSPK1";

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedRecord {
    /// Name, unique in the file.
    pub name: String,
    /// The rest of the header.
    pub description: String,
    /// Number of bases.
    pub len: u64,
    /// Byte of the file at which its bases begin.
    place: u64,
    /// Runs of anything but A, C, G and T, ascending.
    runs: Vec<Run>,
}

/// A run of one ambiguous code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    start: u64,
    len: u64,
    code: u8,
}

impl PackedRecord {
    /// Bases of `start..end` that are not A, C, G or T.
    pub fn ambiguous(&self, start: u64, end: u64) -> u64 {
        self.runs_in(start, end).map(|(from, to, _)| to - from).sum()
    }

    /// Runs within `start..end`, cut to it: first, end, code.
    fn runs_in(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64, u8)> {
        let first = self.runs.partition_point(|r| r.start + r.len <= start);
        let inside = self.runs[first..].iter().take_while(move |r| r.start < end);
        inside.map(move |r| (r.start.max(start), (r.start + r.len).min(end), r.code))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Error;

    fn bases(n: usize, seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bases: Vec<u8> = (0..n).map(|_| b"ACGT"[rng.random_range(0..4)]).collect();
        for _ in 0..n / 20 {
            let at = rng.random_range(0..n);
            let code = b"NRYN"[rng.random_range(0..4)];
            let end = (at + rng.random_range(1..5)).min(n);
            bases[at..end].fill(code);
        }
        bases
    }

    fn written(path: &Path, records: &[Vec<u8>]) -> PackedGenome {
        let mut writer = PackedWriter::create(path).unwrap();
        for (n, record) in records.iter().enumerate() {
            writer.record(&format!("r{n}"), "split=train").unwrap();
            for piece in record.chunks(7) {
                writer.bases(piece).unwrap();
            }
        }
        writer.finish().unwrap();
        PackedGenome::open(path).unwrap()
    }

    #[test]
    fn every_stretch_reads_back_with_its_ambiguous_codes() {
        let folder = tempfile::tempdir().unwrap();
        let records = [bases(1_003, 1), Vec::new(), bases(58, 2), b"N".repeat(11)];
        let genome = written(&folder.path().join("g.packed"), &records);
        for (n, expected) in records.iter().enumerate() {
            let record = &genome.records()[n];
            assert_eq!((record.len, record.name.as_str()), (expected.len() as u64, &*format!("r{n}")));
            for start in 0..expected.len().min(40) {
                for end in (start..=expected.len()).step_by(13) {
                    let read = genome.bases(n, start as u64, end as u64).unwrap();
                    assert_eq!(read, &expected[start..end], "{n} {start}..{end}");
                    let other = read.iter().filter(|b| !b"ACGT".contains(b)).count() as u64;
                    assert_eq!(record.ambiguous(start as u64, end as u64), other);
                }
            }
        }
        assert!(genome.bases(0, 5, 1_004).is_err() && genome.bases(0, 6, 5).is_err());
        assert!(genome.bases(4, 0, 0).is_err());
    }

    #[test]
    fn four_bases_take_one_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.packed");
        written(&path, &[b"ACGT".repeat(25_000)]);
        assert!(fs::metadata(&path).unwrap().len() < 25_100);
    }

    #[test]
    fn a_file_that_is_cut_changed_or_another_is_refused_at_its_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.packed");
        written(&path, &[bases(5_000, 3)]);
        let whole = fs::read(&path).unwrap();
        for cut in [0, 7, 20, 47, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(PackedGenome::open(&path), Err(Error::Dataset { .. })), "{cut}");
        }
        for at in [0, 8, 900, whole.len() - 41, whole.len() - 1] {
            let mut other = whole.clone();
            other[at] ^= 4;
            fs::write(&path, &other).unwrap();
            assert!(matches!(PackedGenome::open(&path), Err(Error::Dataset { .. })), "{at}");
        }
        fs::write(&path, b">chr1\nACGT\n").unwrap();
        let error = PackedGenome::open(&path).unwrap_err().to_string();
        assert!(error.contains("LOCUSPK1"), "{error}");
    }

    #[test]
    fn names_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PackedWriter::create(&folder.path().join("g.packed")).unwrap();
        writer.record("a", "").unwrap();
        assert!(writer.record("a", "").unwrap_err().to_string().contains("\"a\""));
        assert!(writer.record("b", "").is_ok());
    }
}
