//! How strong evidence a probability is: local likelihood ratios (Pejaver et al. 2022) against the steps of the
//! ACMG/AMP criteria PP3 and BP4 (Tavtigian et al. 2018).

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Steps of evidence: name and least likelihood ratio, 350^(1/8), 350^(1/4), 350^(1/2) and 350.
pub const STRENGTHS: [(&str, f64); 4] =
    [("supporting", 2.08), ("moderate", 4.33), ("strong", 18.7), ("very strong", 350.0)];
/// A window grows until it has this share of the records, and of them at least [`LEAST`].
const SHARE: f64 = 0.03;
const LEAST: usize = 100;
/// Places where the ratio is taken.
const GRID: usize = 60;

/// The likelihood ratio around a probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalRatio {
    /// The probability.
    pub probability: f64,
    /// P(near it | pathogenic) / P(near it | benign), half a record added to each.
    pub ratio: f64,
    /// 5th percentile over resampled genes: at least this with 95 % confidence.
    pub at_least: f64,
    /// 95th percentile: at most this with 95 % confidence.
    pub at_most: f64,
}

/// From which probability on a step of evidence is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// `PP3` for pathogenic, `BP4` for benign.
    pub criterion: String,
    /// Name of the step.
    pub strength: String,
    /// Its least likelihood ratio, or its inverse for BP4.
    pub ratio: f64,
    /// From this probability on (PP3: up, BP4: down); `None` where the records do not show it.
    pub from: Option<f64>,
}

/// Local likelihood ratios over a grid of probabilities, with bounds from `resamples` resamples of genes. Empty
/// without both classes.
pub fn local_ratios(
    probabilities: &[f64],
    labels: &[bool],
    genes: &[&str],
    resamples: usize,
    seed: u64,
) -> Vec<LocalRatio> {
    let positives = labels.iter().filter(|&&l| l).count();
    if positives == 0 || positives == labels.len() {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let width = ((SHARE * labels.len() as f64) as usize).max(LEAST).min(labels.len());
    let grid: Vec<usize> = (0..GRID).map(|g| g * (labels.len() - 1) / (GRID - 1)).collect();
    let at: Vec<f64> = grid.iter().map(|&i| probabilities[order[i]]).collect();
    let names: Vec<&str> =
        genes.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let number: BTreeMap<&str, usize> = names.iter().enumerate().map(|(n, g)| (*g, n)).collect();
    let gene: Vec<usize> = genes.iter().map(|g| number[g]).collect();
    let ratios = |times: &[u32]| -> Vec<f64> {
        // Running counts in order of probability; each gene counts as often as it was drawn.
        let mut sums = vec![[0.0_f64; 2]];
        for &i in &order {
            let mut next = sums[sums.len() - 1];
            next[usize::from(labels[i])] += f64::from(times[gene[i]]);
            sums.push(next);
        }
        let all = sums[sums.len() - 1];
        let one = |&centre: &usize| {
            let from = centre.saturating_sub(width / 2).min(labels.len() - width);
            let (a, b) = (sums[from], sums[from + width]);
            ((b[1] - a[1] + 0.5) / (all[1] + 1.0)) / ((b[0] - a[0] + 0.5) / (all[0] + 1.0))
        };
        grid.iter().map(one).collect()
    };
    let value = ratios(&vec![1; names.len()]);
    let mut drawn = vec![Vec::with_capacity(resamples); grid.len()];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..resamples {
        let mut times = vec![0; names.len()];
        (0..names.len()).for_each(|_| times[rng.random_range(0..names.len())] += 1);
        drawn.iter_mut().zip(ratios(&times)).for_each(|(d, r)| d.push(r));
    }
    let local = |((probability, ratio), mut drawn): ((f64, f64), Vec<f64>)| {
        drawn.sort_by(f64::total_cmp);
        let at = |q: f64| drawn.get((drawn.len().saturating_sub(1) as f64 * q).round() as usize).copied();
        LocalRatio {
            probability,
            ratio,
            at_least: at(0.05).unwrap_or(ratio),
            at_most: at(0.95).unwrap_or(ratio),
        }
    };
    at.into_iter().zip(value).zip(drawn).map(local).collect()
}

/// The probabilities from which on every local ratio is sure to reach a step: its bound, not its value, does.
pub fn strengths(local: &[LocalRatio]) -> Vec<Strength> {
    let mut out = Vec::new();
    for (name, ratio) in STRENGTHS {
        let sure = local.iter().rev().take_while(|l| l.at_least >= ratio).last();
        out.push(("PP3", name, ratio, sure.map(|l| l.probability)));
    }
    for (name, ratio) in STRENGTHS {
        let sure = local.iter().take_while(|l| l.at_most <= 1.0 / ratio).last();
        out.push(("BP4", name, 1.0 / ratio, sure.map(|l| l.probability)));
    }
    let named = |(criterion, strength, ratio, from): (&str, &str, f64, Option<f64>)| Strength {
        criterion: criterion.into(),
        strength: strength.into(),
        ratio,
        from,
    };
    out.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> (Vec<f64>, Vec<bool>, Vec<String>) {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut all = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..8_000 {
            let p: f64 = rng.random_range(0.0..1.0);
            all.0.push(p);
            all.1.push(rng.random_bool(p));
            all.2.push(format!("g{}", i % 80));
        }
        all
    }

    #[test]
    fn the_ratio_of_a_calibrated_probability_is_its_odds_over_the_priors() {
        let (p, l, g) = drawn();
        let genes: Vec<&str> = g.iter().map(String::as_str).collect();
        let local = local_ratios(&p, &l, &genes, 200, 1);
        assert_eq!(local.len(), GRID);
        for r in &local[6..GRID - 6] {
            // The prior is one half.
            let odds = r.probability / (1.0 - r.probability);
            assert!((r.ratio / odds).ln().abs() < 0.6, "{r:?}");
            assert!(r.at_least <= r.ratio && r.ratio <= r.at_most);
        }
    }

    #[test]
    fn a_stronger_step_begins_further_out_and_one_that_is_not_shown_nowhere() {
        let (p, l, g) = drawn();
        let genes: Vec<&str> = g.iter().map(String::as_str).collect();
        let steps = strengths(&local_ratios(&p, &l, &genes, 200, 1));
        let from = |n: usize| steps[n].from.unwrap();
        assert!(from(0) < from(1) && from(0) > 0.6 && from(1) < 0.95 && from(4) > from(5), "{steps:?}");
        assert_eq!((steps[3].from, steps[7].from), (None, None));
        assert!(local_ratios(&[0.5], &[true], &["a"], 10, 1).is_empty() && strengths(&[])[0].from.is_none());
    }
}
