//! Figures of a classifier of several classes.

use serde::{Deserialize, Serialize};

use super::auroc;

/// Counts of answers against truth: `counts[truth][answer]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCounts(pub Vec<Vec<u64>>);

/// How figures of single classes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Every class counts alike; one that is neither true nor answered does not count.
    Macro,
    /// Every record counts alike.
    Micro,
}

impl ClassCounts {
    /// Counts pairs of (truth, answer), both under `classes`.
    pub fn of(pairs: impl IntoIterator<Item = (usize, usize)>, classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (truth, answer) in pairs {
            counts[truth][answer] += 1;
        }
        Self(counts)
    }

    fn classes(&self) -> usize {
        self.0.len()
    }

    fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    fn right(&self) -> u64 {
        (0..self.classes()).map(|c| self.0[c][c]).sum()
    }

    fn answered(&self, class: usize) -> u64 {
        self.0.iter().map(|row| row[class]).sum()
    }

    fn truly(&self, class: usize) -> u64 {
        self.0[class].iter().sum()
    }

    /// Share of records whose class was answered (top-1). `None` without records.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.right(), self.total())
    }

    /// Share of the answers of a class that are right; 0 where it was never answered.
    pub fn precision(&self, average: Average) -> Option<f64> {
        self.average(average, |c| (self.0[c][c], self.answered(c)))
    }

    /// Share of the records of a class that were answered so; 0 where there are none.
    pub fn recall(&self, average: Average) -> Option<f64> {
        self.average(average, |c| (self.0[c][c], self.truly(c)))
    }

    /// 2 TP / (2 TP + FP + FN) of a class.
    pub fn f1(&self, average: Average) -> Option<f64> {
        self.average(average, |c| (2 * self.0[c][c], self.answered(c) + self.truly(c)))
    }

    /// Mean recall of the classes that have records.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let known = (0..self.classes()).filter_map(|c| share(self.0[c][c], self.truly(c)));
        mean(known)
    }

    /// Matthews correlation coefficient of several classes (Gorodkin 2004); 0 where all answers, or all truths, are
    /// one class. `None` without records.
    pub fn mcc(&self) -> Option<f64> {
        let total = self.total() as f64;
        let (answered, truly): (Vec<f64>, Vec<f64>) =
            (0..self.classes()).map(|c| (self.answered(c) as f64, self.truly(c) as f64)).unzip();
        let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let covariance = self.right() as f64 * total - product(&answered, &truly);
        let spread =
            (total * total - product(&answered, &answered)) * (total * total - product(&truly, &truly));
        (total > 0.0).then(|| if spread > 0.0 { covariance / spread.sqrt() } else { 0.0 })
    }

    fn average(&self, average: Average, part_of: impl Fn(usize) -> (u64, u64)) -> Option<f64> {
        let known = (0..self.classes()).filter(|&c| self.answered(c) + self.truly(c) > 0).map(part_of);
        match average {
            Average::Macro => mean(known.map(|(part, whole)| share(part, whole).unwrap_or(0.0))),
            Average::Micro => {
                let (part, whole) = known.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                share(part, whole)
            }
        }
    }
}

/// Mean AUROC of each class against the others (Provost & Domingos 2001, unweighted); `scores[record][class]`. A class
/// that all or none of the records have does not count.
pub fn auroc_one_vs_rest(scores: &[Vec<f64>], truth: &[usize]) -> Option<f64> {
    let classes = scores.first().map_or(0, Vec::len);
    mean((0..classes).filter_map(|c| {
        let own: Vec<f64> = scores.iter().map(|s| s[c]).collect();
        auroc(&own, &truth.iter().map(|&t| t == c).collect::<Vec<_>>())
    }))
}

/// The class of the highest score; the first of equals.
pub fn argmax(scores: &[f64]) -> usize {
    let best =
        scores.iter().enumerate().fold((0, f64::NEG_INFINITY), |b, (i, &s)| if s > b.1 { (i, s) } else { b });
    best.0
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0_u32, 0.0), |(n, s), v| (n + 1, s + v));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn figures_of_a_hand_computed_case() {
        // Truth 0: 2 right, 1 called 1. Truth 1: 1 right. Truth 2: 1 called 0.
        let counts = ClassCounts::of([(0, 0), (0, 0), (0, 1), (1, 1), (2, 0)], 3);
        assert!(close(counts.accuracy(), 0.6));
        assert!(close(counts.precision(Average::Macro), (2.0 / 3.0 + 0.5 + 0.0) / 3.0));
        assert!(close(counts.recall(Average::Macro), (2.0 / 3.0 + 1.0 + 0.0) / 3.0));
        assert!(close(counts.f1(Average::Macro), (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0));
        assert!(close(counts.f1(Average::Micro), 0.6) && close(counts.balanced_accuracy(), 5.0 / 9.0));
        // 3·5 − (3·3 + 2·1 + 0·1), over √((25 − 13)(25 − 11)).
        assert!(close(counts.mcc(), 4.0 / (12.0_f64 * 14.0).sqrt()));
    }

    #[test]
    fn two_classes_agree_with_the_binary_figures() {
        let binary = super::super::Confusion {
            true_positive: 9,
            false_positive: 2,
            true_negative: 8,
            false_negative: 1,
        };
        let counts = ClassCounts(vec![vec![8, 2], vec![1, 9]]);
        assert!(close(counts.mcc(), binary.mcc().unwrap()));
        assert_eq!(counts.accuracy(), binary.accuracy());
    }

    #[test]
    fn one_class_or_no_record_is_not_divided_by() {
        assert_eq!(ClassCounts::of([], 3).mcc(), None);
        assert_eq!(ClassCounts::of([], 0).f1(Average::Macro), None);
        assert_eq!(ClassCounts::of([(1, 1), (1, 1)], 3).mcc(), Some(0.0));
        assert_eq!(ClassCounts::of([(1, 1)], 3).f1(Average::Macro), Some(1.0));
    }

    #[test]
    fn one_vs_rest_is_the_mean_over_classes_that_can_be_ranked() {
        let scores = [vec![0.9, 0.1, 0.0], vec![0.2, 0.8, 0.0], vec![0.6, 0.4, 0.0]];
        // Class 0 and 1 in perfect order; nobody is class 2.
        assert_eq!(auroc_one_vs_rest(&scores, &[0, 1, 0]), Some(1.0));
        assert_eq!(auroc_one_vs_rest(&[], &[]), None);
        assert_eq!((argmax(&[0.1, 0.7, 0.7]), argmax(&[f64::NAN, 0.0])), (1, 1));
    }
}
