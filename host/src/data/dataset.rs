//! The stored dataset, `dataset.bin`: magic, format version, SHA-256 of the body, body (postcard).

use std::path::Path;

use locus_genome::{EncodedVariant, KmerTokenizer, tokenizer::reverse_complement_id};
use serde::{Deserialize, Serialize};

use crate::{Result, files};

const MAGIC: &[u8; 8] = b"LOCUSDS1";

/// Who may see a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Weights and quantisation ranges.
    Train,
    /// Checkpoints, and which layers stay FP32.
    ValSelect,
    /// Probability calibration and bands.
    ValFit,
    /// Reported only.
    Test,
}

impl Split {
    /// As written in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::ValSelect => "val_select",
            Self::ValFit => "val_fit",
            Self::Test => "test",
        }
    }
}

/// The features that are not zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Features(Vec<(u16, f32)>);

impl Features {
    /// Keeps what is not zero.
    pub fn of(dense: &[f32]) -> Self {
        Self(dense.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, v)| (i as u16, *v)).collect())
    }

    /// Writes the features into a row of zeros.
    pub fn fill(&self, row: &mut [f32]) {
        for &(i, v) in &self.0 {
            row[usize::from(i)] = v;
        }
    }
}

/// One encoded pair of windows with [CLS] and [SEP], not padded, in the transcript's sense.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Token ids of the reference window.
    pub ref_ids: Vec<u16>,
    /// Token ids of the alternate window.
    pub alt_ids: Vec<u16>,
    /// Track code per token.
    pub track: Vec<u8>,
    /// Features that are not zero.
    pub features: Features,
}

impl Pair {
    /// Keeps what the model reads.
    pub fn of(encoded: &EncodedVariant) -> Self {
        let ids = |v: &[i64]| v.iter().map(|&i| i as u16).collect();
        Self {
            ref_ids: ids(&encoded.ref_ids),
            alt_ids: ids(&encoded.alt_ids),
            track: encoded.track.iter().map(|&t| t as u8).collect(),
            features: Features::of(&encoded.features),
        }
    }

    /// Without transcript: track and features gone, read on the other strand where `reverse`.
    #[must_use]
    pub fn bare(&self, tokenizer: &KmerTokenizer, reverse: bool) -> Self {
        let turned = |ids: &[u16]| -> Vec<u16> {
            let mut ids = ids.to_vec();
            if reverse {
                let inner = ids.len() - 1;
                ids[1..inner].reverse();
                for id in &mut ids[1..inner] {
                    *id = reverse_complement_id(tokenizer, u32::from(*id)) as u16;
                }
            }
            ids
        };
        Self {
            ref_ids: turned(&self.ref_ids),
            alt_ids: turned(&self.alt_ids),
            track: vec![0; self.track.len()],
            features: Features::default(),
        }
    }
}

/// One labelled variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Contig, as in the VCF.
    pub contig: String,
    /// 1-based position.
    pub position: u64,
    /// Reference allele.
    pub ref_allele: String,
    /// Alternate allele.
    pub alt_allele: String,
    /// Gene symbol, the unit of splitting and resampling.
    pub gene: String,
    /// Who may see it.
    pub split: Split,
    /// Pathogenic or likely pathogenic.
    pub pathogenic: bool,
    /// Review stars.
    pub stars: u8,
    /// Sequence Ontology terms on the transcript; empty without one.
    pub consequence: String,
    /// Whether the transcript is read on the reverse strand.
    pub reverse: bool,
    /// The whole window, as served with a transcript.
    pub full: Pair,
    /// As a short sequence would be served.
    pub cropped: Pair,
}

impl Record {
    /// Contig, position and alleles.
    pub fn name(&self) -> String {
        format!("{}-{}-{}-{}", self.contig, self.position, self.ref_allele, self.alt_allele)
    }

    /// Whether an amino acid changes into another.
    pub fn is_missense(&self) -> bool {
        self.consequence.starts_with("missense_variant")
    }
}

/// Every usable record of a VCF, encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// k-mer length.
    pub k: usize,
    /// Bases from token to token.
    pub stride: usize,
    /// k-mers in a whole window.
    pub window_kmers: usize,
    /// Feature names, in order.
    pub features: Vec<String>,
    /// SHA-256 of the files it was made from, by role.
    pub sources: std::collections::BTreeMap<String, String>,
    /// Rows left out, by reason.
    pub left_out: std::collections::BTreeMap<String, u64>,
    /// Regions that hold no validation or test record: contig, first and last position.
    pub pretraining_regions: Vec<(String, i64, i64)>,
    /// The records, in the VCF's order.
    pub records: Vec<Record>,
}

impl Dataset {
    /// Writes the dataset, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_checked(path, MAGIC, self)
    }

    /// Reads a dataset and checks it.
    ///
    /// # Errors
    /// No such file, another format, or bytes that changed since.
    pub fn read(path: &Path) -> Result<Self> {
        files::read_checked(path, MAGIC)
    }

    /// The tokenizer that made it.
    ///
    /// # Errors
    /// k or stride that cannot be.
    pub fn tokenizer(&self) -> Result<KmerTokenizer> {
        Ok(KmerTokenizer::new(self.k, self.stride)?)
    }

    /// Indices of the records of a split.
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.records.len()).filter(|&i| self.records[i].split == split).collect()
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::{Mutation, VariantEncoder};

    use super::*;
    use crate::Error;

    fn tokenizer() -> KmerTokenizer {
        KmerTokenizer::new(3, 1).unwrap()
    }

    fn dataset() -> Dataset {
        let record = Record {
            contig: "chr1".into(),
            position: 7,
            ref_allele: "A".into(),
            alt_allele: "C".into(),
            gene: "G".into(),
            split: Split::ValFit,
            pathogenic: true,
            stars: 2,
            consequence: "missense_variant".into(),
            reverse: true,
            full: Pair {
                ref_ids: vec![2, 9, 3],
                alt_ids: vec![2, 11, 3],
                track: vec![0, 6, 0],
                features: Features::of(&[0.0, 1.5]),
            },
            cropped: Pair::default(),
        };
        Dataset {
            k: 3,
            stride: 1,
            window_kmers: 61,
            features: vec!["a".into(), "b".into()],
            sources: Default::default(),
            left_out: Default::default(),
            pretraining_regions: vec![("chr1".into(), 1, 9)],
            records: vec![record],
        }
    }

    #[test]
    fn a_dataset_reads_back_and_a_flipped_bit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dataset.bin");
        dataset().write(&path).unwrap();
        assert_eq!(Dataset::read(&path).unwrap(), dataset());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Dataset::read(&path), Err(Error::Dataset { .. })));
        std::fs::write(&path, b"LOCUS").unwrap();
        assert!(matches!(Dataset::read(&path), Err(Error::Dataset { .. })));
    }

    #[test]
    fn the_bare_pair_is_what_the_encoder_gives_for_a_bare_sequence_on_either_strand() {
        let s: String = (0..120).map(|i: usize| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect();
        let encoder = VariantEncoder::new(tokenizer(), 61);
        let at = |s: &str, p: usize| {
            let r = s.as_bytes()[p - 1];
            Mutation {
                ref_allele: r,
                position: p as u64,
                alt_allele: if r == b'A' {
                    b'T'
                } else if r == b'T' {
                    b'A'
                } else if r == b'C' {
                    b'G'
                } else {
                    b'C'
                },
            }
        };
        let turned = String::from_utf8(locus_genome::dna::reverse_complement(s.as_bytes())).unwrap();
        for p in [3, 60, 118] {
            let forward = Pair::of(&encoder.encode_sequence(&s, &at(&s, p), None).unwrap());
            let reverse = Pair::of(&encoder.encode_sequence(&turned, &at(&turned, 121 - p), None).unwrap());
            assert_eq!(forward.bare(&tokenizer(), true), reverse);
            assert_eq!(forward.bare(&tokenizer(), false), forward);
        }
    }

    #[test]
    fn sparse_features_fill_what_was_there() {
        let dense = [0.0, 1.0, 0.0, -0.25];
        let mut row = [0.0; 4];
        Features::of(&dense).fill(&mut row);
        assert_eq!(row, dense);
    }
}
