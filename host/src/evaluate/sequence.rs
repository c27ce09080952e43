//! Figures of a model of whole sequences: classes or numbers, with intervals that resample groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Calibrated, Curves, Estimate, estimate};
use crate::{
    metrics::{ClassCounts, argmax, auroc},
    sequence_model::{Truth, figures},
};

/// Most points of a scatter plot that a report keeps.
const POINTS: usize = 1_000;

/// The report of a sequence model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceReport {
    /// Name, version and digest of a bundle; SHA-256 of a checkpoint's weights.
    pub model: String,
    /// What ran it.
    pub engine: String,
    /// In which precision.
    pub precision: String,
    /// The split.
    pub split: String,
    /// SHA-256 of the digests of the files that the set was made from.
    pub data: String,
    /// Looks at this split of this data so far, this one included; `None` where it is no test split.
    pub test_reads: Option<usize>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Records.
    pub records: usize,
    /// Units of resampling.
    pub groups: usize,
    /// Resamples of each interval, their seed and their unit.
    pub intervals: String,
    /// By name ([`figures`]).
    pub figures: BTreeMap<String, Estimate>,
    /// The same of each floor, on the same records.
    pub floors: BTreeMap<String, BTreeMap<String, Estimate>>,
    /// What the pictures are drawn from.
    pub described: Described,
}

/// [`figures`] of `answers` with 95 % intervals over resampled `units`.
pub fn sequence_figures(
    answers: &[Vec<f64>],
    truth: &Truth,
    units: &[&str],
    resamples: usize,
    seed: u64,
) -> BTreeMap<String, Estimate> {
    let names: Vec<String> = figures(answers, truth).into_keys().collect();
    let estimates = estimate(units, resamples, seed, |places| {
        let picked: Vec<Vec<f64>> = places.iter().map(|&i| answers[i].clone()).collect();
        let of = figures(&picked, &truth.at(places));
        names.iter().map(|n| of.get(n).copied()).collect()
    });
    names.into_iter().zip(estimates).filter_map(|(n, e)| Some((n, e?))).collect()
}

/// What a sequence model gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Described {
    /// A class.
    Classes(ClassReport),
    /// A number.
    Numbers(NumberReport),
}

/// Figures of a classifier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Names of the classes; of two, the second is the positive one.
    pub labels: Vec<String>,
    /// Records, precision, recall, f1 and auroc of each class.
    pub classes: BTreeMap<String, BTreeMap<String, f64>>,
    /// Counts of answers against truth.
    pub confusion: ClassCounts,
    /// Curves of each class against the rest; of two classes, of the positive one.
    pub curves: BTreeMap<String, Curves>,
    /// Of two classes how far the probability of the positive one is from how often it is true, of several that of
    /// the answered one from how often it is right.
    pub calibrated: Calibrated,
}

/// Figures of predicted numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberReport {
    /// (truth, predicted) of some of the records.
    pub points: Vec<(f64, f64)>,
}

/// Describes `probabilities[record][class]` against `truth`, an index into `labels`.
pub fn describe_classes(probabilities: &[Vec<f64>], truth: &[usize], labels: &[String]) -> ClassReport {
    let column = |class: usize| -> (Vec<f64>, Vec<bool>) {
        probabilities.iter().zip(truth).map(|(p, &t)| (p[class], t == class)).unzip()
    };
    let called: Vec<usize> = probabilities.iter().map(|p| argmax(p)).collect();
    let confusion = ClassCounts::of(truth.iter().copied().zip(called.iter().copied()), labels.len());
    let class = |c: usize| {
        let row = &confusion.0[c];
        let (p, l) = column(c);
        let (hits, truly) = (row[c] as f64, row.iter().sum::<u64>() as f64);
        let said = confusion.0.iter().map(|r| r[c]).sum::<u64>() as f64;
        let known = [
            ("records", Some(truly)),
            ("precision", (said > 0.0).then(|| hits / said)),
            ("recall", (truly > 0.0).then(|| hits / truly)),
            ("f1", (said + truly > 0.0).then(|| 2.0 * hits / (said + truly))),
            ("auroc", auroc(&p, &l)),
        ];
        known.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect()
    };
    let (p, right): (Vec<f64>, Vec<bool>) = if labels.len() == 2 {
        column(1)
    } else {
        probabilities.iter().zip(truth).zip(&called).map(|((p, t), c)| (p[*c], t == c)).unzip()
    };
    let shown = if labels.len() == 2 { 1..2 } else { 0..labels.len() };
    ClassReport {
        labels: labels.to_vec(),
        classes: labels.iter().enumerate().map(|(c, n)| (n.clone(), class(c))).collect(),
        curves: shown
            .map(|c| {
                let (p, l) = column(c);
                (labels[c].clone(), Curves::of(&p, &l))
            })
            .collect(),
        calibrated: Calibrated::of(&p, &right, None).unwrap_or_default(),
        confusion,
    }
}

/// Describes predicted numbers against the truth.
pub fn describe_numbers(predicted: &[f64], truth: &[f64]) -> NumberReport {
    let step = truth.len().div_ceil(POINTS).max(1);
    NumberReport { points: truth.iter().zip(predicted).step_by(step).map(|(&t, &p)| (t, p)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_described_and_two_classes_have_a_positive_one() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let p = [vec![0.9, 0.1], vec![0.4, 0.6], vec![0.3, 0.7], vec![0.6, 0.4]];
        let report = describe_classes(&p, &[0, 0, 1, 1], &labels);
        assert_eq!(report.confusion.0, [[1, 1], [1, 1]]);
        assert_eq!((report.classes["yes"]["recall"], report.classes["no"]["records"]), (0.5, 2.0));
        assert_eq!(report.curves.keys().collect::<Vec<_>>(), ["yes"]);
        let truth = Truth::Classes(vec![0, 0, 1, 1]);
        let figures = sequence_figures(&p, &truth, &["a", "b", "c", "c"], 50, 1);
        assert_eq!((figures["accuracy"].value, figures["auroc"].value), (0.5, 0.75));
        let brier = (0.01 + 0.36 + 0.09 + 0.36) / 4.0;
        assert!((figures["brier"].value - brier).abs() < 1e-12);
        assert!(figures["accuracy"].low.unwrap() < figures["accuracy"].high.unwrap());
    }

    #[test]
    fn three_classes_and_an_empty_set_are_described() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let p = [vec![0.8, 0.1, 0.1], vec![0.2, 0.5, 0.3], vec![0.1, 0.2, 0.7]];
        let report = describe_classes(&p, &[0, 1, 2], &labels);
        assert_eq!((report.curves.len(), report.confusion.0[2][2]), (3, 1));
        // Every answer is right, and sure to 2 thirds on the mean.
        assert!((report.calibrated.ece - 1.0 / 3.0).abs() < 1e-9, "{:?}", report.calibrated);
        let empty = describe_classes(&[], &[], &labels);
        assert_eq!(empty.classes["a"].get("auroc"), None);
        assert!(sequence_figures(&[], &Truth::Classes(vec![]), &[], 20, 1).is_empty());
    }

    #[test]
    fn numbers_are_described() {
        let report = describe_numbers(&[1.0, 2.0, 3.5], &[1.0, 2.0, 3.0]);
        assert_eq!(report.points, [(1.0, 1.0), (2.0, 2.0), (3.0, 3.5)]);
        let many: Vec<f64> = (0..2_500).map(f64::from).collect();
        assert!((800..=POINTS).contains(&describe_numbers(&many, &many).points.len()));
    }
}
