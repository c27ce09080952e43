//! Span masking for the masked-token objective (Joshi et al., SpanBERT, 2020): neighbouring k-mers
//! share bases, so hiding one alone would give it away.

use locus_genome::tokenizer::{MASK, SPECIAL_TOKENS};
use rand::{Rng, RngExt};

/// How much is hidden.
#[derive(Clone, Copy, Debug)]
pub struct Masking {
    /// Share of the tokens that are to be guessed.
    pub share: f64,
    /// Shortest and longest span, in tokens.
    pub span: (usize, usize),
    /// Token ids.
    pub vocab_size: u32,
}

impl Masking {
    /// Hides spans of a row ([CLS] … [SEP], not padded) in place: 80 % of them as [MASK], 10 % as random
    /// k-mers, 10 % left as they are. Gives each hidden offset with its true token id, ascending.
    pub fn hide(&self, ids: &mut [u32], rng: &mut impl Rng) -> Vec<(usize, u32)> {
        let inner = ids.len().saturating_sub(2);
        let want = ((inner as f64 * self.share).round() as usize).clamp(usize::from(inner > 0), inner);
        let mut hidden = vec![false; ids.len()];
        let mut targets = Vec::new();
        // Bounded: a crowded row ends with fewer spans instead of a search for room.
        for _ in 0..8 * want {
            let left = want - targets.len();
            if left == 0 {
                break;
            }
            let length = rng.random_range(self.span.0..=self.span.1).min(inner);
            let start = 1 + rng.random_range(0..=inner - length);
            if hidden[start..start + length].iter().any(|&h| h) {
                continue;
            }
            let how: f64 = rng.random();
            for i in start..start + length {
                hidden[i] = true;
                if ids[i] < SPECIAL_TOKENS {
                    continue;
                }
                targets.push((i, ids[i]));
                if how < 0.8 {
                    ids[i] = MASK;
                } else if how < 0.9 {
                    ids[i] = rng.random_range(SPECIAL_TOKENS..self.vocab_size);
                }
            }
            if targets.len() >= want {
                break;
            }
        }
        targets.sort_unstable();
        targets
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MASKING: Masking = Masking { share: 0.2, span: (5, 9), vocab_size: 69 };

    #[test]
    fn spans_are_long_enough_that_no_hidden_base_is_seen_next_door() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut shares = Vec::new();
        for _ in 0..200 {
            let row: Vec<u32> = std::iter::once(2).chain((0..61).map(|i| 5 + i)).chain([3]).collect();
            let mut ids = row.clone();
            let targets = MASKING.hide(&mut ids, &mut rng);
            assert!(targets.iter().all(|&(i, id)| row[i] == id && i > 0 && i < 62));
            let changed: Vec<usize> = (0..63).filter(|&i| ids[i] != row[i]).collect();
            assert!(changed.iter().all(|i| targets.iter().any(|t| t.0 == *i)));
            let run = targets.chunk_by(|a, b| a.0 + 1 == b.0).map(<[_]>::len).min().unwrap();
            assert!(run >= 5, "a run of {run}");
            shares.push(targets.len() as f64 / 61.0);
        }
        let mean = shares.iter().sum::<f64>() / 200.0;
        assert!((0.15..0.32).contains(&mean), "{mean}");
    }

    #[test]
    fn eighty_ten_ten() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (mut masked, mut random, mut kept) = (0.0, 0.0, 0.0);
        for _ in 0..3000 {
            let row: Vec<u32> = std::iter::once(2).chain((0..61).map(|i| 5 + i)).chain([3]).collect();
            let mut ids = row.clone();
            for (i, id) in MASKING.hide(&mut ids, &mut rng) {
                if ids[i] == MASK {
                    masked += 1.0
                } else if ids[i] == id {
                    kept += 1.0
                } else {
                    random += 1.0
                }
            }
        }
        let all = masked + random + kept;
        assert!(
            (masked / all - 0.8f64).abs() < 0.02
                && (random / all - 0.1f64).abs() < 0.02
                && (kept / all - 0.1f64).abs() < 0.02
        );
    }

    #[test]
    fn an_empty_row_hides_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        assert!(MASKING.hide(&mut [2, 3], &mut rng).is_empty());
        assert!(MASKING.hide(&mut [], &mut rng).is_empty());
    }
}
