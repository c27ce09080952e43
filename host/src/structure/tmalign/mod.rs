//! Which residues of two structures correspond, by shape alone: the search of TM-align (Zhang & Skolnick 2005).
//!
//! Five first guesses (gapless threading, secondary structure, superposed fragments, both together, fragments
//! without a break) are each improved by dynamic programming over the superposed structures; the best by TM-score
//! wins.

mod first;
mod programming;

use serde::Serialize;

use super::{
    Point,
    score::d0,
    search::search,
    superpose::{Superposition, squared_distance, superpose},
};

/// For each residue of the second structure the one of the first that it corresponds to.
type Map = Vec<Option<usize>>;

/// Step between starts while guesses are compared.
const COARSE: usize = 40;
/// What opening a gap costs in the rounds of dynamic programming.
const GAPS: [f64; 2] = [-0.6, 0.0];
/// Most residues of one structure.
pub const MAX_RESIDUES: usize = 5_000;

/// Two structures and what distances count.
struct Problem<'a> {
    x: &'a [Point],
    y: &'a [Point],
    /// Length that scores are divided by while searching.
    length: f64,
    d0: f64,
    /// Smallest distance for guesses.
    least: f64,
    reach: f64,
    /// Pairs further apart than this do not count.
    far: f64,
}

/// Corresponding residues and how near they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StructuralAlignment {
    /// Corresponding residues.
    pub pairs: usize,
    /// Root mean square distance of these, in ångström.
    pub rmsd: f64,
    /// Share of these with the same residue.
    pub identity: f64,
    /// TM-score divided by the length of the first structure.
    pub tm_score_first: f64,
    /// TM-score divided by the length of the second structure.
    pub tm_score_second: f64,
    /// Indices of residues that correspond.
    #[serde(skip)]
    pub aligned: Vec<(usize, usize)>,
}

/// Aligns two structures, given as alpha carbons and one-letter codes. `None` where one has fewer than 5 residues, or
/// over [`MAX_RESIDUES`].
pub fn structural_alignment(
    (x, codes_x): (&[Point], &[u8]),
    (y, codes_y): (&[Point], &[u8]),
) -> Option<StructuralAlignment> {
    let shortest = x.len().min(y.len());
    if shortest < 5 || x.len().max(y.len()) > MAX_RESIDUES {
        return None;
    }
    let length = shortest as f64;
    let base = if shortest <= 19 { 0.168 } else { 1.24 * (length - 15.0).cbrt() - 1.8 };
    let least = base + 0.8;
    let far = 1.5 * length.powf(0.3) + 3.5;
    let problem = Problem { x, y, length, d0: least, least, reach: least.clamp(4.5, 8.0), far };
    let map = problem.best_map();
    let (_, by) = problem.score(&map, 1);
    // Only pairs that lie near in the end count.
    let kept: Vec<(usize, usize)> =
        paired(&map).filter(|&(i, j)| squared_distance(by.apply(x[i]), y[j]).sqrt() <= problem.far).collect();
    let points: Vec<(Point, Point)> = kept.iter().map(|&(i, j)| (x[i], y[j])).collect();
    if points.is_empty() {
        return None;
    }
    let tm_score = |length: usize| {
        let d0 = if length <= 21 { 0.5 } else { d0(length) };
        let mut best = 0.0_f64;
        search(&points, d0.clamp(4.5, 8.0), 1, |_, distances| {
            best = best.max(distances.iter().map(|d| 1.0 / (1.0 + (d / d0).powi(2))).sum());
        });
        best / length as f64
    };
    Some(StructuralAlignment {
        pairs: kept.len(),
        rmsd: superpose(&points).rmsd(&points),
        identity: kept.iter().filter(|&&(i, j)| codes_x[i] == codes_y[j]).count() as f64 / kept.len() as f64,
        tm_score_first: tm_score(x.len()),
        tm_score_second: tm_score(y.len()),
        aligned: kept,
    })
}

fn paired(map: &Map) -> impl Iterator<Item = (usize, usize)> + '_ {
    map.iter().enumerate().filter_map(|(j, i)| Some(((*i)?, j)))
}

/// The best map so far.
struct Best {
    map: Map,
    score: f64,
}

impl Best {
    fn offer(&mut self, map: &Map, score: f64) {
        if score > self.score {
            self.score = score;
            self.map.clone_from(map);
        }
    }
}

impl Problem<'_> {
    fn best_map(&self) -> Map {
        let share = if self.length <= 40.0 { 0.1 } else { 0.4 };
        let mut best = Best { map: vec![None; self.y.len()], score: -1.0 };
        let (sx, sy) = (first::shapes(self.x), first::shapes(self.y));
        self.try_guess(&mut best, self.gapless(), -1.0, &GAPS, 30);
        self.try_guess(&mut best, first::by_shape(&sx, &sy), 0.2, &GAPS, 30);
        if let Some(guess) = self.by_fragments() {
            self.try_guess(&mut best, guess, share, &GAPS, 2);
        }
        let guess = self.by_shape_and_place(&sx, &sy, &best.map);
        self.try_guess(&mut best, guess, share, &GAPS, 30);
        self.try_guess(&mut best, self.unbroken(), share, &GAPS[1..], 2);
        best.map
    }

    /// Scores a guess and, where it reaches `share` of the best, improves it.
    fn try_guess(&self, best: &mut Best, guess: Map, share: f64, gaps: &[f64], rounds: usize) {
        let (score, by) = self.score(&guess, COARSE);
        best.offer(&guess, score);
        if score > share * best.score {
            self.improve(best, by, gaps, rounds);
        }
    }

    /// Rounds of dynamic programming over the superposed structures.
    fn improve(&self, best: &mut Best, mut by: Superposition, gaps: &[f64], rounds: usize) {
        for &gap in gaps {
            let mut before = None;
            for _ in 0..rounds {
                let map = self.by_place(&by, self.d0, gap);
                let (score, next) = self.score(&map, COARSE);
                by = next;
                best.offer(&map, score);
                if before.is_some_and(|b: f64| (b - score).abs() < 1e-6) {
                    break;
                }
                before = Some(score);
            }
        }
    }

    fn points(&self, map: &Map) -> Vec<(Point, Point)> {
        paired(map).map(|(i, j)| (self.x[i], self.y[j])).collect()
    }

    /// Best TM-score of a map over the pairs that are not far, and its superposition.
    fn score(&self, map: &Map, step: usize) -> (f64, Superposition) {
        let points = self.points(map);
        let mut best = (-1.0, superpose(&points));
        if points.is_empty() {
            return best;
        }
        search(&points, self.reach, step, |by, distances| {
            let near = distances.iter().filter(|d| **d <= self.far);
            let score = near.map(|d| 1.0 / (1.0 + (d / self.d0).powi(2))).sum::<f64>() / self.length;
            if score > best.0 {
                best = (score, *by);
            }
        });
        best
    }

    /// A quick score of a map: three superpositions, each of the pairs that lay near after the one before.
    fn quick(&self, map: &Map) -> f64 {
        let points = self.points(map);
        if points.is_empty() {
            return 0.0;
        }
        let squares = |chosen: &[(Point, Point)]| -> Vec<f64> {
            let by = superpose(chosen);
            points.iter().map(|&(a, b)| squared_distance(by.apply(a), b)).collect()
        };
        let sum =
            |squares: &[f64]| squares.iter().map(|d| 1.0 / (1.0 + d / (self.d0 * self.d0))).sum::<f64>();
        let near = |squares: &[f64], mut limit: f64| -> Vec<(Point, Point)> {
            if points.len() > 3 {
                let mut sorted = squares.to_vec();
                sorted.sort_by(f64::total_cmp);
                // By halves of a square ångström until there are three.
                limit += 0.5 * ((sorted[2] - limit) / 0.5).ceil().max(0.0);
            }
            points.iter().zip(squares).filter(|(_, d)| **d <= limit).map(|(p, _)| *p).collect()
        };
        let all = squares(&points);
        let mut best = sum(&all);
        let chosen = near(&all, self.reach * self.reach);
        if chosen.len() < points.len() {
            let second = squares(&chosen);
            let third = squares(&near(&second, self.reach * self.reach + 1.0));
            best = best.max(sum(&second)).max(sum(&third));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A helix of `n` residues, then a strand of `n`, turned away.
    fn fold(n: usize) -> Vec<Point> {
        let helix = (0..n).map(|i| {
            let t = i as f64 * 1.745;
            [2.3 * t.cos(), 2.3 * t.sin(), 1.5 * i as f64]
        });
        let strand =
            (0..n).map(|i| [10.0 + 3.3 * i as f64, 0.9 * f64::from(u8::from(i % 2 == 0)), 1.5 * n as f64]);
        helix.chain(strand).collect()
    }

    #[test]
    fn a_part_is_found_in_the_whole_wherever_it_stands() {
        let whole = fold(30);
        let part: Vec<Point> = whole[12..50].iter().map(|p| [p[1] - 40.0, p[2], p[0] + 7.0]).collect();
        let found = structural_alignment((&part, &[b'A'; 38]), (&whole, &[b'A'; 60])).unwrap();
        assert!(found.pairs == 38 && found.rmsd < 1e-6 && found.identity == 1.0, "{found:?}");
        assert!((found.tm_score_first - 1.0).abs() < 1e-6 && found.aligned[0] == (0, 12));
        assert!((found.tm_score_second - 38.0 / 60.0).abs() < 1e-6);
    }

    #[test]
    fn a_deletion_is_bridged_and_too_few_residues_are_refused() {
        let whole = fold(30);
        let cut: Vec<Point> = whole[..20].iter().chain(&whole[26..]).copied().collect();
        let found = structural_alignment((&cut, &[b'G'; 54]), (&whole, &[b'A'; 60])).unwrap();
        assert!(found.pairs >= 52 && found.tm_score_first > 0.95 && found.identity == 0.0, "{found:?}");
        assert_eq!(structural_alignment((&whole[..4], b"AAAA"), (&whole, &[b'A'; 60])), None);
    }
}
