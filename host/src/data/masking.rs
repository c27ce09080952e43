//! Span masking for the masked-token objective (Devlin et al. 2019; spans: Joshi et al., SpanBERT, 2020):
//! neighbouring k-mers share bases, so hiding one alone would give it away.

use locus_genome::tokenizer::{MASK, SPECIAL_TOKENS};
use rand::{Rng, RngExt};

/// How much is hidden.
#[derive(Clone, Copy, Debug)]
pub struct Masking {
    /// Share of the tokens that are to be guessed.
    pub share: f64,
    /// Shortest and longest span, in tokens. A span of overlapping k-mers hides k - 1 bases fewer than it has tokens,
    /// because its neighbours show the others.
    pub span: (usize, usize),
    /// Token ids.
    pub vocab_size: u32,
    /// k where the tokens are overlapping k-mers, from base to base; 1 where no token shows what another does.
    pub overlap: usize,
}

impl Masking {
    /// Hides spans of a row ([CLS] … [SEP], not padded) in place: 80 % of them as [MASK], 10 % with random content,
    /// 10 % left as they are, each span as a whole. Spans may reach over the ends of the row and are cut there, so
    /// that every token is hidden as often. Gives each hidden offset with its true token id, ascending.
    pub fn hide(&self, ids: &mut [u32], rng: &mut impl Rng) -> Vec<(usize, u32)> {
        let inner = ids.len().saturating_sub(2);
        let want = ((inner as f64 * self.share).round() as usize).clamp(usize::from(inner > 0), inner);
        let mut hidden = vec![false; ids.len()];
        let mut targets = Vec::new();
        // Bounded: a crowded row ends with fewer spans instead of a search for room.
        for _ in 0..8 * want {
            if targets.len() >= want {
                break;
            }
            let length = rng.random_range(self.span.0..=self.span.1).min(inner);
            let end = rng.random_range(1..inner + length);
            let span = 1 + end.saturating_sub(length)..1 + end.min(inner);
            if hidden[span.clone()].iter().any(|&h| h) {
                continue;
            }
            hidden[span.clone()].fill(true);
            targets.extend(span.clone().map(|i| (i, ids[i])).filter(|t| t.1 >= SPECIAL_TOKENS));
            let how: f64 = rng.random();
            if how < 0.8 {
                ids[span].iter_mut().filter(|id| **id >= SPECIAL_TOKENS).for_each(|id| *id = MASK);
            } else if how < 0.9 {
                let ends = (span.start > 1, span.end <= inner);
                self.randomise(&mut ids[span], ends, rng);
            }
        }
        targets.sort_unstable();
        targets
    }

    /// Random content: of overlapping k-mers the hidden bases are drawn anew, so that neighbours agree as those of a
    /// real sequence do and nothing betrays that the span is not one. `seen` says whether a token follows on either
    /// side, which shows the outer bases.
    fn randomise(&self, span: &mut [u32], seen: (bool, bool), rng: &mut impl Rng) {
        let k = self.overlap.max(1);
        if k == 1 || span.iter().any(|&id| id < SPECIAL_TOKENS) {
            for id in span.iter_mut().filter(|id| **id >= SPECIAL_TOKENS) {
                *id = rng.random_range(SPECIAL_TOKENS..self.vocab_size);
            }
            return;
        }
        let digit = |id: u32, place: usize| (id - SPECIAL_TOKENS) / 4u32.pow((k - 1 - place) as u32) % 4;
        let last = span[span.len() - 1];
        let mut bases: Vec<u32> =
            span.iter().map(|&id| digit(id, 0)).chain((1..k).map(|place| digit(last, place))).collect();
        let from = if seen.0 { k - 1 } else { 0 };
        let to = if seen.1 { span.len() } else { bases.len() };
        for base in bases.iter_mut().take(to).skip(from) {
            *base = rng.random_range(0..4);
        }
        for (id, kmer) in span.iter_mut().zip(bases.windows(k)) {
            *id = SPECIAL_TOKENS + kmer.iter().fold(0, |code, base| 4 * code + base);
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::{KmerTokenizer, tokenizer::UNK};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MASKING: Masking = Masking { share: 0.2, span: (5, 9), vocab_size: 69, overlap: 3 };

    fn row(rng: &mut ChaCha8Rng) -> Vec<u32> {
        let bases: Vec<u8> = (0..63).map(|_| b"ACGT"[rng.random_range(0..4)]).collect();
        let kmers = KmerTokenizer::new(3, 1).unwrap().encode(&bases);
        std::iter::once(2).chain(kmers).chain([3]).collect()
    }

    /// Whether each k-mer goes on where the one before ends.
    fn agrees(ids: &[u32]) -> bool {
        ids.windows(2).all(|w| w[0] < 5 || w[1] < 5 || (w[0] - 5) % 16 == (w[1] - 5) / 4)
    }

    #[test]
    fn spans_are_long_enough_that_no_hidden_base_is_seen_next_door() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut shares, mut first, mut last, mut middle) = (Vec::new(), 0, 0, 0);
        for _ in 0..2_000 {
            let row = row(&mut rng);
            let mut ids = row.clone();
            let targets = MASKING.hide(&mut ids, &mut rng);
            assert!(targets.iter().all(|&(i, id)| row[i] == id && i > 0 && i < 62));
            let changed: Vec<usize> = (0..63).filter(|&i| ids[i] != row[i]).collect();
            assert!(changed.iter().all(|i| targets.iter().any(|t| t.0 == *i)));
            for run in targets.chunk_by(|a, b| a.0 + 1 == b.0) {
                let cut = run[0].0 == 1 || run[run.len() - 1].0 == 61;
                assert!(cut || run.len() >= 5, "a run of {}", run.len());
            }
            let at = |i: usize| usize::from(targets.iter().any(|t| t.0 == i));
            (first, last, middle) = (first + at(1), last + at(61), middle + at(31));
            shares.push(targets.len() as f64 / 61.0);
        }
        let mean = shares.iter().sum::<f64>() / 2_000.0;
        assert!((0.15..0.32).contains(&mean), "{mean}");
        // The ends are hidden as often as the middle: 0.2 to 0.27 of 2,000 rows, deviation 20.
        assert!(first.abs_diff(middle) < 120 && last.abs_diff(middle) < 120, "{first} {middle} {last}");
    }

    #[test]
    fn eighty_ten_ten() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (mut masked, mut random, mut kept) = (0.0, 0.0, 0.0);
        for _ in 0..3_000 {
            let mut ids = row(&mut rng);
            let targets = MASKING.hide(&mut ids, &mut rng);
            for span in targets.chunk_by(|a, b| a.0 + 1 == b.0) {
                let n = span.len() as f64;
                if span.iter().all(|&(i, _)| ids[i] == MASK) {
                    masked += n;
                } else if span.iter().all(|&(i, id)| ids[i] == id) {
                    kept += n;
                } else if span.iter().all(|&(i, _)| ids[i] != MASK) {
                    random += n;
                }
            }
        }
        let all: f64 = masked + random + kept;
        // Spans that touch are not told apart here, which mixes a few.
        for (share, expected) in [(masked, 0.8), (random, 0.1), (kept, 0.1)] {
            assert!((share / all - expected).abs() < 0.04, "{masked} {random} {kept}");
        }
    }

    #[test]
    fn a_random_span_reads_on_from_its_neighbours() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut random = 0;
        for _ in 0..1_000 {
            let row = row(&mut rng);
            let mut ids = row.clone();
            let targets = MASKING.hide(&mut ids, &mut rng);
            assert!(agrees(&row) && agrees(&ids), "{ids:?}");
            random += targets.iter().filter(|&&(i, id)| ids[i] != MASK && ids[i] != id).count();
        }
        assert!(random > 500, "{random}");
    }

    #[test]
    fn what_is_unknown_is_neither_hidden_nor_guessed_and_an_empty_row_hides_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        assert!(MASKING.hide(&mut [2, 3], &mut rng).is_empty());
        assert!(MASKING.hide(&mut [], &mut rng).is_empty());
        for _ in 0..200 {
            let mut ids: Vec<u32> = std::iter::once(2).chain([UNK; 30]).chain([3]).collect();
            assert!(MASKING.hide(&mut ids, &mut rng).is_empty() && ids[1..31] == [UNK; 30]);
        }
    }
}
