//! RMSD, TM-score (Zhang & Skolnick 2004), GDT-TS and GDT-HA (Zemla 2003) of residues that are paired already.
//!
//! RMSD is of one superposition of all pairs. The others are the best over many: of runs of 1, 1/2, 1/4 … of the
//! pairs at every place, each grown by the pairs that lie near after it, as the program TMscore searches.

use serde::Serialize;

use super::{Pairs, search::search, superpose};

/// Distances of GDT, in ångström.
const CUTOFFS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// How near two structures are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// Paired residues.
    pub pairs: usize,
    /// Residues that scores are divided by.
    pub length: usize,
    /// Root mean square distance of all pairs, in ångström.
    pub rmsd: f64,
    /// From 0 to 1; over 0.5 is the same fold (Xu & Zhang 2010).
    pub tm_score: f64,
    /// Distance at which a pair counts half, in ångström.
    pub d0: f64,
    /// Mean share of residues within 1, 2, 4 and 8 Å.
    pub gdt_ts: f64,
    /// Mean share of residues within 0.5, 1, 2 and 4 Å.
    pub gdt_ha: f64,
}

/// The distance at which a pair counts half: it makes scores of unrelated proteins independent of `length`.
pub fn d0(length: usize) -> f64 {
    if length > 15 { (1.24 * (length as f64 - 15.0).cbrt() - 1.8).max(0.5) } else { 0.5 }
}

/// Scores pairs against a reference of `length` residues. `None` without pairs.
pub fn similarity(pairs: &Pairs, length: usize) -> Option<Similarity> {
    if pairs.is_empty() || length < pairs.len() {
        return None;
    }
    let d0 = d0(length);
    let (mut tm_score, mut within) = (0.0_f64, [0_usize; 5]);
    search(pairs, d0.clamp(4.5, 8.0), 1, |_, distances| {
        tm_score = tm_score.max(distances.iter().map(|d| 1.0 / (1.0 + (d / d0).powi(2))).sum());
        for (most, cutoff) in within.iter_mut().zip(CUTOFFS) {
            *most = (*most).max(distances.iter().filter(|d| **d <= cutoff).count());
        }
    });
    let share = |which: &[usize]| which.iter().map(|&c| within[c] as f64).sum::<f64>() / (4 * length) as f64;
    Some(Similarity {
        pairs: pairs.len(),
        length,
        rmsd: superpose(pairs).rmsd(pairs),
        tm_score: tm_score / length as f64,
        d0,
        gdt_ts: share(&[1, 2, 3, 4]),
        gdt_ha: share(&[0, 1, 2, 3]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::Point;

    fn helix(n: usize) -> Vec<Point> {
        (0..n)
            .map(|i| {
                let t = i as f64 * 1.745;
                [2.3 * t.cos(), 2.3 * t.sin(), 1.5 * i as f64]
            })
            .collect()
    }

    #[test]
    fn a_structure_is_like_itself_wherever_it_stands() {
        let pairs: Vec<(Point, Point)> =
            helix(60).into_iter().map(|p| (p, [p[1] + 90.0, p[2], p[0] - 4.0])).collect();
        let s = similarity(&pairs, 60).unwrap();
        assert!(s.rmsd < 1e-6 && (s.tm_score - 1.0).abs() < 1e-9 && s.gdt_ts == 1.0 && s.gdt_ha == 1.0);
        // Half of the reference is missing.
        let half = similarity(&pairs, 120).unwrap();
        assert!((half.tm_score - 0.5).abs() < 1e-9 && half.gdt_ts == 0.5);
    }

    #[test]
    fn a_part_that_moved_as_a_whole_costs_its_share_only() {
        let pairs: Vec<(Point, Point)> = helix(90)
            .into_iter()
            .enumerate()
            .map(|(i, p)| (p, if i < 60 { p } else { [p[0] + 50.0, p[1], p[2] + 30.0] }))
            .collect();
        let s = similarity(&pairs, 90).unwrap();
        assert!(s.rmsd > 10.0 && (s.gdt_ts - 60.0 / 90.0).abs() < 1e-9, "{s:?}");
        assert!(s.tm_score > 0.66 && s.tm_score < 0.70);
    }

    #[test]
    fn few_pairs_and_far_ones_end() {
        assert_eq!(similarity(&[], 10), None);
        let one = similarity(&[([0.0; 3], [1e6; 3])], 20).unwrap();
        assert!((one.tm_score - 0.05).abs() < 1e-9);
        let far: Vec<(Point, Point)> =
            (0..9).map(|i| ([0.0, 0.0, f64::from(i)], [1e7 * f64::from(i * i % 5), 0.0, 0.0])).collect();
        assert!(similarity(&far, 9).is_some_and(|s| s.tm_score.is_finite()));
        assert!((d0(145) - 4.48).abs() < 0.005 && d0(10) == 0.5 && d0(16) == 0.5);
    }
}
