//! How far probabilities are from what happens.

/// How records are put into bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binning {
    /// Equal steps of probability (Naeini et al. 2015).
    EqualWidth,
    /// As many records in each, ties kept together (Nguyen & O'Connor 2015).
    EqualMass,
}

/// Records of near probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    /// Mean probability.
    pub mean: f64,
    /// Share of positives.
    pub share: f64,
    /// Lower end of its 95 % interval (Wilson 1927).
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Weight of the records; their number where they are not weighted.
    pub weight: f64,
}

/// Standard normal quantile of the 95 % interval.
const Z: f64 = 1.96;

/// 95 % interval of a share seen among `n` records (Wilson 1927).
pub fn wilson(share: f64, n: f64) -> (f64, f64) {
    let z2 = Z * Z / n;
    let spread = Z * (share * (1.0 - share) / n + z2 / (4.0 * n)).max(0.0).sqrt();
    let end = |sign: f64| ((share + z2 / 2.0 + sign * spread) / (1.0 + z2)).clamp(0.0, 1.0);
    (end(-1.0), end(1.0))
}

/// The reliability curve: `bins` bins, those without records left out. `weights` counts each record for more or
/// less than one; `None` counts each once.
pub fn reliability(
    probabilities: &[f64],
    labels: &[bool],
    weights: Option<&[f64]>,
    bins: usize,
    binning: Binning,
) -> Vec<Bin> {
    assert_eq!(probabilities.len(), labels.len(), "a label for every probability");
    if probabilities.is_empty() || bins == 0 {
        return Vec::new();
    }
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let mut of = vec![Vec::new(); bins];
    match binning {
        Binning::EqualWidth => {
            for (i, &p) in probabilities.iter().enumerate() {
                of[((p * bins as f64) as usize).min(bins - 1)].push(i);
            }
        }
        Binning::EqualMass => {
            let mut order: Vec<usize> = (0..probabilities.len()).collect();
            order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
            let total: f64 = order.iter().map(|&i| weight(i)).sum();
            let mut before = 0.0;
            for tied in order.chunk_by(|&a, &b| probabilities[a] == probabilities[b]) {
                let own: f64 = tied.iter().map(|&i| weight(i)).sum();
                let middle = (before + own / 2.0) / total;
                of[((middle * bins as f64) as usize).min(bins - 1)].extend(tied);
                before += own;
            }
        }
    }
    of.into_iter()
        .filter(|records| !records.is_empty())
        .map(|records| bin(&records, probabilities, labels, weight))
        .collect()
}

fn bin(records: &[usize], probabilities: &[f64], labels: &[bool], weight: impl Fn(usize) -> f64) -> Bin {
    let (mut sum, mut squares, mut mean, mut hits) = (0.0, 0.0, 0.0, 0.0);
    for &i in records {
        let w = weight(i);
        sum += w;
        squares += w * w;
        mean += w * probabilities[i];
        hits += if labels[i] { w } else { 0.0 };
    }
    if sum <= 0.0 {
        return Bin::default();
    }
    let share = hits / sum;
    // Weighted records count for fewer (Kish 1965).
    let (low, high) = wilson(share, sum * sum / squares);
    Bin { mean: mean / sum, share, low, high, weight: sum }
}

/// Expected calibration error of a reliability curve: the mean distance of share from probability. `None` without
/// records.
pub fn ece_of(bins: &[Bin]) -> Option<f64> {
    let weight: f64 = bins.iter().map(|b| b.weight).sum();
    (weight > 0.0).then(|| bins.iter().map(|b| b.weight * (b.mean - b.share).abs()).sum::<f64>() / weight)
}

/// Largest calibration error of a reliability curve.
pub fn mce_of(bins: &[Bin]) -> Option<f64> {
    bins.iter().map(|b| (b.mean - b.share).abs()).reduce(f64::max)
}

/// Expected calibration error over equal-width bins. `None` without records.
pub fn ece(probabilities: &[f64], labels: &[bool], bins: usize) -> Option<f64> {
    ece_of(&reliability(probabilities, labels, None, bins, Binning::EqualWidth))
}

/// Mean squared distance of probability from truth (Brier 1950). `None` without records.
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    let one = |(p, l): (&f64, &bool)| (p - f64::from(u8::from(*l))).powi(2);
    mean(probabilities.iter().zip(labels).map(one))
}

/// Mean negative logarithm of the probability of what is true, in nats. `None` without records.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    let one = |(p, l): (&f64, &bool)| -(if *l { *p } else { 1.0 - p }).max(f64::EPSILON).ln();
    mean(probabilities.iter().zip(labels).map(one))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| values.sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ece_of_a_hand_computed_case() {
        // Bin 0: mean 0.1, none positive, 2 records; bin 1: mean 0.9, half positive, 2 records.
        let (p, l) = ([0.1, 0.1, 0.9, 0.9], [false, false, true, false]);
        assert!((ece(&p, &l, 2).unwrap() - (2.0 * 0.1 + 2.0 * 0.4) / 4.0).abs() < 1e-12);
        let bins = reliability(&p, &l, None, 2, Binning::EqualWidth);
        assert!((mce_of(&bins).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(ece(&[1.0], &[true], 10), Some(0.0));
        assert_eq!(ece(&[], &[], 10), None);
    }

    #[test]
    fn bins_of_equal_mass_keep_ties_together() {
        let p = [0.1, 0.2, 0.2, 0.2, 0.3, 0.9];
        let bins = reliability(&p, &[false, true, false, false, true, true], None, 3, Binning::EqualMass);
        assert_eq!(bins.iter().map(|b| b.weight).collect::<Vec<_>>(), [1.0, 3.0, 2.0]);
        assert!((bins[1].share - 1.0 / 3.0).abs() < 1e-12 && (bins[2].mean - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_weight_counts_as_so_many_records() {
        let twice = reliability(&[0.2, 0.2, 0.4], &[true, true, false], None, 1, Binning::EqualWidth);
        let weighted = reliability(&[0.2, 0.4], &[true, false], Some(&[2.0, 1.0]), 1, Binning::EqualWidth);
        assert!((twice[0].share - weighted[0].share).abs() < 1e-12);
        assert!((twice[0].mean - weighted[0].mean).abs() < 1e-12);
        assert!(weighted[0].high - weighted[0].low > twice[0].high - twice[0].low);
    }

    #[test]
    fn the_interval_is_wilsons() {
        assert!((wilson(1.0, 20.0).0 - 0.8389).abs() < 1e-4);
        assert!((wilson(0.5, 100.0).0 - 0.4038).abs() < 1e-4);
        assert!((wilson(0.5, 100.0).1 - 0.5962).abs() < 1e-4);
    }

    #[test]
    fn brier_and_log_loss_of_hand_computed_cases() {
        assert!((brier(&[0.8, 0.3], &[true, false]).unwrap() - (0.04 + 0.09) / 2.0).abs() < 1e-12);
        assert!(
            (log_loss(&[0.5, 0.25], &[true, false]).unwrap() - (2.0_f64.ln() - 0.75_f64.ln()) / 2.0).abs()
                < 1e-12
        );
        assert!(log_loss(&[0.0], &[true]).unwrap().is_finite() && brier(&[], &[]).is_none());
    }
}
