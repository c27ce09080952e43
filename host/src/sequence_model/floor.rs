//! The floors that a sequence model must beat: logistic regression on counts of token n-grams, and substitution
//! scores of single changed residues.

use std::collections::HashMap;

use locus_genome::{EncodedSequence, amino};

/// Strength of the L2 penalty, on rows of length one.
const PENALTY: f64 = 1e-4;
/// Passes over the training records.
const EPOCHS: usize = 40;

/// Shares of the n-grams of one row, of length one (Euclidean), by number.
type Sparse = Vec<(usize, f64)>;

/// Multinomial logistic regression on the n-grams that training has, fitted by averaged stochastic gradient descent in
/// a fixed order (Bottou 2010).
#[derive(Clone, Debug)]
pub struct NGrams {
    n: usize,
    numbers: HashMap<Vec<i64>, usize>,
    /// One row a class: weights, then the bias.
    weights: Vec<Vec<f64>>,
}

impl NGrams {
    /// Fits on rows and their classes.
    pub fn fit(rows: &[EncodedSequence], classes: &[usize], n_classes: usize, n: usize) -> Self {
        let mut model = Self { n, numbers: HashMap::new(), weights: Vec::new() };
        for row in rows {
            for gram in inner(row).windows(n) {
                let next = model.numbers.len();
                model.numbers.entry(gram.to_vec()).or_insert(next);
            }
        }
        let width = model.numbers.len() + 1;
        model.weights = vec![vec![0.0; width]; n_classes];
        let rows: Vec<Sparse> = rows.iter().map(|row| model.counted(row)).collect();
        let mut mean = model.weights.clone();
        // A stride that shares no factor with most sizes visits every record once, near ones far apart.
        let (mut seen, stride) = (0_usize, 7_919);
        for epoch in 0..EPOCHS {
            for step in 0..rows.len() {
                let at = (step * stride + epoch) % rows.len();
                let rate = 4.0 / (1.0 + 4.0 * PENALTY * seen as f64);
                let p = softmax(&model.scores(&rows[at]));
                for (class, weights) in model.weights.iter_mut().enumerate() {
                    let slope = p[class] - f64::from(u8::from(classes[at] == class));
                    for &(i, x) in &rows[at] {
                        weights[i] -= rate * (slope * x + PENALTY * weights[i]);
                    }
                    weights[width - 1] -= 0.1 * rate * slope;
                }
                seen += 1;
            }
            if epoch >= EPOCHS / 2 {
                for (mean, now) in mean.iter_mut().flatten().zip(model.weights.iter().flatten()) {
                    *mean += now / (EPOCHS - EPOCHS / 2) as f64;
                }
            }
        }
        model.weights = mean;
        model
    }

    /// Probability of each class.
    pub fn predict(&self, row: &EncodedSequence) -> Vec<f64> {
        softmax(&self.scores(&self.counted(row)))
    }

    fn scores(&self, row: &Sparse) -> Vec<f64> {
        let bias = self.numbers.len();
        self.weights.iter().map(|w| w[bias] + row.iter().map(|&(i, x)| w[i] * x).sum::<f64>()).collect()
    }

    fn counted(&self, row: &EncodedSequence) -> Sparse {
        let mut counts: std::collections::BTreeMap<usize, f64> = std::collections::BTreeMap::new();
        for gram in inner(row).windows(self.n) {
            if let Some(&i) = self.numbers.get(gram) {
                *counts.entry(i).or_default() += 1.0;
            }
        }
        let norm = counts.values().map(|c| c * c).sum::<f64>().sqrt().max(1.0);
        counts.into_iter().map(|(i, c)| (i, c / norm)).collect()
    }
}

/// Token ids without [CLS] and [SEP].
pub(super) fn inner(row: &EncodedSequence) -> &[i64] {
    row.ids.get(1..row.ids.len().saturating_sub(1)).unwrap_or(&[])
}

pub(super) fn softmax(scores: &[f64]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.iter().map(|r| r / total).collect()
}

/// BLOSUM62 of the residue at the offset that changed against that of the wild type; `None` where none or no residue did.
pub fn blosum62(changed: Option<usize>, sequence: &str, wild_type: &str) -> Option<f64> {
    let at = changed?;
    let index = |text: &str| amino::residue_index(*text.as_bytes().get(at)?);
    Some(f64::from(amino::blosum62(index(wild_type)?, index(sequence)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n_grams_tell_apart_what_single_tokens_cannot() {
        // Both classes have as many of each token; only the order differs.
        let row = |order: &[i64]| EncodedSequence {
            ids: std::iter::once(2).chain(order.iter().copied().cycle().take(24)).chain([3]).collect(),
            ..EncodedSequence::default()
        };
        let rows: Vec<EncodedSequence> =
            (0..40).map(|i| if i % 2 == 0 { row(&[5, 6, 7, 8]) } else { row(&[8, 7, 6, 5]) }).collect();
        let classes: Vec<usize> = (0..40).map(|i| i % 2).collect();
        let pairs = NGrams::fit(&rows, &classes, 2, 2);
        assert!(pairs.predict(&rows[0])[0] > 0.9 && pairs.predict(&rows[1])[1] > 0.9);
        let single = NGrams::fit(&rows, &classes, 2, 1);
        assert!((single.predict(&rows[0])[0] - 0.5).abs() < 0.1);
        assert!((pairs.predict(&row(&[9, 10]))[0] - 0.5).abs() < 0.2, "unseen n-grams say nothing");
    }
}
