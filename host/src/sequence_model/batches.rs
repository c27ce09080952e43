//! Records in batches of like length, and batches in the model's rows.

use locus_genome::EncodedSequence;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    model::Rows,
    sequence::{Balance, SequenceSet, Target, balance},
};

/// Batches whose records are sorted by length together: padding is computed like bases, and is none of them.
const POOL: usize = 32;

/// The records of one epoch, in whole batches of like length.
#[derive(Clone, Debug)]
pub struct Epoch(Vec<Vec<usize>>);

impl Epoch {
    /// Draws an epoch of `records`; what does not fill a batch is left for other epochs.
    pub fn new(
        set: &SequenceSet,
        records: &[usize],
        batch: usize,
        by: Balance,
        (seed, number): (u64, u64),
    ) -> Self {
        let class = |&i: &usize| if let Target::Class(c) = set.records[i].target { c } else { 0 };
        let classes: Vec<u16> = records.iter().map(class).collect();
        let drawn = balance::epoch(records, &classes, by, seed, number);
        let mut batches: Vec<Vec<usize>> = drawn
            .chunks(batch * POOL)
            .flat_map(|pool| {
                // A short batch is in the pool's end as drawn, not among the longest records.
                let whole = pool.len() / batch * batch;
                let mut pool = pool[..whole].to_vec();
                pool.sort_by_key(|&i| set.length(i));
                pool.chunks(batch).map(<[usize]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ number.wrapping_mul(0xd129_0d3a_5f2b_37c1));
        batches.shuffle(&mut rng);
        Self(batches)
    }

    /// Batches.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are fewer records than a batch.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records of a batch.
    pub fn batch(&self, n: usize) -> &[usize] {
        &self.0[n]
    }
}

/// Rows padded to the longest of them, and to a multiple of 8.
pub fn pack(sequences: &[EncodedSequence]) -> Rows {
    let longest = sequences.iter().map(|s| s.ids.len()).max().unwrap_or(0);
    let tokens = longest.next_multiple_of(8);
    let mut rows =
        Rows { rows: sequences.len(), tokens, ids: Vec::new(), track: Vec::new(), mask: Vec::new() };
    for (n, s) in sequences.iter().enumerate() {
        let end = (n + 1) * tokens;
        rows.ids.extend(s.ids.iter().map(|&i| i as u32));
        rows.track.extend(s.track.iter().map(|&t| t as u32));
        rows.mask.resize(n * tokens + s.ids.len(), 1.0);
        rows.ids.resize(end, 0);
        rows.track.resize(end, 0);
        rows.mask.resize(end, 0.0);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use locus_genome::{Alphabet, KmerTokenizer, SequenceEncoder, Tokenizer};

    use super::*;
    use crate::{data::Split, sequence::SequenceRecord};

    fn set(n: usize) -> SequenceSet {
        let mut set = SequenceSet::new(Alphabet::Dna, vec!["a".into(), "b".into()]);
        for i in 0..n {
            let record = SequenceRecord {
                name: i.to_string(),
                target: Target::Class((i % 2) as u16),
                group: None,
                changed: None,
                split: Split::Train,
            };
            set.push(record, "ACGT".repeat(3 + i % 50));
        }
        set
    }

    #[test]
    fn an_epoch_holds_each_record_once_in_batches_of_like_length() {
        let set = set(403);
        let records: Vec<usize> = (0..403).collect();
        let epoch = Epoch::new(&set, &records, 10, Balance::None, (1, 0));
        assert_eq!(epoch.len(), 40);
        let all: Vec<usize> = (0..epoch.len()).flat_map(|n| epoch.batch(n).to_vec()).collect();
        assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (400, 400));
        let length = |i: &usize| set.length(*i);
        let spread: usize = (0..epoch.len())
            .map(|n| {
                let lengths: Vec<usize> = epoch.batch(n).iter().map(length).collect();
                lengths.iter().max().unwrap() - lengths.iter().min().unwrap()
            })
            .sum();
        assert!(spread < 40 * 30, "{spread}");
        assert_ne!(epoch.batch(0), Epoch::new(&set, &records, 10, Balance::None, (1, 1)).batch(0));
        assert_eq!(epoch.batch(0), Epoch::new(&set, &records, 10, Balance::None, (1, 0)).batch(0));
    }

    #[test]
    fn padding_is_not_attended() {
        let encoder = SequenceEncoder::new(Tokenizer::Dna(KmerTokenizer::new(3, 1).unwrap()), 3);
        let rows = pack(&[encoder.encode("ACGT").unwrap(), encoder.encode("ACGTACGTACG").unwrap()]);
        assert_eq!((rows.rows, rows.tokens), (2, 16));
        assert_eq!(rows.mask.iter().sum::<f32>(), 4.0 + 11.0);
        assert_eq!((rows.ids[3], rows.ids[4], rows.mask[3], rows.mask[4]), (3, 0, 1.0, 0.0));
    }
}
