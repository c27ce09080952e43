//! Classes of unequal size: fewer of the large, more of the small, weights, or made-up neighbours.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How an epoch weighs the classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// As they come.
    #[default]
    None,
    /// As many of each class as the smallest has, other ones in each epoch.
    Down,
    /// As many of each class as the largest has, the same ones again.
    Over,
    /// As they come, with [`class_weights`] in the loss.
    Weights,
}

/// Records of each class, up to the largest class there is.
pub fn counts(classes: &[u16]) -> Vec<usize> {
    let mut counts = vec![0; classes.iter().max().map_or(0, |&c| usize::from(c) + 1)];
    classes.iter().for_each(|&c| counts[usize::from(c)] += 1);
    counts
}

/// Weights that make every class count alike and the mean weight of a record 1; 0 for a class without records.
pub fn class_weights(classes: &[u16]) -> Vec<f32> {
    let counts = counts(classes);
    let present = counts.iter().filter(|&&n| n > 0).count() as f32;
    let weight = |&n: &usize| if n == 0 { 0.0 } else { classes.len() as f32 / (present * n as f32) };
    counts.iter().map(weight).collect()
}

/// The records of an epoch in an order given by the seed: `records[i]` is of class `classes[i]`.
pub fn epoch(records: &[usize], classes: &[u16], balance: Balance, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (epoch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let counts = counts(classes);
    let target = match balance {
        Balance::None | Balance::Weights => None,
        Balance::Down => counts.iter().copied().filter(|&n| n > 0).min(),
        Balance::Over => counts.iter().copied().max(),
    };
    let Some(target) = target else {
        let mut all = records.to_vec();
        all.shuffle(&mut rng);
        return all;
    };
    let mut all = Vec::new();
    for class in 0..counts.len() {
        let mut members: Vec<usize> =
            records.iter().zip(classes).filter(|(_, c)| usize::from(**c) == class).map(|(&r, _)| r).collect();
        if members.is_empty() {
            continue;
        }
        members.shuffle(&mut rng);
        all.extend(members.iter().cycle().take(target));
    }
    all.shuffle(&mut rng);
    all
}

/// Made-up samples between a sample of a smaller class and one of its nearest neighbours of the same class, until all
/// classes are of one size (SMOTE, Chawla et al. 2002); in the space of the head's input. A class of one sample is
/// repeated.
pub fn smote(samples: &[Vec<f32>], classes: &[u16], neighbours: usize, seed: u64) -> Vec<(Vec<f32>, u16)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let counts = counts(classes);
    let largest = counts.iter().copied().max().unwrap_or(0);
    let mut made = Vec::new();
    for (class, &count) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let members: Vec<&Vec<f32>> =
            samples.iter().zip(classes).filter(|(_, c)| usize::from(**c) == class).map(|(s, _)| s).collect();
        for n in 0..largest - count {
            let from = n % count;
            let nearest = nearest(&members, from, neighbours.max(1));
            let to = if nearest.is_empty() { from } else { nearest[rng.random_range(0..nearest.len())] };
            let share = rng.random_range(0.0..1.0_f32);
            let between = members[from].iter().zip(members[to]).map(|(a, b)| a + share * (b - a)).collect();
            made.push((between, class as u16));
        }
    }
    made
}

fn nearest(members: &[&Vec<f32>], from: usize, neighbours: usize) -> Vec<usize> {
    let distance =
        |i: usize| -> f32 { members[from].iter().zip(members[i]).map(|(a, b)| (a - b) * (a - b)).sum() };
    let mut others: Vec<(f32, usize)> =
        (0..members.len()).filter(|&i| i != from).map(|i| (distance(i), i)).collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    others.into_iter().take(neighbours).map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [u16; 10] = [0, 0, 0, 0, 0, 0, 2, 2, 2, 1];

    fn drawn(balance: Balance, n: u64) -> Vec<usize> {
        epoch(&(100..110).collect::<Vec<_>>(), &CLASSES, balance, 7, n)
    }

    fn sizes(records: &[usize]) -> Vec<usize> {
        counts(&records.iter().map(|r| CLASSES[r - 100]).collect::<Vec<_>>())
    }

    #[test]
    fn an_epoch_has_the_sizes_that_the_balance_says() {
        assert_eq!(sizes(&drawn(Balance::Down, 0)), [1, 1, 1]);
        assert_eq!(sizes(&drawn(Balance::Over, 0)), [6, 6, 6]);
        for balance in [Balance::None, Balance::Weights] {
            let mut all = drawn(balance, 0);
            assert_ne!(all, (100..110).collect::<Vec<_>>());
            all.sort_unstable();
            assert_eq!(all, (100..110).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_differ_and_each_is_the_same_again() {
        let seen: std::collections::BTreeSet<usize> = (0..40).flat_map(|n| drawn(Balance::Down, n)).collect();
        assert_eq!(seen.len(), 10, "down-sampling shows other records in other epochs");
        assert_eq!(drawn(Balance::Over, 3), drawn(Balance::Over, 3));
        assert_ne!(drawn(Balance::Over, 3), drawn(Balance::Over, 4));
    }

    #[test]
    fn weights_make_classes_count_alike_and_records_one_on_the_mean() {
        let weights = class_weights(&CLASSES);
        let of_class = |c: u16| CLASSES.iter().filter(|&&x| x == c).count() as f32 * weights[usize::from(c)];
        assert!((of_class(0) - of_class(1)).abs() < 1e-5 && (of_class(1) - of_class(2)).abs() < 1e-5);
        assert!((of_class(0) + of_class(1) + of_class(2) - 10.0).abs() < 1e-5);
        assert_eq!(class_weights(&[2, 2]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn made_up_samples_lie_between_neighbours_of_their_class() {
        let mut samples: Vec<Vec<f32>> = (0..20).map(|i| vec![i as f32, -(i as f32)]).collect();
        samples.extend([vec![100.0, 0.0], vec![101.0, 0.0], vec![102.0, 0.0], vec![900.0, 0.0]]);
        let classes: Vec<u16> = (0..24).map(|i| u16::from(i >= 20)).collect();
        let made = smote(&samples, &classes, 2, 1);
        assert_eq!(made.len(), 16);
        assert!(made.iter().all(|(s, class)| *class == 1 && s[1] == 0.0 && (100.0..=900.0).contains(&s[0])));
        assert!(made.iter().any(|(s, _)| s[0] > 100.0 && s[0] < 101.0));
        assert_eq!(made, smote(&samples, &classes, 2, 1));
        let alone = smote(&[vec![1.0], vec![2.0], vec![5.0]], &[0, 0, 1], 5, 1);
        assert_eq!(alone, [(vec![5.0], 1)]);
    }
}
