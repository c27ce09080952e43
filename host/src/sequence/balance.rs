//! Classes of unequal size: fewer of the large, more of the small, weights, or made-up neighbours.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Nearest samples where a recipe names none, as in Chawla et al. (2002).
const NEIGHBOURS: usize = 5;
/// Passes of the head over pooled states where a recipe names none.
const EPOCHS: u64 = 5;

/// `[finetune.balance]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancePlan {
    /// What is done.
    pub method: Balance,
    /// Nearest samples of a class among which a made-up one finds its other end; 5 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// Passes of the head over real and made-up samples; 5 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
}

impl BalancePlan {
    /// # Errors
    /// [`Error::Recipe`]: a method for values, or a key that the method does not have.
    pub fn check(&self, of_classes: bool) -> Result<()> {
        let wrong = |key: &str, got: String, expected: &str| {
            let key = format!("finetune.balance.{key}");
            Err(Error::Recipe { key, got, expected: expected.into() })
        };
        if !of_classes && self.method != Balance::None {
            return wrong("method", format!("{:?}", self.method).to_lowercase(), "none beside values");
        }
        for (key, value) in [("neighbours", self.neighbours.map(|n| n as u64)), ("epochs", self.epochs)] {
            match value {
                Some(n) if self.method != Balance::Smote => {
                    return wrong(key, n.to_string(), "none but with method = \"smote\"");
                }
                Some(0) => return wrong(key, "0".into(), "1 or more"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Nearest samples of SMOTE.
    pub fn neighbours(&self) -> usize {
        self.neighbours.unwrap_or(NEIGHBOURS)
    }

    /// Passes of SMOTE's head.
    pub fn epochs(&self) -> u64 {
        self.epochs.unwrap_or(EPOCHS)
    }
}

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
    /// As they come; the head alone then sees [`smote`]'s samples beside them.
    Smote,
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
        Balance::None | Balance::Weights | Balance::Smote => None,
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
/// repeated. The same for every call with the same seed.
///
/// A sample is `rotations` blocks of one width, which the head reads alike whichever comes first: neighbours are
/// compared, and met, in the rotation in which they are nearest. Takes time with the square of the smaller classes.
pub fn smote(
    samples: &[Vec<f32>],
    classes: &[u16],
    rotations: usize,
    neighbours: usize,
    seed: u64,
) -> Vec<(Vec<f32>, u16)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let counts = counts(classes);
    let largest = counts.iter().copied().max().unwrap_or(0);
    let mut made = Vec::new();
    for (class, &count) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let members: Vec<&[f32]> = samples
            .iter()
            .zip(classes)
            .filter(|(_, c)| usize::from(**c) == class)
            .map(|(s, _)| s.as_slice())
            .collect();
        let asked = count.min(largest - count);
        let near: Vec<Vec<(usize, usize)>> = (0..asked)
            .into_par_iter()
            .map(|from| nearest(&members, from, rotations.max(1), neighbours.max(1)))
            .collect();
        for n in 0..largest - count {
            let from = n % count;
            let near = &near[from];
            let (to, by) = if near.is_empty() { (from, 0) } else { near[rng.random_range(0..near.len())] };
            let share = rng.random_range(0.0..1.0_f32);
            let (head, tail) = members[to].split_at(by * width(members[to], rotations));
            let turned = tail.iter().chain(head);
            let between = members[from].iter().zip(turned).map(|(a, b)| a + share * (b - a)).collect();
            made.push((between, class as u16));
        }
    }
    made
}

/// Numbers of one rotation.
fn width(sample: &[f32], rotations: usize) -> usize {
    sample.len() / rotations.max(1)
}

/// The nearest others, each with the rotation in which it is nearest.
fn nearest(members: &[&[f32]], from: usize, rotations: usize, neighbours: usize) -> Vec<(usize, usize)> {
    let width = width(members[from], rotations);
    // All rotations hold the same numbers, so one of them tells the distance.
    let own = &members[from][..width];
    let distance = |i: usize| -> (f32, usize) {
        let of = |block: &[f32]| own.iter().zip(block).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let all = members[i].chunks_exact(width.max(1)).map(of).enumerate();
        all.map(|(by, d)| (d, by)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0))
    };
    let mut others: Vec<(f32, usize, usize)> = (0..members.len())
        .filter(|&i| i != from)
        .map(|i| {
            let (d, by) = distance(i);
            (d, i, by)
        })
        .collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    others.into_iter().take(neighbours).map(|(_, i, by)| (i, by)).collect()
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
        for balance in [Balance::None, Balance::Weights, Balance::Smote] {
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
        let made = smote(&samples, &classes, 1, 2, 1);
        assert_eq!(made.len(), 16);
        assert!(made.iter().all(|(s, class)| *class == 1 && s[1] == 0.0 && (100.0..=900.0).contains(&s[0])));
        assert!(made.iter().any(|(s, _)| s[0] > 100.0 && s[0] < 101.0));
        assert_eq!(made, smote(&samples, &classes, 1, 2, 1));
        let alone = smote(&[vec![1.0], vec![2.0], vec![5.0]], &[0, 0, 1], 1, 5, 1);
        assert_eq!(alone, [(vec![5.0], 1)]);
    }

    #[test]
    fn neighbours_meet_in_the_rotation_in_which_they_are_nearest() {
        // Three rotations of two numbers; the second sample is the first one turned by one, and a little further on.
        let first = vec![1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        let turned: Vec<f32> = [3.0, 7.0, 1.0, 5.0, 2.0, 6.0].iter().map(|v| v + 0.1).collect();
        let mut samples = vec![first.clone(), turned];
        samples.extend(vec![vec![0.0; 6]; 8]);
        let classes: Vec<u16> = (0..10).map(|i| u16::from(i > 1)).collect();
        let made = smote(&samples, &classes, 3, 5, 1);
        assert_eq!(made.len(), 6);
        for (sample, class) in made {
            let near = |start: usize| {
                let rotated = (0..6).map(|i| first[(i + 2 * start) % 6]);
                sample.iter().zip(rotated).all(|(a, b)| (-1e-6..=0.1 + 1e-6).contains(&(a - b)))
            };
            assert!(class == 0 && (near(0) || near(2)), "{sample:?}");
        }
    }

    #[test]
    fn a_plan_has_the_keys_of_its_method_alone() {
        let check = |text: &str, of_classes| {
            let plan: BalancePlan = toml::from_str(text).unwrap();
            plan.check(of_classes).map_or_else(|e| e.to_string(), |()| "good".into())
        };
        for (text, of_classes, expected) in [
            ("method = \"none\"", false, "good"),
            ("method = \"smote\"\nneighbours = 3\nepochs = 2", true, "good"),
            ("method = \"over\"", false, "balance.method"),
            ("method = \"over\"\nneighbours = 3", true, "balance.neighbours"),
            ("method = \"weights\"\nepochs = 3", true, "balance.epochs"),
            ("method = \"smote\"\nepochs = 0", true, "balance.epochs"),
        ] {
            assert!(check(text, of_classes).contains(expected), "{text}: {}", check(text, of_classes));
        }
        let error = toml::from_str::<BalancePlan>("method = \"twice\"").unwrap_err().to_string();
        assert!(error.contains("smote") && error.contains("down"), "{error}");
    }
}
