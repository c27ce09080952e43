//! Figures of predicted numbers.

/// Mean squared error. `None` without records.
pub fn mse(predicted: &[f64], truth: &[f64]) -> Option<f64> {
    mean(&differences(predicted, truth).map(|d| d * d).collect::<Vec<_>>())
}

/// Mean absolute error. `None` without records.
pub fn mae(predicted: &[f64], truth: &[f64]) -> Option<f64> {
    mean(&differences(predicted, truth).map(f64::abs).collect::<Vec<_>>())
}

/// Share of the variance that is explained, 1 − residual / total sum of squares; under 0 where the mean is better.
/// `None` where the truth does not vary.
pub fn r_squared(predicted: &[f64], truth: &[f64]) -> Option<f64> {
    let centre = mean(truth)?;
    let total: f64 = truth.iter().map(|t| (t - centre).powi(2)).sum();
    let residual: f64 = differences(predicted, truth).map(|d| d * d).sum();
    (total > 0.0).then(|| 1.0 - residual / total)
}

/// Product-moment correlation (Pearson 1895). `None` where either does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "as many of both");
    let (centre_a, centre_b) = (mean(a)?, mean(b)?);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - centre_a, b - centre_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (aa > 0.0 && bb > 0.0).then(|| (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0))
}

/// Correlation of ranks (Spearman 1904), equal values sharing their mean rank. `None` where either does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        before += tied.len();
    }
    ranks
}

fn differences<'a>(predicted: &'a [f64], truth: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    assert_eq!(predicted.len(), truth.len(), "a truth for every prediction");
    predicted.iter().zip(truth).map(|(p, t)| p - t)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_hand_computed_case() {
        let (p, t) = ([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]);
        assert!((mse(&p, &t).unwrap() - 5.0 / 3.0).abs() < 1e-12);
        assert_eq!(mae(&p, &t), Some(1.0));
        assert!((r_squared(&p, &t).unwrap() - (1.0 - 5.0 / 2.0)).abs() < 1e-12);
        assert!((spearman(&p, &t).unwrap() - 0.5).abs() < 1e-12);
        // Centred: (−4/3, −1/3, 5/3) and (−1, 1, 0).
        assert!((pearson(&p, &t).unwrap() - 1.0 / (42.0_f64 / 9.0 * 2.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn ranks_of_equals_are_shared_and_what_does_not_vary_has_no_correlation() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!((pearson(&[], &[]), mse(&[], &[]), r_squared(&[1.0], &[1.0])), (None, None, None));
        assert!((spearman(&[1.0, 2.0, 9.0], &[1.0, 4.0, 5.0]).unwrap() - 1.0).abs() < 1e-12);
    }
}
