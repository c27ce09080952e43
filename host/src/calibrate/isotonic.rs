//! Isotonic regression: the best rising steps from score to probability (pool adjacent violators, Ayer et al. 1955;
//! as calibration, Zadrozny & Elkan 2002).

/// A rising function in steps: each value holds from its score on.
#[derive(Clone, Debug, PartialEq)]
pub struct Isotonic(Vec<(f64, f64)>);

/// Steps of weighted records; `None` without records. A step is kept half a record away from 0 and 1, so that no
/// probability is certain.
pub fn isotonic(scores: &[f64], labels: &[bool], weights: (f64, f64)) -> Option<Isotonic> {
    let weight = |l: bool| if l { weights.0 } else { weights.1 };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    // First score, weight of positives, weight of all, records.
    let mut pools: Vec<(f64, f64, f64, f64)> = Vec::new();
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let hits: f64 = tied.iter().filter(|&&i| labels[i]).map(|_| weights.0).sum();
        let all: f64 = tied.iter().map(|&i| weight(labels[i])).sum();
        let mut pool = (scores[tied[0]], hits, all, tied.len() as f64);
        while let Some(&last) = pools.last()
            && last.1 * pool.2 >= pool.1 * last.2
        {
            pools.pop();
            pool = (last.0, last.1 + pool.1, last.2 + pool.2, last.3 + pool.3);
        }
        pools.push(pool);
    }
    let value = |&(from, hits, all, n): &(f64, f64, f64, f64)| {
        let half = 0.5 / (n + 1.0);
        (from, (hits / all).clamp(half, 1.0 - half))
    };
    (!pools.is_empty()).then(|| Isotonic(pools.iter().map(value).collect()))
}

impl Isotonic {
    /// Probability of a score; under the first step, the first.
    pub fn probability(&self, score: f64) -> f64 {
        let at = self.0.partition_point(|step| step.0 <= score);
        self.0[at.saturating_sub(1)].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violators_are_pooled_and_order_is_kept() {
        let (z, l) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [false, true, false, false, true, true]);
        let fitted = isotonic(&z, &l, (1.0, 1.0)).unwrap();
        // 2, 3 and 4 become one step of a third.
        let p: Vec<f64> = z.iter().map(|&z| fitted.probability(z)).collect();
        assert!((p[1] - 1.0 / 3.0).abs() < 1e-12 && p[1] == p[3] && p[0] < p[1] && p[3] < p[4]);
        assert_eq!((fitted.probability(-9.0), fitted.probability(9.0)), (p[0], p[5]));
        assert!(p[0] > 0.0 && p[5] < 1.0);
        assert_eq!(isotonic(&[], &[], (1.0, 1.0)), None);
    }

    #[test]
    fn tied_scores_share_a_step_and_a_weight_counts() {
        let fitted = isotonic(&[0.0; 4], &[true, false, false, false], (3.0, 1.0)).unwrap();
        assert!((fitted.probability(0.0) - 0.5).abs() < 1e-12);
    }
}
