//! Global alignment of two sequences with affine gaps (Gotoh 1982) in memory that grows with their length, not with
//! its square (Myers & Miller 1988).

use serde::Serialize;

/// What letters and gaps are worth.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// Of two letters.
    pub letters: fn(u8, u8) -> i32,
    /// Cost of a gap, beside that of its letters.
    pub open: i32,
    /// Cost of each of its letters.
    pub extend: i32,
}

impl Scoring {
    /// BLOSUM62 with gaps of 11 + 1 a residue, as protein BLAST has them: the first residue of a gap costs 12.
    pub const PROTEIN: Self = Self { letters: blosum62, open: 11, extend: 1 };
    /// 2 for the same base, −3 for another, gaps of 5 + 2 a base, as nucleotide BLAST has them.
    pub const NUCLEOTIDE: Self = Self { letters: bases, open: 5, extend: 2 };
}

fn blosum62(a: u8, b: u8) -> i32 {
    use locus_genome::amino;
    let index = |c: u8| amino::residue_index(c.to_ascii_uppercase());
    match (index(a), index(b)) {
        (Some(a), Some(b)) => i32::from(amino::blosum62(a, b)),
        _ => -1,
    }
}

fn bases(a: u8, b: u8) -> i32 {
    let known = |c: u8| b"ACGTU".contains(&c.to_ascii_uppercase());
    if a.eq_ignore_ascii_case(&b) && known(a) { 2 } else { -3 }
}

/// An alignment of all of both sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alignment {
    /// The best score.
    pub score: i64,
    /// Columns of the alignment.
    pub columns: usize,
    /// Columns with the same letter twice.
    pub identical: usize,
    /// Index in the first and in the second sequence of letters in one column.
    #[serde(skip)]
    pub pairs: Vec<(usize, usize)>,
}

impl Alignment {
    /// Share of the columns that hold the same letter twice.
    pub fn identity(&self) -> f64 {
        self.identical as f64 / self.columns.max(1) as f64
    }
}

/// Aligns two sequences from end to end. Time grows with the product of their lengths.
pub fn align(a: &[u8], b: &[u8], scoring: &Scoring) -> Alignment {
    let mut pairs = Vec::new();
    Halves { scoring, pairs: &mut pairs }.split((a, 0), (b, 0), scoring.open, scoring.open);
    let identical = pairs.iter().filter(|&&(i, j)| a[i].eq_ignore_ascii_case(&b[j])).count();
    let letters: i64 = pairs.iter().map(|&(i, j)| i64::from((scoring.letters)(a[i], b[j]))).sum();
    let gap =
        |n: usize| if n == 0 { 0 } else { i64::from(scoring.open) + n as i64 * i64::from(scoring.extend) };
    let mut next = (0, 0);
    let mut gaps = 0;
    for &(i, j) in pairs.iter().chain([&(a.len(), b.len())]) {
        gaps += gap(i - next.0) + gap(j - next.1);
        next = (i + 1, j + 1);
    }
    Alignment { score: letters - gaps, columns: a.len() + b.len() - pairs.len(), identical, pairs }
}

/// Letters and the index of the first of them.
type Part<'a> = (&'a [u8], usize);

struct Halves<'a> {
    scoring: &'a Scoring,
    pairs: &'a mut Vec<(usize, usize)>,
}

impl Halves<'_> {
    /// Aligns two parts; `top` and `bottom` are what opening a gap in the second part at either end still costs: 0
    /// where the gap is one that the neighbouring part opened.
    fn split(&mut self, (a, at_a): Part<'_>, (b, at_b): Part<'_>, top: i32, bottom: i32) {
        let (open, extend) = (self.scoring.open, self.scoring.extend);
        if a.is_empty() || b.is_empty() {
            return;
        }
        if a.len() == 1 {
            // The one letter beside the best of the others, or beside none.
            let around = |n: usize| if n == 0 { 0 } else { open + extend * n as i32 };
            let alone = -(top.min(bottom) + extend) - around(b.len());
            let at = |j: usize| (self.scoring.letters)(a[0], b[j]) - around(j) - around(b.len() - 1 - j);
            let best = (0..b.len()).rev().max_by_key(|&j| at(j)).expect("not empty");
            if at(best) >= alone {
                self.pairs.push((at_a, at_b + best));
            }
            return;
        }
        let middle = a.len() / 2;
        let (upper, lower) = a.split_at(middle);
        let (best_up, gap_up) = self.rows(upper.iter(), b.iter(), b.len(), top);
        let (best_down, gap_down) = self.rows(lower.iter().rev(), b.iter().rev(), b.len(), bottom);
        let mut best = (i32::MIN, 0, false);
        for j in 0..=b.len() {
            let k = b.len() - j;
            // A gap that goes through the middle is opened once.
            for (score, through) in
                [(best_up[j] + best_down[k], false), (gap_up[j] + gap_down[k] + open, true)]
            {
                if score > best.0 {
                    best = (score, j, through);
                }
            }
        }
        let (_, j, through) = best;
        let (left, right) = b.split_at(j);
        if through {
            // The two letters at the middle stand beside nothing.
            self.split((&upper[..middle - 1], at_a), (left, at_b), top, 0);
            self.split((&lower[1..], at_a + middle + 1), (right, at_b + j), 0, bottom);
        } else {
            self.split((upper, at_a), (left, at_b), top, open);
            self.split((lower, at_a + middle), (right, at_b + j), open, bottom);
        }
    }

    /// The best score of all of `a` with each beginning of `b`: over all, and of those that end with a letter of `a`
    /// beside nothing.
    fn rows<'s>(
        &self,
        a: impl Iterator<Item = &'s u8>,
        b: impl Iterator<Item = &'s u8> + Clone,
        length: usize,
        top: i32,
    ) -> (Vec<i32>, Vec<i32>) {
        let (open, extend) = (self.scoring.open, self.scoring.extend);
        let none = i32::MIN / 2;
        let mut best: Vec<i32> =
            (0..=length as i32).map(|j| if j == 0 { 0 } else { -open - extend * j }).collect();
        let mut gap = vec![none; length + 1];
        let mut first = -top;
        for &x in a {
            let mut diagonal = best[0];
            first -= extend;
            (best[0], gap[0]) = (first, first);
            let mut beside = none;
            for (j, &y) in b.clone().enumerate().map(|(j, y)| (j + 1, y)) {
                beside = beside.max(best[j - 1] - open) - extend;
                gap[j] = gap[j].max(best[j] - open) - extend;
                let paired = diagonal + (self.scoring.letters)(x, y);
                diagonal = best[j];
                best[j] = paired.max(beside).max(gap[j]);
            }
        }
        (best, gap)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The best score by the full table of three states.
    fn full(a: &[u8], b: &[u8], s: &Scoring) -> i64 {
        let none = i64::MIN / 4;
        let (open, extend) = (i64::from(s.open), i64::from(s.extend));
        let mut t = vec![vec![[none; 3]; b.len() + 1]; a.len() + 1];
        t[0][0][0] = 0;
        let top = |c: [i64; 3]| c.into_iter().max().unwrap();
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                if i > 0 && j > 0 {
                    t[i][j][0] = top(t[i - 1][j - 1]) + i64::from((s.letters)(a[i - 1], b[j - 1]));
                }
                if i > 0 {
                    let c = t[i - 1][j];
                    t[i][j][1] = (c[1] - extend).max(c[0].max(c[2]) - open - extend);
                }
                if j > 0 {
                    let c = t[i][j - 1];
                    t[i][j][2] = (c[2] - extend).max(c[0].max(c[1]) - open - extend);
                }
            }
        }
        top(t[a.len()][b.len()])
    }

    #[test]
    fn the_score_is_that_of_the_full_table() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for n in 0..400 {
            let letters: &[u8] = if n % 2 == 0 { b"ACGT" } else { b"ARNDCQEGHILKMFPSTWYV" };
            let scoring = if n % 2 == 0 { Scoring::NUCLEOTIDE } else { Scoring::PROTEIN };
            let mut draw = |most: usize| -> Vec<u8> {
                (0..rng.random_range(0..most)).map(|_| letters[rng.random_range(0..letters.len())]).collect()
            };
            let (a, mut b) = (draw(30), draw(30));
            if n % 3 == 0 {
                // One that lost a piece and gained another.
                b = [&a[..a.len() / 3], &b[..b.len().min(3)], &a[a.len() / 2..]].concat();
            }
            let found = align(&a, &b, &scoring);
            assert_eq!(found.score, full(&a, &b, &scoring), "{a:?} {b:?} {found:?}");
            assert!(found.pairs.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 < p[1].1));
        }
    }

    #[test]
    fn identity_of_hand_computed_cases() {
        let found = align(b"ACGTACGTACGT", b"ACGTACGT", &Scoring::NUCLEOTIDE);
        assert_eq!((found.score, found.columns, found.identical), (16 - 5 - 8, 12, 8));
        assert!((align(b"HEAGAWGHEE", b"heagawghee", &Scoring::PROTEIN).identity() - 1.0).abs() < 1e-12);
        let empty = align(b"", b"ACG", &Scoring::NUCLEOTIDE);
        assert_eq!((empty.score, empty.columns, empty.identity()), (-11, 3, 0.0));
        assert_eq!(align(b"", b"", &Scoring::PROTEIN).columns, 0);
        // What is not known is not the same.
        assert_eq!(align(b"N", b"N", &Scoring::NUCLEOTIDE).score, -3);
    }

    #[test]
    fn ten_thousand_bases_are_aligned_in_little_memory() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let a: Vec<u8> = (0..10_000).map(|_| b"ACGT"[rng.random_range(0..4)]).collect();
        let mut b = a.clone();
        b.drain(4_000..4_100);
        b[77] = if b[77] == b'A' { b'C' } else { b'A' };
        let found = align(&a, &b, &Scoring::NUCLEOTIDE);
        assert_eq!((found.identical, found.columns), (9_899, 10_000));
    }
}
