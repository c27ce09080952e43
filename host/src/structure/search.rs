//! The superposition under which the most residues of a fixed pairing lie near.

use super::{
    Pairs,
    superpose::{Superposition, squared_distance, superpose},
};

/// Rounds of growing from one start.
const ROUNDS: usize = 20;
/// Lengths of starts that are tried, and the shortest.
const STARTS: usize = 6;
const SHORTEST: usize = 4;

/// Shows `look` many superpositions with the distances of all pairs, in ångström, after each: those of runs of 1, 1/2,
/// 1/4 … of the pairs at every `step`-th place, each grown by the pairs that lie within about `reach` after it.
pub(super) fn search(pairs: &Pairs, reach: f64, step: usize, mut look: impl FnMut(&Superposition, &[f64])) {
    let n = pairs.len();
    let mut lengths: Vec<usize> = (0..STARTS - 1).map(|i| n >> i).take_while(|&l| l > SHORTEST).collect();
    lengths.push(SHORTEST.min(n));
    let mut after = |chosen: &[usize], cutoff: f64| {
        let by = superpose(&chosen.iter().map(|&i| pairs[i]).collect::<Vec<_>>());
        let distances: Vec<f64> =
            pairs.iter().map(|&(a, b)| squared_distance(by.apply(a), b).sqrt()).collect();
        look(&by, &distances);
        near(&distances, cutoff)
    };
    for length in lengths {
        let last = n - length;
        let mut start = 0;
        loop {
            let mut next = after(&(start..start + length).collect::<Vec<_>>(), reach - 1.0);
            for _ in 0..ROUNDS {
                let chosen = next;
                next = after(&chosen, reach + 1.0);
                if next == chosen {
                    break;
                }
            }
            if start == last {
                break;
            }
            start = (start + step).min(last);
        }
    }
}

/// Pairs nearer than `cutoff`, which grows by half ångströms until there are three.
pub(super) fn near(distances: &[f64], cutoff: f64) -> Vec<usize> {
    let within = |cutoff: f64| (0..distances.len()).filter(|&i| distances[i] < cutoff).collect::<Vec<_>>();
    let found = within(cutoff);
    if found.len() >= 3 || distances.len() <= 3 {
        return found;
    }
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    within(cutoff + 0.5 * (((sorted[2] - cutoff) / 0.5).floor().max(0.0) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cutoff_grows_to_the_third_nearest_and_no_further() {
        assert_eq!(near(&[1.0, 2.0, 3.0, 9.0], 2.5), [0, 1, 2]);
        assert_eq!(near(&[1.0, 2.0, 3.0, 3.2, 9.0], 3.1), [0, 1, 2]);
        assert_eq!(near(&[10.0, 2e6, 3.0, 3e6], 1.0), [0, 1, 2]);
        assert_eq!(near(&[10.0, 20.0], 1.0), Vec::<usize>::new());
    }
}
