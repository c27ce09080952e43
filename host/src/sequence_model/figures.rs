//! Figures of predictions: of two classes, of several, and of values.

use std::collections::BTreeMap;

use super::Truth;
use crate::metrics::{self, Average, ClassCounts, Confusion};

/// Figures by name; `predicted` is what [`super::predicted`] gives. Of two classes the second is the positive one.
pub fn figures(predicted: &[Vec<f64>], truth: &Truth) -> BTreeMap<String, f64> {
    let mut all: Vec<(&str, Option<f64>)> = Vec::new();
    match truth {
        Truth::Values(truth) => {
            let values: Vec<f64> = predicted.iter().map(|p| p[0]).collect();
            all.extend([
                ("spearman", metrics::spearman(&values, truth)),
                ("pearson", metrics::pearson(&values, truth)),
                ("rmse", metrics::mse(&values, truth).map(f64::sqrt)),
                ("mae", metrics::mae(&values, truth)),
                ("r_squared", metrics::r_squared(&values, truth)),
            ]);
        }
        Truth::Classes(truth) => {
            let classes = predicted.first().map_or(0, Vec::len);
            let loss: f64 = predicted.iter().zip(truth).map(|(p, &t)| -p[t].max(1e-12).ln()).sum();
            all.push(("log_loss", (!truth.is_empty()).then(|| loss / truth.len() as f64)));
            if classes == 2 {
                let scores: Vec<f64> = predicted.iter().map(|p| p[1]).collect();
                let labels: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
                let confusion = Confusion::at(&scores, &labels, 0.5);
                all.extend([
                    ("auroc", metrics::auroc(&scores, &labels)),
                    ("aupr", metrics::aupr(&scores, &labels)),
                    ("accuracy", confusion.accuracy()),
                    ("mcc", confusion.mcc()),
                    ("sensitivity", confusion.sensitivity()),
                    ("specificity", confusion.specificity()),
                    ("precision", confusion.precision()),
                    ("f1", confusion.f1()),
                    ("brier", metrics::brier(&scores, &labels)),
                    ("ece", metrics::ece(&scores, &labels, 10)),
                ]);
            } else {
                let called: Vec<usize> = predicted.iter().map(|p| metrics::argmax(p)).collect();
                let pairs = truth.iter().copied().zip(called.iter().copied());
                let confusion = ClassCounts::of(pairs, classes);
                let (sure, right): (Vec<f64>, Vec<bool>) =
                    predicted.iter().zip(truth).zip(&called).map(|((p, t), c)| (p[*c], t == c)).unzip();
                all.extend([
                    ("accuracy", confusion.accuracy()),
                    ("error", confusion.accuracy().map(|a| 1.0 - a)),
                    ("balanced_accuracy", confusion.balanced_accuracy()),
                    ("ece", metrics::ece(&sure, &right, 10)),
                    ("macro_f1", confusion.f1(Average::Macro)),
                    ("mcc", confusion.mcc()),
                    ("auroc", metrics::auroc_one_vs_rest(predicted, truth)),
                ]);
            }
        }
    }
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_hand_computed_cases() {
        let two = [[0.9, 0.1], [0.4, 0.6], [0.65, 0.35], [0.2, 0.8]].map(Vec::from);
        let f = figures(&two, &Truth::Classes(vec![0, 0, 1, 1]));
        assert_eq!((f["auroc"], f["accuracy"], f["sensitivity"]), (0.75, 0.5, 0.5));
        let three = [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]].map(Vec::from);
        let f = figures(&three, &Truth::Classes(vec![0, 2, 2]));
        assert!((f["error"] - 1.0 / 3.0).abs() < 1e-12);
        let values = [[1.0], [3.0], [2.0]].map(Vec::from);
        let f = figures(&values, &Truth::Values(vec![10.0, 30.0, 40.0]));
        assert!((f["spearman"] - 0.5).abs() < 1e-12);
    }
}
