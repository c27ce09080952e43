//! Models that only count: Markov models of order 0 to 5, and the same counts with as many bases on the other side.

use super::Stretch;
use crate::{Result, packed::PackedGenome};

/// Most bases of context on a side.
pub const MOST: usize = 5;
/// Bases that are counted together: context on both sides of one base.
const WIDTH: usize = 2 * MOST + 1;
/// Bases that are read at once.
const PIECE: u64 = 1 << 20;

/// How often each base was seen between each context, on both strands.
#[derive(Debug)]
pub struct Counts {
    /// Left[n]: by the n bases to the left. Both[n]: by n bases on either side. Four counts a context.
    left: Vec<Vec<[u64; 4]>>,
    both: Vec<Vec<[u64; 4]>>,
}

/// Number of a base, `None` for anything but A, C, G and T.
pub const fn code(base: u8) -> Option<usize> {
    match base {
        b'A' => Some(0),
        b'C' => Some(1),
        b'G' => Some(2),
        b'T' => Some(3),
        _ => None,
    }
}

fn number(bases: impl Iterator<Item = u8>) -> Option<usize> {
    bases.map(code).try_fold(0, |n, c| Some(4 * n + c?))
}

impl Counts {
    /// Counts the bases of stretches and of their other strands. A base is counted where all its 2 · 5 neighbours are
    /// known.
    ///
    /// # Errors
    /// Bases that cannot be read.
    pub fn of(genome: &PackedGenome, stretches: &[Stretch]) -> Result<Self> {
        let size = 1 << (2 * WIDTH);
        let mut words = vec![0u64; size];
        for stretch in stretches {
            let mut start = stretch.start;
            while start < stretch.end {
                // Pieces share all but one base of a word, so that every word is counted once.
                let end = (start + PIECE + WIDTH as u64 - 1).min(stretch.end);
                let (mut word, mut known) = (0, 0);
                for base in genome.bases(stretch.record, start, end)? {
                    match code(base) {
                        Some(c) => (word, known) = ((4 * word + c) & (size - 1), known + 1),
                        None => known = 0,
                    }
                    if known >= WIDTH {
                        words[word] += 1;
                    }
                }
                start += PIECE;
            }
        }
        let empty = |n: usize| vec![[0; 4]; 1 << (2 * n)];
        let mut counts =
            Self { left: (0..=MOST).map(empty).collect(), both: (0..=MOST).map(|n| empty(2 * n)).collect() };
        for word in 0..size {
            let turned = (0..WIDTH).fold(0, |n, place| 4 * n + (3 - (word >> (2 * place)) % 4));
            let seen = words[word] + words[turned];
            if seen == 0 {
                continue;
            }
            let (before, base, after) =
                (word >> (2 * MOST + 2), (word >> (2 * MOST)) % 4, word % (1 << (2 * MOST)));
            for n in 0..=MOST {
                let (left, right) = (before % (1 << (2 * n)), after >> (2 * (MOST - n)));
                counts.left[n][left][base] += seen;
                counts.both[n][(left << (2 * n)) + right][base] += seen;
            }
        }
        Ok(counts)
    }

    /// Probability of each base after `context`, of which the last `order` bases are read: a Markov model with
    /// Witten-Bell smoothing (Witten & Bell 1991; every order leans on the one below, the lowest on ¼). `None` where
    /// the context is too short or ambiguous.
    pub fn markov(&self, order: usize, context: &[u8]) -> Option<[f64; 4]> {
        let context = &context[context.len().checked_sub(order)?..];
        let mut p = [0.25; 4];
        for n in 0..=order {
            let at = number(context[order - n..].iter().copied())?;
            p = smoothed(&self.left[n][at], p);
        }
        Some(p)
    }

    /// Probability of each base between `left` and `right`, of which the `n` nearest bases are read on either side,
    /// smoothed alike.
    pub fn between(&self, n: usize, left: &[u8], right: &[u8]) -> Option<[f64; 4]> {
        let (left, right) = (&left[left.len().checked_sub(n)?..], right.get(..n)?);
        let mut p = [0.25; 4];
        for m in 0..=n {
            let at = number(left[n - m..].iter().chain(&right[..m]).copied())?;
            p = smoothed(&self.both[m][at], p);
        }
        Some(p)
    }
}

fn smoothed(seen: &[u64; 4], below: [f64; 4]) -> [f64; 4] {
    let total: u64 = seen.iter().sum();
    let kinds = seen.iter().filter(|&&c| c > 0).count() as f64;
    if total == 0 {
        return below;
    }
    std::array::from_fn(|b| (seen[b] as f64 + kinds * below[b]) / (total as f64 + kinds))
}

#[cfg(test)]
mod tests {
    use locus_genome::dna;

    use super::*;
    use crate::language::regions::tests::{packed, random};

    fn counted(bases: &[u8]) -> Counts {
        let folder = tempfile::tempdir().unwrap();
        let genome = packed(folder.path(), &[("a", "", bases.to_vec())]);
        Counts::of(&genome, &[Stretch { record: 0, start: 0, end: bases.len() as u64 }]).unwrap()
    }

    /// A base by a rule of the two before it, 90 % of the time.
    fn ruled(n: usize) -> Vec<u8> {
        let noise = random(n, 3);
        let mut bases = noise[..2].to_vec();
        for i in 2..n {
            let of = |b: u8| code(b).unwrap();
            let rule = b"GATC"[(of(bases[i - 1]) + 2 * of(bases[i - 2])) % 4];
            bases.push(if i % 10 == 0 { noise[i] } else { rule });
        }
        bases
    }

    fn bits(counts: &Counts, order: usize, bases: &[u8]) -> f64 {
        let cost = |i: usize| -counts.markov(order, &bases[..i]).unwrap()[code(bases[i]).unwrap()].log2();
        (20..bases.len()).map(cost).sum::<f64>() / (bases.len() - 20) as f64
    }

    #[test]
    fn every_distribution_sums_to_one_and_is_never_nothing() {
        let counts = counted(&ruled(3_000));
        let bases = random(200, 7);
        for i in 10..190 {
            for n in 0..=MOST {
                for p in [
                    counts.markov(n, &bases[..i]).unwrap(),
                    counts.between(n, &bases[..i], &bases[i + 1..]).unwrap(),
                ] {
                    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|&p| p > 0.0));
                }
            }
        }
        assert_eq!(counts.markov(3, b"AC"), None);
        assert_eq!(counts.markov(3, b"ACGNT"), None);
        assert_eq!(counts.between(2, b"ACGT", b"A"), None);
    }

    #[test]
    fn a_rule_of_two_bases_is_learnt_from_order_two_on() {
        let counts = counted(&ruled(200_000));
        let bases = ruled(4_000);
        let by_order: Vec<f64> = (0..=MOST).map(|n| bits(&counts, n, &bases)).collect();
        assert!(by_order[2] < by_order[0] - 0.3 && by_order[5] < by_order[1], "{by_order:?}");
        let even = bits(&counted(&random(200_000, 5)), 5, &random(4_000, 6));
        assert!((even - 2.0).abs() < 0.02, "{even}");
    }

    #[test]
    fn both_strands_are_counted_once_each() {
        let bases = [random(300, 2), b"N".to_vec(), random(100, 8)].concat();
        let counts = counted(&bases);
        // 290 + 90 words, twice.
        assert_eq!(counts.left[0][0].iter().sum::<u64>(), 760);
        let turned = counted(&dna::reverse_complement(&bases));
        assert_eq!((counts.left, counts.both), (turned.left, turned.both));
    }

    #[test]
    fn long_stretches_are_counted_as_one() {
        let counts = counted(&random(PIECE as usize + 5_000, 4));
        assert_eq!(counts.left[0][0].iter().sum::<u64>(), 2 * (PIECE + 5_000 - WIDTH as u64 + 1));
    }
}
