//! Figures of a model of whole sequences: classes or numbers, with intervals that resample groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Calibrated, Curves, Estimate, estimate};
use crate::metrics::{
    Average, ClassCounts, argmax, aupr, auroc, auroc_one_vs_rest, mae, mse, pearson, r_squared, spearman,
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
    /// SHA-256 of the labelled file.
    pub data: String,
    /// Looks at this split of this data so far, this one included; `None` where it is no test split.
    pub test_reads: Option<usize>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Resamples of each interval, their seed and their unit.
    pub intervals: String,
    /// What the model does, and how well.
    pub described: Described,
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
    /// Records.
    pub records: usize,
    /// Units of resampling.
    pub groups: usize,
    /// accuracy, balanced_accuracy, precision, recall, f1 (means over classes), mcc, auroc (mean of one against the
    /// rest), ece, brier; aupr of the positive class of two.
    pub figures: BTreeMap<String, Estimate>,
    /// Records, precision, recall, f1 and auroc of each class.
    pub classes: BTreeMap<String, BTreeMap<String, f64>>,
    /// Counts of answers against truth.
    pub confusion: ClassCounts,
    /// Curves of each class against the rest; of two classes, of the positive one.
    pub curves: BTreeMap<String, Curves>,
    /// How far the probability of the answered class is from how often it is right.
    pub calibrated: Calibrated,
}

/// Figures of predicted numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberReport {
    /// Records.
    pub records: usize,
    /// Units of resampling.
    pub groups: usize,
    /// spearman, pearson, r_squared, mse, mae.
    pub figures: BTreeMap<String, Estimate>,
    /// (truth, predicted) of some of the records.
    pub points: Vec<(f64, f64)>,
}

const CLASS_FIGURES: [&str; 10] =
    ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc", "auroc", "ece", "brier", "aupr"];

/// Describes `probabilities[record][class]` against `truth`, an index into `labels`; `groups` are drawn whole.
pub fn describe_classes(
    probabilities: &[Vec<f64>],
    truth: &[usize],
    groups: &[&str],
    labels: &[String],
    resamples: usize,
    seed: u64,
) -> ClassReport {
    let called: Vec<usize> = probabilities.iter().map(|p| argmax(p)).collect();
    let counts =
        |indices: &[usize]| ClassCounts::of(indices.iter().map(|&i| (truth[i], called[i])), labels.len());
    let column = |class: usize| -> (Vec<f64>, Vec<bool>) {
        probabilities.iter().zip(truth).map(|(p, &t)| (p[class], t == class)).unzip()
    };
    let answered = |indices: &[usize]| -> (Vec<f64>, Vec<bool>) {
        indices.iter().map(|&i| (probabilities[i][called[i]], called[i] == truth[i])).unzip()
    };
    let figures = estimate(groups, resamples, seed, |indices| {
        let c = counts(indices);
        let own: Vec<Vec<f64>> = indices.iter().map(|&i| probabilities[i].clone()).collect();
        let true_class: Vec<usize> = indices.iter().map(|&i| truth[i]).collect();
        let (p, right) = answered(indices);
        let squares = own.iter().zip(&true_class).map(|(p, &t)| {
            p.iter().enumerate().map(|(c, p)| (p - f64::from(u8::from(c == t))).powi(2)).sum::<f64>()
        });
        // Two classes count the same distance twice.
        let brier =
            squares.sum::<f64>() / indices.len().max(1) as f64 / if labels.len() == 2 { 2.0 } else { 1.0 };
        let positive = || {
            let (p, l): (Vec<f64>, Vec<bool>) =
                own.iter().zip(&true_class).map(|(p, &t)| (p[1], t == 1)).unzip();
            aupr(&p, &l)
        };
        vec![
            c.accuracy(),
            c.balanced_accuracy(),
            c.precision(Average::Macro),
            c.recall(Average::Macro),
            c.f1(Average::Macro),
            c.mcc(),
            auroc_one_vs_rest(&own, &true_class),
            crate::metrics::ece(&p, &right, crate::calibrate::BINS),
            (!indices.is_empty()).then_some(brier),
            (labels.len() == 2).then(positive).flatten(),
        ]
    });
    let all: Vec<usize> = (0..truth.len()).collect();
    let confusion = counts(&all);
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
    let (p, right) = answered(&all);
    let shown = if labels.len() == 2 { 1..2 } else { 0..labels.len() };
    ClassReport {
        labels: labels.to_vec(),
        records: truth.len(),
        groups: distinct(groups),
        figures: named(&CLASS_FIGURES, figures),
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
pub fn describe_numbers(
    predicted: &[f64],
    truth: &[f64],
    groups: &[&str],
    resamples: usize,
    seed: u64,
) -> NumberReport {
    let figures = estimate(groups, resamples, seed, |indices| {
        let (p, t): (Vec<f64>, Vec<f64>) = indices.iter().map(|&i| (predicted[i], truth[i])).unzip();
        vec![spearman(&p, &t), pearson(&p, &t), r_squared(&p, &t), mse(&p, &t), mae(&p, &t)]
    });
    let step = truth.len().div_ceil(POINTS).max(1);
    NumberReport {
        records: truth.len(),
        groups: distinct(groups),
        figures: named(&["spearman", "pearson", "r_squared", "mse", "mae"], figures),
        points: truth.iter().zip(predicted).step_by(step).map(|(&t, &p)| (t, p)).collect(),
    }
}

fn distinct(groups: &[&str]) -> usize {
    groups.iter().collect::<std::collections::BTreeSet<_>>().len()
}

fn named(names: &[&str], figures: Vec<Option<Estimate>>) -> BTreeMap<String, Estimate> {
    names.iter().zip(figures).filter_map(|(n, e)| Some(((*n).to_owned(), e?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_described_and_two_classes_have_a_positive_one() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let p = [vec![0.9, 0.1], vec![0.4, 0.6], vec![0.3, 0.7], vec![0.6, 0.4]];
        let report = describe_classes(&p, &[0, 0, 1, 1], &["a", "b", "c", "c"], &labels, 50, 1);
        assert_eq!((report.records, report.groups, report.figures["accuracy"].value), (4, 3, 0.5));
        assert_eq!(report.figures["auroc"].value, 0.75);
        let brier = (0.01 + 0.36 + 0.09 + 0.36) / 4.0;
        assert!((report.figures["brier"].value - brier).abs() < 1e-12);
        assert_eq!((report.classes["yes"]["recall"], report.classes["no"]["records"]), (0.5, 2.0));
        assert_eq!(report.curves.keys().collect::<Vec<_>>(), ["yes"]);
        assert!(report.figures.contains_key("aupr"));
    }

    #[test]
    fn three_classes_and_an_empty_set_are_described() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let p = [vec![0.8, 0.1, 0.1], vec![0.2, 0.5, 0.3], vec![0.1, 0.2, 0.7]];
        let report = describe_classes(&p, &[0, 1, 2], &["x", "y", "z"], &labels, 20, 1);
        assert!(report.figures["mcc"].value == 1.0 && report.curves.len() == 3);
        assert!(!report.figures.contains_key("aupr"));
        let empty = describe_classes(&[], &[], &[], &labels, 20, 1);
        assert!(empty.records == 0 && empty.figures.is_empty());
    }

    #[test]
    fn numbers_are_described() {
        let report = describe_numbers(&[1.0, 2.0, 3.5], &[1.0, 2.0, 3.0], &["a", "b", "c"], 20, 1);
        assert!((report.figures["spearman"].value - 1.0).abs() < 1e-12 && report.points.len() == 3);
        assert!((report.figures["mae"].value - 0.5 / 3.0).abs() < 1e-12);
    }
}
