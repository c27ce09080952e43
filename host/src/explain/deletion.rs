//! Deletion curves (Samek et al. 2017): what is lost as the inputs with the highest attributions are hidden first,
//! beside random and reversed orders.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::Result;

/// Shares of the inputs that are hidden.
pub(super) const SHARES: [f64; 8] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0];
/// Random orders, whose curves are averaged.
const RANDOM: usize = 3;

/// Evidence lost, in logits towards the side to which the inputs push together, for each of [`SHARES`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// Hidden first: what supports the answer most (comprehensiveness, DeYoung et al. 2020): higher is better.
    pub top: Vec<f64>,
    /// Hidden in random orders.
    pub random: Vec<f64>,
    /// Hidden first: what supports the answer least.
    pub least: Vec<f64>,
    /// Only what supports the answer most is left (sufficiency, DeYoung et al. 2020): lower is better.
    pub kept: Vec<f64>,
}

/// Area under a curve over [`SHARES`].
pub(super) fn area(curve: &[f64]) -> f64 {
    let parts = SHARES.windows(2).zip(curve.windows(2));
    parts.map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0).sum()
}

/// Hides inputs by their `attributions`; `score` is given sets of hidden inputs and gives the logit of each.
///
/// # Errors
/// Those of `score`.
pub fn deletion(
    attributions: &[f64],
    seed: u64,
    mut score: impl FnMut(&[Vec<bool>]) -> Result<Vec<f64>>,
) -> Result<Curves> {
    let n = attributions.len();
    let ends = score(&[vec![false; n], vec![true; n]])?;
    let (whole, side) = (ends[0], if ends[0] >= ends[1] { 1.0 } else { -1.0 });
    let mut top: Vec<usize> = (0..n).collect();
    top.sort_by(|&a, &b| (side * attributions[b]).total_cmp(&(side * attributions[a])));
    let least: Vec<usize> = top.iter().rev().copied().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut orders = vec![top, least];
    for _ in 0..RANDOM {
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut rng);
        orders.push(order);
    }
    let count = |share: f64| if share == 0.0 { 0 } else { ((share * n as f64).round() as usize).clamp(1, n) };
    let hidden = |order: &[usize], share: f64, inside: bool| {
        let mut set = vec![!inside; n];
        order.iter().take(count(share)).for_each(|&i| set[i] = inside);
        set
    };
    let mut sets: Vec<Vec<bool>> =
        orders.iter().flat_map(|order| SHARES.iter().map(|&s| hidden(order, s, true))).collect();
    sets.extend(SHARES.iter().map(|&s| hidden(&orders[0], s, false)));
    let lost: Vec<f64> = score(&sets)?.into_iter().map(|logit| side * (whole - logit)).collect();
    let mut curves = lost.chunks_exact(SHARES.len()).map(<[f64]>::to_vec);
    let mut next = || curves.next().unwrap_or_default();
    let (top, least) = (next(), next());
    let mut random = vec![0.0; SHARES.len()];
    for _ in 0..RANDOM {
        random.iter_mut().zip(next()).for_each(|(mean, lost)| *mean += lost / RANDOM as f64);
    }
    Ok(Curves { top, random, least, kept: next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that adds up what is not hidden.
    fn sums(of: &[f64]) -> impl FnMut(&[Vec<bool>]) -> Result<Vec<f64>> {
        |sets| {
            let sum = |set: &Vec<bool>| of.iter().zip(set).filter(|(_, h)| !**h).map(|(v, _)| v).sum();
            Ok(sets.iter().map(sum).collect())
        }
    }

    #[test]
    fn a_planted_explanation_is_found_and_a_wrong_one_is_not() {
        for side in [1.0, -1.0] {
            let mut planted = vec![0.01 * side; 50];
            (10..15).for_each(|i| planted[i] = 2.0 * side);
            let curves = deletion(&planted, 1, sums(&planted)).unwrap();
            // A tenth of 50 is all five of them.
            assert!((curves.top[3] - 10.0).abs() < 1e-9, "{:?}", curves.top);
            assert!((curves.kept[3] - 0.45).abs() < 1e-9 && curves.kept[7].abs() < 1e-9, "{:?}", curves.kept);
            assert!((curves.least[6] - 0.25).abs() < 1e-9, "{:?}", curves.least);
            assert!(area(&curves.top) > 9.0 && area(&curves.least) < 3.5);
            let random = area(&curves.random);
            assert!((area(&curves.least)..area(&curves.top)).contains(&random), "{random}");
            for curve in [&curves.top, &curves.random, &curves.least] {
                assert!(curve[0].abs() < 1e-9 && (curve[7] - 10.45).abs() < 1e-9, "{curve:?}");
            }
            let wrong: Vec<f64> = planted.iter().map(|v| 2.01 * side - v).collect();
            let wrong = deletion(&wrong, 1, sums(&planted)).unwrap();
            assert!(area(&wrong.top) < random && area(&wrong.least) > random);
        }
    }
}
