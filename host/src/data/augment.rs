//! Records → padded batches, with what training drops and crops at random.

use locus_genome::KmerTokenizer;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Dataset, Pair, Record};
use crate::model::{PairBatch, Rows};

/// How one record is shown to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// As a short sequence instead of the whole window.
    pub cropped: bool,
    /// Without transcript, on the strand of the genome (`Some(false)`) or the other one.
    pub bare: Option<bool>,
}

impl View {
    /// Whole window with its transcript.
    pub const TRANSCRIPT: Self = Self { cropped: false, bare: None };
    /// Whole window as a bare sequence on the genome's forward strand.
    pub const SEQUENCE_ONLY: Self = Self { cropped: false, bare: Some(false) };

    /// The rows of a record under this view.
    pub fn of(self, record: &Record, tokenizer: &KmerTokenizer) -> Pair {
        let pair = if self.cropped { &record.cropped } else { &record.full };
        match self.bare {
            None => pair.clone(),
            // Stored rows are in the transcript's sense.
            Some(turned) => pair.bare(tokenizer, record.reverse != turned),
        }
    }
}

/// What training leaves to chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Share of pairs without track, features and known strand.
    pub track_dropout: f64,
    /// Share of batches that are short sequences.
    pub crop_share: f64,
    /// Share of the features that a pair is shown without; the others are scaled up (Srivastava et al. 2014).
    #[serde(default)]
    pub feature_dropout: f64,
}

/// The batches of one epoch: every record once, in an order given by the seed.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    order: Vec<usize>,
    batch: usize,
    seed: u64,
    augmentation: Augmentation,
}

impl BatchPlan {
    /// Shuffles `records` for `epoch`; a last batch that is not full is left out.
    pub fn new(records: &[usize], batch: usize, augmentation: Augmentation, seed: u64, epoch: u64) -> Self {
        let seed = seed ^ (epoch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut order = records.to_vec();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let batch = batch.clamp(1, order.len().max(1));
        Self { order, batch, seed, augmentation }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.order.len() / self.batch
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records of batch `n` with their views; the same for every call.
    pub fn batch(&self, n: usize) -> Vec<(usize, View)> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(1 + n as u64));
        let cropped = rng.random_bool(self.augmentation.crop_share);
        let view = |rng: &mut ChaCha8Rng| {
            let bare = rng.random_bool(self.augmentation.track_dropout);
            let turned = rng.random_bool(0.5);
            View { cropped, bare: bare.then_some(turned) }
        };
        self.order[n * self.batch..(n + 1) * self.batch].iter().map(|&i| (i, view(&mut rng))).collect()
    }

    /// Leaves out features of the pairs from `first` on of batch `n`, the same for every call.
    pub fn drop_features(&self, n: usize, first: usize, batch: &mut PairBatch) {
        let share = self.augmentation.feature_dropout;
        let pairs = batch.rows.rows / 2;
        if share == 0.0 || pairs == 0 {
            return;
        }
        let kept = (1.0 / (1.0 - share)) as f32;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(1 + n as u64));
        let width = batch.features.len() / pairs;
        for (pair, row) in batch.features.chunks_exact_mut(width.max(1)).enumerate() {
            // Stream 0 draws the views.
            rng.set_stream((first + pair + 1) as u64);
            rng.set_word_pos(0);
            for value in row.iter_mut().filter(|v| **v != 0.0) {
                *value *= if rng.random_bool(share) { 0.0 } else { kept };
            }
        }
    }
}

/// Smallest bucket that holds the longest row; the last one where none does.
pub fn bucket_for(longest: usize, buckets: &[usize]) -> usize {
    buckets.iter().copied().find(|&b| longest <= b).or(buckets.last().copied()).unwrap_or(longest)
}

/// Packs pairs into one padded batch: reference rows first, then alternate rows.
pub fn pack(pairs: &[Pair], n_features: usize, buckets: &[usize]) -> PairBatch {
    let longest = pairs.iter().map(|p| p.ref_ids.len()).max().unwrap_or(0);
    let tokens = bucket_for(longest, buckets);
    let count = pairs.len();
    let mut rows = Rows {
        rows: 2 * count,
        tokens,
        ids: vec![0; 2 * count * tokens],
        track: vec![0; 2 * count * tokens],
        mask: vec![0.0; 2 * count * tokens],
    };
    let mut features = vec![0.0; count * n_features];
    for (i, pair) in pairs.iter().enumerate() {
        for (at, ids) in [(i * tokens, &pair.ref_ids), ((count + i) * tokens, &pair.alt_ids)] {
            for (t, &id) in ids.iter().take(tokens).enumerate() {
                rows.ids[at + t] = u32::from(id);
                rows.track[at + t] = u32::from(pair.track[t]);
                rows.mask[at + t] = 1.0;
            }
        }
        pair.features.fill(&mut features[i * n_features..(i + 1) * n_features]);
    }
    PairBatch { rows, features }
}

/// The batch of a plan with its labels.
pub fn training_batch(
    dataset: &Dataset,
    tokenizer: &KmerTokenizer,
    items: &[(usize, View)],
    buckets: &[usize],
) -> (PairBatch, Vec<f32>) {
    let pairs: Vec<Pair> = items.iter().map(|(i, view)| view.of(&dataset.records[*i], tokenizer)).collect();
    let labels = items.iter().map(|(i, _)| f32::from(u8::from(dataset.records[*i].pathogenic))).collect();
    (pack(&pairs, dataset.features.len(), buckets), labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Features;

    const AUGMENTATION: Augmentation =
        Augmentation { track_dropout: 0.25, crop_share: 0.1, feature_dropout: 0.5 };

    #[test]
    fn an_epoch_shows_every_record_once_and_another_epoch_another_order() {
        let records: Vec<usize> = (0..1000).collect();
        let plan = BatchPlan::new(&records, 50, AUGMENTATION, 3, 0);
        let mut seen: Vec<usize> = (0..plan.len()).flat_map(|n| plan.batch(n)).map(|(i, _)| i).collect();
        assert_ne!(seen, records);
        assert_ne!(plan.batch(0), BatchPlan::new(&records, 50, AUGMENTATION, 3, 1).batch(0));
        assert_eq!(plan.batch(7), BatchPlan::new(&records, 50, AUGMENTATION, 3, 0).batch(7));
        seen.sort_unstable();
        assert_eq!(seen, records);
    }

    #[test]
    fn views_come_in_the_shares_asked_for() {
        let records: Vec<usize> = (0..20_000).collect();
        let plan = BatchPlan::new(&records, 20, AUGMENTATION, 5, 0);
        let views: Vec<View> = (0..plan.len()).flat_map(|n| plan.batch(n)).map(|(_, v)| v).collect();
        let share =
            |f: &dyn Fn(&View) -> bool| views.iter().filter(|v| f(v)).count() as f64 / views.len() as f64;
        assert!((share(&|v| v.bare.is_some()) - 0.25).abs() < 0.02);
        assert!((share(&|v| v.bare == Some(true)) - 0.125).abs() < 0.02);
        assert!((share(&|v| v.cropped) - 0.1).abs() < 0.03);
    }

    #[test]
    fn features_are_left_out_alike_whole_and_in_parts() {
        let plan = BatchPlan::new(&(0..100).collect::<Vec<_>>(), 20, AUGMENTATION, 5, 0);
        let pair =
            Pair { ref_ids: vec![1], alt_ids: vec![2], track: vec![6], features: Features::of(&[1.0; 400]) };
        let whole = |pairs: usize| pack(&vec![pair.clone(); pairs], 400, &[4]);
        let mut all = whole(20);
        plan.drop_features(3, 0, &mut all);
        let gone = all.features.iter().filter(|&&v| v == 0.0).count() as f64 / 8000.0;
        assert!((gone - 0.5).abs() < 0.03 && all.features.iter().all(|&v| v == 0.0 || v == 2.0));
        let mut part = whole(8);
        plan.drop_features(3, 12, &mut part);
        assert!(part.features == all.features[12 * 400..]);
        let mut other = whole(20);
        plan.drop_features(4, 0, &mut other);
        assert!(other.features != all.features);
    }

    #[test]
    fn padding_is_masked_and_buckets_are_the_smallest_that_hold() {
        let pair = |n: u16| Pair {
            ref_ids: (0..n).collect(),
            alt_ids: (0..n).map(|i| i + 1).collect(),
            track: vec![6; n.into()],
            features: Features::of(&[0.0, 2.0]),
        };
        let batch = pack(&[pair(5), pair(3)], 2, &[4, 8]);
        assert_eq!((batch.rows.rows, batch.rows.tokens), (4, 8));
        assert_eq!(&batch.rows.ids[8..16], [0, 1, 2, 0, 0, 0, 0, 0]);
        assert_eq!(&batch.rows.ids[24..28], [1, 2, 3, 0]);
        assert_eq!(batch.rows.mask.iter().sum::<f32>(), 16.0);
        assert_eq!(batch.features, [0.0, 2.0, 0.0, 2.0]);
        assert_eq!((bucket_for(4, &[4, 8]), bucket_for(5, &[4, 8]), bucket_for(9, &[4, 8])), (4, 8, 8));
    }
}
