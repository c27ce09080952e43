//! What a language model is asked: hidden spans (Devlin et al. 2019; Joshi et al. 2020), whether one segment follows
//! another (Devlin et al. 2019), in which order shuffled segments stood (Lan et al., ALBERT, 2020, with three segments
//! instead of two).
//!
//! Rows of segments carry no track, and no segment number in its place: the track's codes say what a base is, and
//! [SEP] already says where a segment ends.

use std::ops::Range;

use locus_genome::{
    KmerTokenizer,
    tokenizer::{CLS, SEP},
    window::Window,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Windows;
use crate::{
    Result,
    data::{augment::bucket_for, masking::Masking},
    model::{ORDERS, Rows},
};

/// `[pretrain.objectives]`: how often each question is asked. A step asks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// Hidden spans.
    #[serde(default)]
    pub mlm: f64,
    /// Whether the second segment follows the first.
    #[serde(default)]
    pub next_segment: f64,
    /// The order of three segments.
    #[serde(default)]
    pub order: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self { mlm: 1.0, next_segment: 0.0, order: 0.0 }
    }
}

/// One of the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hidden spans.
    Mlm,
    /// Whether the second segment follows the first.
    NextSegment,
    /// The order of three segments.
    Order,
}

impl Kind {
    /// As written in recipes and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mlm => "mlm",
            Self::NextSegment => "next_segment",
            Self::Order => "order",
        }
    }
}

impl Objectives {
    /// The question of a step: drawn by the weights, the same for a step and a seed.
    pub fn of_step(&self, seed: u64, step: u64) -> Kind {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6f62_6a65_6374_6976);
        rng.set_stream(step);
        let at = rng.random::<f64>() * (self.mlm + self.next_segment + self.order);
        match at {
            _ if at < self.mlm => Kind::Mlm,
            _ if at < self.mlm + self.next_segment => Kind::NextSegment,
            _ => Kind::Order,
        }
    }
}

/// Rows with a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What is asked.
    pub kind: Kind,
    /// Padded rows.
    pub rows: Rows,
    /// Hidden offsets (indices into rows·tokens); none where a whole row is asked about.
    pub places: Vec<u32>,
    /// True token id of each place, or the answer for each row.
    pub targets: Vec<u32>,
}

/// How rows are made.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a, W> {
    /// Where windows come from.
    pub windows: &'a W,
    /// What is hidden of them.
    pub masking: Masking,
    /// Padded lengths, ascending.
    pub buckets: &'a [usize],
    /// Seed of everything.
    pub seed: u64,
}

/// One row before padding: token ids and track with [CLS] and [SEP], hidden offsets, targets.
type Row = (Vec<u32>, Vec<u32>, Vec<usize>, Vec<u32>);

impl<W: Windows> Maker<'_, W> {
    /// The rows of these numbers. A number and the seed decide what its row is.
    ///
    /// # Errors
    /// Bases that cannot be read.
    pub fn batch(&self, kind: Kind, numbers: Range<u64>) -> Result<Batch> {
        let row = |n: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(n);
            match kind {
                Kind::Mlm => self.hidden(&mut rng),
                Kind::NextSegment => self.next_segment(&mut rng),
                Kind::Order => self.order(&mut rng),
            }
        };
        let all: Vec<Row> = numbers.map(row).collect::<Result<_>>()?;
        let tokens = bucket_for(all.iter().map(|r| r.0.len()).max().unwrap_or(0), self.buckets);
        let size = all.len() * tokens;
        let mut rows =
            Rows { rows: all.len(), tokens, ids: vec![0; size], track: vec![0; size], mask: vec![0.0; size] };
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        for (n, (ids, track, hidden, answers)) in all.into_iter().enumerate() {
            let at = n * tokens;
            rows.ids[at..at + ids.len()].copy_from_slice(&ids);
            rows.track[at..at + track.len()].copy_from_slice(&track);
            rows.mask[at..at + ids.len()].fill(1.0);
            places.extend(hidden.into_iter().map(|place| (at + place) as u32));
            targets.extend(answers);
        }
        Ok(Batch { kind, rows, places, targets })
    }

    fn hidden(&self, rng: &mut ChaCha8Rng) -> Result<Row> {
        let window = self.windows.draw(rng)?;
        let tokenizer = self.windows.tokenizer();
        let small = |v: Vec<i64>| v.into_iter().map(|i| i as u32).collect::<Vec<u32>>();
        let (mut ids, track) = (small(window.ids(tokenizer)), small(window.token_track(tokenizer)));
        let (places, targets) = self.masking.hide(&mut ids, rng).into_iter().unzip();
        Ok((ids, track, places, targets))
    }

    fn next_segment(&self, rng: &mut ChaCha8Rng) -> Result<Row> {
        let window = self.windows.draw(rng)?;
        let follows = rng.random_bool(0.5);
        let other = if follows { window.clone() } else { self.windows.draw(rng)? };
        let tokenizer = self.windows.tokenizer();
        let [first, _] = segments(&window, tokenizer);
        let [_, second] = segments(&other, tokenizer);
        Ok(joined(&[first, second], tokenizer, u32::from(follows)))
    }

    fn order(&self, rng: &mut ChaCha8Rng) -> Result<Row> {
        let window = self.windows.draw(rng)?;
        let tokenizer = self.windows.tokenizer();
        let parts: [&[u8]; 3] = segments(&window, tokenizer);
        let answer = rng.random_range(0..ORDERS.len());
        Ok(joined(&ORDERS[answer].map(|n| parts[n]), tokenizer, answer as u32))
    }
}

/// Cuts a window into N segments of as many whole tokens each. Each cut gives up the bases of one token, so that the
/// rows with their [SEP]s are no longer than the window's own.
fn segments<'w, const N: usize>(window: &'w Window, tokenizer: &KmerTokenizer) -> [&'w [u8]; N] {
    let most = window.bases.len().saturating_sub((N - 1) * tokenizer.stride()) / N;
    let length =
        tokenizer.bases((most + tokenizer.stride()).saturating_sub(tokenizer.k()) / tokenizer.stride());
    std::array::from_fn(|n| &window.bases[n * length..(n + 1) * length])
}

fn joined(segments: &[&[u8]], tokenizer: &KmerTokenizer, answer: u32) -> Row {
    let mut ids = vec![CLS];
    for segment in segments {
        ids.extend(tokenizer.encode(segment));
        ids.push(SEP);
    }
    let track = vec![0; ids.len()];
    (ids, track, Vec::new(), vec![answer])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows that count up, so that every token says where it stood.
    struct Ramp(KmerTokenizer, usize);

    impl Windows for Ramp {
        fn tokenizer(&self) -> &KmerTokenizer {
            &self.0
        }

        fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Window> {
            let seed = rng.random_range(0..1_000);
            let bases = crate::language::regions::tests::random(self.1, seed);
            Ok(Window { centre: 0, track: (0..self.1).map(|i| (i % 9) as u8).collect(), bases })
        }
    }

    fn maker(windows: &Ramp) -> Maker<'_, Ramp> {
        let masking = Masking { share: 0.2, span: (3, 6), vocab_size: 69, overlap: 3 };
        Maker { windows, masking, buckets: &[32, 64], seed: 5 }
    }

    #[test]
    fn the_weights_say_how_often_each_question_is_asked() {
        let mixed = Objectives { mlm: 1.0, next_segment: 0.5, order: 0.5 };
        let kinds: Vec<Kind> = (0..4_000).map(|step| mixed.of_step(9, step)).collect();
        let share = |k: Kind| kinds.iter().filter(|&&o| o == k).count() as f64 / 4_000.0;
        assert!((share(Kind::Mlm) - 0.5).abs() < 0.04 && (share(Kind::Order) - 0.25).abs() < 0.04);
        assert!((0..500).all(|s| Objectives::default().of_step(1, s) == Kind::Mlm));
        let one = Objectives { mlm: 0.0, next_segment: 0.0, order: 2.0 };
        assert!((0..500).all(|s| one.of_step(1, s) == Kind::Order));
    }

    #[test]
    fn a_row_is_decided_by_its_number_alone() {
        let windows = Ramp(KmerTokenizer::new(3, 1).unwrap(), 63);
        let maker = maker(&windows);
        for kind in [Kind::Mlm, Kind::NextSegment, Kind::Order] {
            let whole = maker.batch(kind, 10..14).unwrap();
            let (left, right) = (maker.batch(kind, 10..12).unwrap(), maker.batch(kind, 12..14).unwrap());
            assert_eq!(whole.rows.ids, [left.rows.ids, right.rows.ids].concat());
            assert_eq!(whole.targets, [left.targets, right.targets].concat());
            assert_ne!(whole.rows.ids, maker.batch(kind, 11..15).unwrap().rows.ids);
        }
    }

    #[test]
    fn hidden_rows_keep_their_track_and_rows_of_segments_have_none() {
        let windows = Ramp(KmerTokenizer::new(3, 1).unwrap(), 63);
        let maker = maker(&windows);
        let hidden = maker.batch(Kind::Mlm, 0..4).unwrap();
        assert!(hidden.rows.track.iter().any(|&t| t > 0) && hidden.places.len() == hidden.targets.len());
        for kind in [Kind::NextSegment, Kind::Order] {
            let batch = maker.batch(kind, 0..64).unwrap();
            assert!(batch.places.is_empty() && batch.targets.len() == 64);
            assert!(batch.rows.track.iter().all(|&t| t == 0) && batch.rows.tokens == 64);
        }
    }

    #[test]
    fn a_segment_that_follows_goes_on_where_the_first_ends() {
        // Without overlap the tokens of both segments are those of the window, in order.
        for (k, stride, bases) in [(3, 3, 60), (3, 1, 63)] {
            let windows = Ramp(KmerTokenizer::new(k, stride).unwrap(), bases);
            let maker = maker(&windows);
            let batch = maker.batch(Kind::NextSegment, 0..200).unwrap();
            assert!((60..140).contains(&batch.targets.iter().sum::<u32>()));
            for (n, &follows) in batch.targets.iter().enumerate() {
                let ids = &batch.rows.ids[n * batch.rows.tokens..(n + 1) * batch.rows.tokens];
                let parts: Vec<&[u32]> = ids[1..].split(|&id| id == SEP).collect();
                assert!(ids[0] == CLS && parts.len() == 3 && parts[0].len() == parts[1].len());
                let mut rng = ChaCha8Rng::seed_from_u64(5);
                rng.set_stream(n as u64);
                let window = windows.draw(&mut rng).unwrap();
                let length = windows.0.bases(parts[0].len());
                assert_eq!(parts[0], windows.0.encode(&window.bases[..length]));
                let next = windows.0.encode(&window.bases[length..2 * length]);
                assert_eq!(parts[1] == next, follows == 1, "{n}");
            }
        }
    }

    #[test]
    fn an_order_is_the_permutation_of_its_answer_and_no_row_outgrows_its_window() {
        for (k, stride, kmers) in [(3, 1, 61), (6, 6, 20), (3, 3, 62)] {
            let tokenizer = KmerTokenizer::new(k, stride).unwrap();
            let windows = Ramp(tokenizer, tokenizer.bases(kmers));
            let buckets = [kmers + 2];
            let maker = Maker { buckets: &buckets, ..maker(&windows) };
            let batch = maker.batch(Kind::Order, 0..100).unwrap();
            assert_eq!(batch.rows.tokens, kmers + 2);
            for (n, &answer) in batch.targets.iter().enumerate() {
                let ids = &batch.rows.ids[n * batch.rows.tokens..(n + 1) * batch.rows.tokens];
                let parts: Vec<&[u32]> = ids[1..].split(|&id| id == SEP).take(3).collect();
                let mut rng = ChaCha8Rng::seed_from_u64(5);
                rng.set_stream(n as u64);
                let window = windows.draw(&mut rng).unwrap();
                let cut: [&[u8]; 3] = segments(&window, &tokenizer);
                for (part, &from) in parts.iter().zip(&ORDERS[answer as usize]) {
                    assert_eq!(*part, tokenizer.encode(cut[from]));
                }
            }
        }
    }
}
