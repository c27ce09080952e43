//! What a set holds, split by split, and what its splits share: the figures of `locus prepare`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::Split;

/// The splits in the order of reports.
pub const SPLITS: [Split; 4] = [Split::Train, Split::ValSelect, Split::ValFit, Split::Test];

/// What is to be predicted of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label<'a> {
    /// A class, by name.
    Class(&'a str),
    /// A value.
    Value(f64),
    /// Nothing: the records of a language model.
    None,
}

/// What a report sees of a record.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// Who may see it.
    pub split: Split,
    /// What is to be predicted.
    pub label: Label<'a>,
    /// Bases, residues or tokens.
    pub length: usize,
    /// Share of G and C among the known bases, where there are bases.
    pub gc: Option<f64>,
    /// Share of letters that say less than one base or residue.
    pub uncertain: f64,
    /// What must not be torn apart.
    pub group: Option<&'a str>,
    /// What is the same for records that say the same.
    pub key: &'a str,
}

/// Quantiles and mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Smallest.
    pub min: f64,
    /// A quarter is below.
    pub q1: f64,
    /// Half are below.
    pub median: f64,
    /// Three quarters are below.
    pub q3: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

impl Summary {
    /// Of finite values; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(Self { min, q1: at(0.25), median: at(0.5), q3: at(0.75), max, mean })
    }
}

/// One split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitReport {
    /// Records.
    pub records: u64,
    /// Groups, where records have one.
    pub groups: u64,
    /// Records by class.
    pub classes: BTreeMap<String, u64>,
    /// Values, where targets are values.
    pub values: Option<Summary>,
    /// Bases, residues or tokens.
    pub lengths: Summary,
    /// Share of G and C.
    pub gc: Option<Summary>,
    /// Mean share of letters that say less than one base or residue.
    pub uncertain: f64,
}

/// What the records of one split share with those of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// The split that is looked up.
    pub of: String,
    /// The split that it is looked up in.
    pub within: String,
    /// Groups that both have.
    pub shared_groups: u64,
    /// Some of them.
    pub examples: Vec<String>,
    /// Records of the first that the second has, too.
    pub exact: u64,
    /// Records of the first that the second has a near duplicate of, exact ones included.
    pub near: u64,
}

/// A whole set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetReport {
    /// Name of the recipe.
    pub name: String,
    /// What the records are.
    pub kind: String,
    /// SHA-256 of the files.
    pub sources: BTreeMap<String, String>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// By split.
    pub splits: BTreeMap<String, SplitReport>,
    /// By pair of splits.
    pub leakage: Vec<Leak>,
    /// What counts as a near duplicate.
    pub near_means: String,
}

/// Figures of every split that has records.
pub fn by_split(items: &[Item<'_>]) -> BTreeMap<String, SplitReport> {
    let report = |split: Split| {
        let all: Vec<&Item<'_>> = items.iter().filter(|i| i.split == split).collect();
        let lengths = Summary::of(all.iter().map(|i| i.length as f64))?;
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        for item in &all {
            if let Label::Class(class) = item.label {
                *classes.entry(class.to_owned()).or_default() += 1;
            }
        }
        let value = |i: &&Item<'_>| if let Label::Value(v) = i.label { Some(v) } else { None };
        let figures = SplitReport {
            records: all.len() as u64,
            groups: groups(&all).len() as u64,
            classes,
            values: Summary::of(all.iter().filter_map(value)),
            lengths,
            gc: Summary::of(all.iter().filter_map(|i| i.gc)),
            uncertain: all.iter().map(|i| i.uncertain).sum::<f64>() / all.len() as f64,
        };
        Some((split.as_str().to_owned(), figures))
    };
    SPLITS.into_iter().filter_map(report).collect()
}

fn groups<'a>(items: &[&Item<'a>]) -> BTreeSet<&'a str> {
    items.iter().filter_map(|i| i.group).collect()
}

/// What every split shares with those before it. `near` counts the items of the first split, given by their places,
/// that have a near duplicate in the second.
pub fn leakage(items: &[Item<'_>], near: impl Fn(&[usize], &[usize]) -> u64) -> Vec<Leak> {
    let places =
        |split: Split| -> Vec<usize> { (0..items.len()).filter(|&i| items[i].split == split).collect() };
    let mut all = Vec::new();
    for (n, within) in SPLITS.into_iter().enumerate() {
        let known = places(within);
        let keys: HashSet<&str> = known.iter().map(|&i| items[i].key).collect();
        let held: Vec<&Item<'_>> = known.iter().map(|&i| &items[i]).collect();
        for of in SPLITS.into_iter().skip(n + 1) {
            let asked = places(of);
            if asked.is_empty() || known.is_empty() {
                continue;
            }
            let own: Vec<&Item<'_>> = asked.iter().map(|&i| &items[i]).collect();
            let shared: Vec<&str> = groups(&own).intersection(&groups(&held)).copied().collect();
            all.push(Leak {
                of: of.as_str().into(),
                within: within.as_str().into(),
                shared_groups: shared.len() as u64,
                examples: shared.iter().take(5).map(|g| (*g).to_owned()).collect(),
                exact: own.iter().filter(|i| keys.contains(i.key)).count() as u64,
                near: near(&asked, &known),
            });
        }
    }
    all
}

/// Share of G and C among A, C, G, T and U; `None` without any.
pub fn gc(sequence: &str) -> Option<f64> {
    let count = |set: &[u8]| sequence.bytes().filter(|b| set.contains(b)).count();
    let known = count(b"ACGTU");
    (known > 0).then(|| count(b"GC") as f64 / known as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(split: Split, class: &'static str, group: &'static str, key: &'static str) -> Item<'static> {
        Item {
            split,
            label: Label::Class(class),
            length: key.len(),
            gc: gc(key),
            uncertain: 0.0,
            group: Some(group),
            key,
        }
    }

    #[test]
    fn splits_are_counted_and_what_they_share_is_named() {
        let items = [
            item(Split::Train, "a", "G1", "ACGT"),
            item(Split::Train, "b", "G2", "AATT"),
            item(Split::Test, "a", "G2", "AATT"),
            item(Split::Test, "a", "G3", "GGGGGG"),
        ];
        let splits = by_split(&items);
        assert_eq!(splits.keys().collect::<Vec<_>>(), ["test", "train"]);
        let train = &splits["train"];
        assert_eq!((train.records, train.groups, train.classes["b"]), (2, 2, 1));
        assert_eq!((splits["test"].lengths.max, splits["test"].gc.unwrap().mean), (6.0, 0.5));
        let leaks = leakage(&items, |of, within| (of.len() * within.len()) as u64);
        assert_eq!(leaks.len(), 1);
        let leak = &leaks[0];
        assert_eq!((leak.of.as_str(), leak.within.as_str()), ("test", "train"));
        assert_eq!((leak.shared_groups, leak.exact, leak.near), (1, 1, 4));
        assert_eq!(leak.examples, ["G2"]);
    }

    #[test]
    fn quantiles_of_one_to_five() {
        let summary = Summary::of([5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        let expected = Summary { min: 1.0, q1: 2.0, median: 3.0, q3: 4.0, max: 5.0, mean: 3.0 };
        assert_eq!(summary, expected);
        assert_eq!(Summary::of([]), None);
        assert_eq!((gc("NN"), gc("GCAU")), (None, Some(0.5)));
    }
}
