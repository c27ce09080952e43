//! Linear models with an L2 penalty: multinomial logistic regression and ridge regression, by accelerated gradient
//! descent (Nesterov 1983) that begins anew whenever its momentum points uphill (O'Donoghue & Candès 2015).

use crate::sequence_model::{Truth, floor::softmax};

/// Features of one row that are not 0, by number.
pub(super) type Sparse = Vec<(usize, f64)>;

/// Most steps.
const STEPS: usize = 4_000;
/// The descent ends where the gradient's norm has fallen to this share of the first one.
const ENOUGH: f64 = 1e-5;

/// Weights [features · outputs], and after them one bias an output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Linear {
    outputs: usize,
    values: Vec<f64>,
}

impl Linear {
    /// Minimises the mean loss over `rows` (cross-entropy of classes, half the square of values) and half the `penalty`
    /// times the squared weights; biases have no penalty.
    pub(super) fn fit(
        rows: &[&Sparse],
        truth: &Truth,
        (features, outputs): (usize, usize),
        penalty: f64,
    ) -> Self {
        let zeros = vec![0.0; (features + 1) * outputs];
        let mut now = Self { outputs, values: zeros.clone() };
        let mut ahead = now.clone();
        let square = |row: &&Sparse| 1.0 + row.iter().map(|(_, x)| x * x).sum::<f64>();
        // The mean square of the rows bounds the curvature; that of a softmax is half of it at most.
        let bound = rows.iter().map(square).sum::<f64>() / rows.len().max(1) as f64;
        let rate = 1.0 / (bound * if matches!(truth, Truth::Classes(_)) { 0.5 } else { 1.0 } + penalty);
        let (mut slope, mut first, mut momentum) = (zeros, None, 1.0_f64);
        for _ in 0..STEPS {
            ahead.slope(rows, truth, penalty, &mut slope);
            let norm = slope.iter().map(|g| g * g).sum::<f64>().sqrt();
            if norm <= ENOUGH * *first.get_or_insert(norm) {
                break;
            }
            let mut uphill = 0.0;
            let next_momentum = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
            let carry = (momentum - 1.0) / next_momentum;
            for ((now, ahead), g) in now.values.iter_mut().zip(&mut ahead.values).zip(&slope) {
                let next = *ahead - rate * g;
                uphill += g * (next - *now);
                *ahead = next + carry * (next - *now);
                *now = next;
            }
            momentum = next_momentum;
            if uphill > 0.0 {
                momentum = 1.0;
                ahead.values.copy_from_slice(&now.values);
            }
        }
        now
    }

    /// One number an output.
    pub(super) fn of(&self, row: &Sparse) -> Vec<f64> {
        let mut sums = self.bias().to_vec();
        for &(i, x) in row {
            sums.iter_mut().zip(self.weights(i)).for_each(|(sum, w)| *sum += w * x);
        }
        sums
    }

    /// Weights of a feature, one an output.
    pub(super) fn weights(&self, feature: usize) -> &[f64] {
        &self.values[feature * self.outputs..][..self.outputs]
    }

    /// One an output.
    pub(super) fn bias(&self) -> &[f64] {
        &self.values[self.values.len() - self.outputs..]
    }

    fn slope(&self, rows: &[&Sparse], truth: &Truth, penalty: f64, slope: &mut [f64]) {
        let biases = self.values.len() - self.outputs;
        slope.iter_mut().zip(&self.values[..biases]).for_each(|(g, w)| *g = penalty * w);
        slope[biases..].fill(0.0);
        let share = 1.0 / rows.len().max(1) as f64;
        for (n, row) in rows.iter().enumerate() {
            let mut off = self.of(row);
            match truth {
                Truth::Classes(classes) => {
                    off = softmax(&off);
                    off[classes[n]] -= 1.0;
                }
                Truth::Values(values) => off[0] -= values[n],
            }
            for &(i, x) in row.iter() {
                for (g, off) in slope[i * self.outputs..].iter_mut().zip(&off) {
                    *g += share * x * off;
                }
            }
            slope[biases..].iter_mut().zip(&off).for_each(|(g, off)| *g += share * off);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ridge_regression_is_the_closed_form() {
        // Of one centred feature with the penalty λ the weight is Σxy / (Σx² + nλ), and the bias the mean.
        let rows: Vec<Sparse> = [-1.0, 0.0, 1.0, 2.0, -2.0].map(|x| vec![(0, x)]).to_vec();
        let rows: Vec<&Sparse> = rows.iter().collect();
        let model = Linear::fit(&rows, &Truth::Values(vec![0.0, 1.0, 2.0, 3.0, -1.0]), (1, 1), 0.5);
        assert!((model.weights(0)[0] - 10.0 / 12.5).abs() < 1e-4 && (model.bias()[0] - 1.0).abs() < 1e-4);
        assert!((model.of(&vec![(0, 3.0)])[0] - 3.4).abs() < 1e-3);
    }

    #[test]
    fn logistic_regression_ends_where_its_slope_is_none_and_unseen_features_have_no_weight() {
        let rows: Vec<Sparse> = (0..40).map(|i| vec![(i % 2, 1.0 + f64::from(i as u8 % 3))]).collect();
        let rows: Vec<&Sparse> = rows.iter().collect();
        let truth = Truth::Classes((0..40).map(|i| usize::from(i % 2 == 1 || i % 8 == 0)).collect());
        let model = Linear::fit(&rows, &truth, (3, 2), 0.01);
        let mut slope = vec![0.0; 8];
        model.slope(&rows, &truth, 0.01, &mut slope);
        assert!(slope.iter().all(|g| g.abs() < 1e-4), "{slope:?}");
        assert_eq!(model.weights(2), [0.0, 0.0]);
        let gap = |row| model.of(&row)[1] - model.of(&row)[0];
        assert!(gap(vec![(1, 2.0)]) > 2.0 && gap(vec![(0, 2.0)]) < 0.0);
    }
}
