//! Who may see which record.

use std::collections::BTreeMap;

use super::plan::{SplitBy, SplitPlan};
use crate::data::prepare::hash;

/// Train, validation or test, before validation is halved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Learnt from.
    Train,
    /// Chosen and calibrated on.
    Val,
    /// Reported only.
    Test,
}

impl Part {
    /// As files and columns say it, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

const PARTS: [Part; 3] = [Part::Train, Part::Val, Part::Test];

/// What a split is drawn by.
#[derive(Clone, Debug)]
pub struct Unit<'a> {
    /// Name and letters, so that the draw does not depend on the order of the files.
    pub text: &'a str,
    /// Class, for draws that keep its share; 0 beside values.
    pub class: u16,
    /// Gene, chromosome, position or scaffold.
    pub group: &'a str,
}

/// Draws a part for every unit, by the plan's rule and seed, in these shares of train, validation and test.
pub fn draw(units: &[Unit<'_>], plan: &SplitPlan, shares: [f64; 3]) -> Vec<Part> {
    match plan.by {
        SplitBy::Said => vec![Part::Train; units.len()],
        SplitBy::Random => stratified(units, shares, plan.seed),
        SplitBy::Group => by_group(units, shares, plan.seed),
        SplitBy::Scaffold => largest_first(units, shares),
    }
}

fn stratified(units: &[Unit<'_>], shares: [f64; 3], seed: u64) -> Vec<Part> {
    let mut parts = vec![Part::Train; units.len()];
    let mut classes: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        classes.entry(unit.class).or_default().push(i);
    }
    for members in classes.values_mut() {
        members.sort_by_cached_key(|&i| (hash(seed, units[i].text), i));
        let n = members.len() as f64;
        let (val, test) = ((n * shares[1]).round() as usize, (n * shares[2]).round() as usize);
        for &i in members.iter().take(val) {
            parts[i] = Part::Val;
        }
        for &i in members.iter().skip(val).take(test) {
            parts[i] = Part::Test;
        }
    }
    parts
}

fn groups<'a>(units: &[Unit<'a>]) -> Vec<(&'a str, Vec<usize>)> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        groups.entry(unit.group).or_default().push(i);
    }
    groups.into_iter().collect()
}

/// Groups in an order given by the seed, each to the part that lacks most of its share.
fn by_group(units: &[Unit<'_>], shares: [f64; 3], seed: u64) -> Vec<Part> {
    let mut parts = vec![Part::Train; units.len()];
    let mut groups = groups(units);
    groups.sort_by_cached_key(|(name, _)| hash(seed, name));
    // Large ones first, while there is room for them.
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len().ilog2()));
    let mut missing = shares.map(|s| s * units.len() as f64);
    for (_, members) in &groups {
        let lack = |p: usize| if shares[p] == 0.0 { f64::MIN } else { missing[p] / shares[p] };
        let part = (1..3).fold(0, |best, p| if lack(p) > lack(best) { p } else { best });
        missing[part] -= members.len() as f64;
        members.iter().for_each(|&i| parts[i] = PARTS[part]);
    }
    parts
}

/// The largest groups to train until it is full, then to validation, then to test, as MoleculeNet (Wu et al. 2018)
/// splits scaffolds.
fn largest_first(units: &[Unit<'_>], shares: [f64; 3]) -> Vec<Part> {
    let mut parts = vec![Part::Train; units.len()];
    let mut groups = groups(units);
    groups.sort_by_key(|(_, members)| std::cmp::Reverse((members.len(), members[0])));
    let n = units.len() as f64;
    let (train, val) = (shares[0] * n, (shares[0] + shares[1]) * n);
    let mut sizes = [0; 3];
    for (_, members) in &groups {
        let part = if (sizes[0] + members.len()) as f64 <= train {
            0
        } else if (sizes[0] + sizes[1] + members.len()) as f64 <= val {
            1
        } else {
            2
        };
        sizes[part] += members.len();
        members.iter().for_each(|&i| parts[i] = PARTS[part]);
    }
    parts
}

/// Numbers of the folds of a cross-validation, whole groups together, as even as they allow.
pub fn folds(units: &[Unit<'_>], folds: usize, seed: u64) -> Vec<usize> {
    let mut of = vec![0; units.len()];
    let mut groups = groups(units);
    groups.sort_by_cached_key(|(name, _)| hash(seed, name));
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let mut sizes = vec![0; folds.max(1)];
    for (_, members) in &groups {
        let smallest = (0..sizes.len()).min_by_key(|&f| sizes[f]).unwrap_or(0);
        sizes[smallest] += members.len();
        members.iter().for_each(|&i| of[i] = smallest);
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(names: &[String], group: impl Fn(usize) -> usize) -> Vec<(String, u16, String)> {
        names
            .iter()
            .enumerate()
            .map(|(i, n)| (n.clone(), u16::from(i % 4 == 0), format!("g{}", group(i))))
            .collect()
    }

    fn view(all: &[(String, u16, String)]) -> Vec<Unit<'_>> {
        all.iter().map(|(text, class, group)| Unit { text, class: *class, group }).collect()
    }

    fn plan(by: SplitBy, seed: u64) -> SplitPlan {
        SplitPlan { by, seed, ..SplitPlan::default() }
    }

    fn count(parts: &[Part], part: Part) -> usize {
        parts.iter().filter(|&&p| p == part).count()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("r{i}")).collect()
    }

    #[test]
    fn a_random_split_keeps_shares_and_classes_and_depends_on_the_seed_alone() {
        let all = units(&names(1000), |i| i);
        let shares = [0.8, 0.1, 0.1];
        let parts = draw(&view(&all), &plan(SplitBy::Random, 1), shares);
        assert_eq!(PARTS.map(|p| count(&parts, p)), [800, 100, 100]);
        let positive = (0..1000).filter(|&i| parts[i] == Part::Test && all[i].1 == 1).count();
        assert_eq!(positive, 25);
        let turned: Vec<_> = all.iter().rev().cloned().collect();
        let back = draw(&view(&turned), &plan(SplitBy::Random, 1), shares);
        assert!(back.iter().rev().eq(&parts), "the order of the records does not matter");
        assert_ne!(draw(&view(&all), &plan(SplitBy::Random, 2), shares), parts);
    }

    #[test]
    fn groups_stay_whole_and_shares_come_near() {
        let all = units(&names(1000), |i| i * i / 7_000);
        for by in [SplitBy::Group, SplitBy::Scaffold] {
            let parts = draw(&view(&all), &plan(by, 3), [0.8, 0.1, 0.1]);
            let mut of: BTreeMap<&str, Part> = BTreeMap::new();
            for (unit, &part) in view(&all).iter().zip(&parts) {
                assert_eq!(*of.entry(unit.group).or_insert(part), part);
            }
            for (part, share) in PARTS.into_iter().zip([800, 100, 100]) {
                assert!(count(&parts, part).abs_diff(share) < 25, "{by:?} {part:?} {}", count(&parts, part));
            }
        }
        let none = draw(&view(&all), &plan(SplitBy::Group, 3), [0.9, 0.1, 0.0]);
        assert_eq!(count(&none, Part::Test), 0);
    }

    #[test]
    fn folds_are_even_and_keep_groups() {
        let all = units(&names(1000), |i| i / 9);
        let of = folds(&view(&all), 10, 5);
        for fold in 0..10 {
            assert!(of.iter().filter(|&&f| f == fold).count().abs_diff(100) <= 10);
        }
        assert!((0..999).all(|i| i / 9 != (i + 1) / 9 || of[i] == of[i + 1]));
    }
}
