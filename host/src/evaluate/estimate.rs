//! Intervals by resampling genes (Efron & Tibshirani 1993, percentile; the gene is the cluster): records
//! of one gene share exons, curators and panels, and are no independent draws.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A figure with its 95 % interval; no interval where fewer than two genes are there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On all records.
    pub value: f64,
    /// 2.5th percentile over resamples.
    pub low: Option<f64>,
    /// 97.5th percentile.
    pub high: Option<f64>,
}

/// Estimates several figures of the records at once. `genes[i]` is the gene of record i; `figures` is
/// given indices of records, one of them possibly many times, and gives its figures in a fixed order.
pub fn estimate(
    genes: &[&str],
    resamples: usize,
    seed: u64,
    figures: impl Fn(&[usize]) -> Vec<Option<f64>>,
) -> Vec<Option<Estimate>> {
    let mut clusters: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, gene) in genes.iter().enumerate() {
        clusters.entry(gene).or_default().push(i);
    }
    let clusters: Vec<Vec<usize>> = clusters.into_values().collect();
    let all: Vec<usize> = (0..genes.len()).collect();
    let values = figures(&all);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::new(); values.len()];
    if clusters.len() >= 2 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sample = Vec::with_capacity(2 * genes.len());
        for _ in 0..resamples {
            sample.clear();
            for _ in 0..clusters.len() {
                sample.extend_from_slice(&clusters[rng.random_range(0..clusters.len())]);
            }
            // A resample without one class has no such figure and is left out.
            for (drawn, value) in drawn.iter_mut().zip(figures(&sample)) {
                drawn.extend(value);
            }
        }
    }
    let of = |(value, mut drawn): (Option<f64>, Vec<f64>)| {
        drawn.sort_by(f64::total_cmp);
        let at = |q: f64| (!drawn.is_empty()).then(|| drawn[((drawn.len() - 1) as f64 * q).round() as usize]);
        value.map(|value| Estimate { value, low: at(0.025), high: at(0.975) })
    };
    values.into_iter().zip(drawn).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(of: &'static [f64]) -> impl Fn(&[usize]) -> Vec<Option<f64>> {
        |indices| vec![Some(indices.iter().map(|&i| of[i]).sum::<f64>() / indices.len() as f64)]
    }

    #[test]
    fn genes_are_drawn_whole() {
        // Two genes, one all 0 and one all 1: a resample can only be 0, 0.5 or 1.
        const VALUES: [f64; 6] = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let genes = ["a", "a", "a", "b", "b", "b"];
        let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let e = estimate(&genes, 200, 1, |i| {
            let v = share(&VALUES)(i);
            seen.borrow_mut().insert((v[0].unwrap() * 2.0) as i64);
            assert!((v[0].unwrap() * 2.0).fract() == 0.0);
            v
        })[0]
            .unwrap();
        assert_eq!((e.value, e.low, e.high), (0.5, Some(0.0), Some(1.0)));
        assert_eq!(seen.into_inner().len(), 3);
    }

    #[test]
    fn one_gene_has_no_interval_and_the_seed_decides_the_rest() {
        const VALUES: [f64; 4] = [0.1, 0.9, 0.4, 0.3];
        let e = estimate(&["a"; 4], 50, 1, share(&VALUES))[0].unwrap();
        assert_eq!((e.low, e.high), (None, None));
        let genes = ["a", "b", "c", "d"];
        assert_eq!(estimate(&genes, 50, 3, share(&VALUES)), estimate(&genes, 50, 3, share(&VALUES)));
    }
}
