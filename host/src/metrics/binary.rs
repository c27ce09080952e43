//! Figures of a binary classifier, over scores where a higher one means pathogenic.

/// Area under the ROC curve: the share of positive-negative pairs in the right order, ties counted half
/// (Mann & Whitney 1947). `None` without both classes.
pub fn auroc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let (order, positives) = ascending(scores, labels);
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    // Ranks are summed, tied scores sharing their mean rank.
    let mut rank_sum = 0.0;
    let mut at = 0;
    for group in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let mean_rank = at as f64 + (group.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * group.iter().filter(|i| labels[**i]).count() as f64;
        at += group.len();
    }
    let p = positives as f64;
    Some((rank_sum - p * (p + 1.0) / 2.0) / (p * negatives as f64))
}

/// Average precision: the area under the precision-recall steps, tied scores taken together. `None`
/// without positives.
pub fn aupr(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let curve = pr_curve(scores, labels);
    let mut before = 0.0;
    let area = curve.iter().map(|&(recall, precision)| {
        let step = recall - before;
        before = recall;
        step * precision
    });
    (!curve.is_empty()).then(|| area.sum())
}

fn ascending(scores: &[f64], labels: &[bool]) -> (Vec<usize>, usize) {
    assert_eq!(scores.len(), labels.len(), "a label for every score");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    (order, labels.iter().filter(|&&l| l).count())
}

/// Counts of answers against truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confusion {
    /// Pathogenic, called so.
    pub true_positive: u64,
    /// Benign, called pathogenic.
    pub false_positive: u64,
    /// Benign, called so.
    pub true_negative: u64,
    /// Pathogenic, called benign.
    pub false_negative: u64,
}

impl Confusion {
    /// Calls everything above `threshold` pathogenic.
    pub fn at(scores: &[f64], labels: &[bool], threshold: f64) -> Self {
        let mut c = Self::default();
        for (&s, &l) in scores.iter().zip(labels) {
            match (s > threshold, l) {
                (true, true) => c.true_positive += 1,
                (true, false) => c.false_positive += 1,
                (false, false) => c.true_negative += 1,
                (false, true) => c.false_negative += 1,
            }
        }
        c
    }

    /// Share of pathogenic variants that were called so.
    pub fn sensitivity(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_negative)
    }

    /// Share of benign variants that were called so.
    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negative, self.true_negative + self.false_positive)
    }

    /// Share of calls that are right.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positive + self.true_negative;
        share(right, right + self.false_positive + self.false_negative)
    }

    /// Share of pathogenic calls that are right.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positive, self.true_positive + self.false_positive)
    }

    /// Harmonic mean of precision and sensitivity (van Rijsbergen 1979): 2 TP / (2 TP + FP + FN).
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)
    }

    /// Matthews correlation coefficient (1975); 0 where a row or column is empty, `None` without any.
    pub fn mcc(&self) -> Option<f64> {
        let [tp, fp, tn, fn_] =
            [self.true_positive, self.false_positive, self.true_negative, self.false_negative]
                .map(|n| n as f64);
        if tp + fp + tn + fn_ == 0.0 {
            return None;
        }
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        Some(if product == 0.0 { 0.0 } else { (tp * tn - fp * fn_) / product.sqrt() })
    }
}

/// The ROC curve: (1 − specificity, sensitivity) from (0, 0) to (1, 1), tied scores taken together. Empty without
/// both classes.
pub fn roc_curve(scores: &[f64], labels: &[bool]) -> Vec<(f64, f64)> {
    let (steps, positives) = descending(scores, labels);
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return Vec::new();
    }
    let point = |(hits, seen): (usize, usize)| {
        ((seen - hits) as f64 / negatives as f64, hits as f64 / positives as f64)
    };
    std::iter::once((0.0, 0.0)).chain(steps.into_iter().map(point)).collect()
}

/// The precision-recall curve: (recall, precision) from the highest score down, tied scores taken together. Empty
/// without positives.
pub fn pr_curve(scores: &[f64], labels: &[bool]) -> Vec<(f64, f64)> {
    let (steps, positives) = descending(scores, labels);
    if positives == 0 {
        return Vec::new();
    }
    steps
        .into_iter()
        .map(|(hits, seen)| (hits as f64 / positives as f64, hits as f64 / seen as f64))
        .collect()
}

/// (positives, records) at and above each distinct score from the highest down; and positives in all.
fn descending(scores: &[f64], labels: &[bool]) -> (Vec<(usize, usize)>, usize) {
    let (mut order, positives) = ascending(scores, labels);
    order.reverse();
    let (mut hits, mut seen) = (0, 0);
    let steps = order.chunk_by(|a, b| scores[*a] == scores[*b]).map(|group| {
        hits += group.iter().filter(|i| labels[**i]).count();
        seen += group.len();
        (hits, seen)
    });
    (steps.collect(), positives)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auroc_and_aupr_of_hand_computed_cases() {
        let scores = [0.1, 0.4, 0.35, 0.8];
        let labels = [false, false, true, true];
        assert_eq!(auroc(&scores, &labels), Some(0.75));
        // Ranked down: hit (1/1), miss, hit (2/3), miss: 0.5 · 1 + 0.5 · 2/3.
        assert!((aupr(&scores, &labels).unwrap() - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(auroc(&[0.5; 4], &labels), Some(0.5));
        assert_eq!(aupr(&[0.5; 4], &labels), Some(0.5));
        assert_eq!((auroc(&[1.0], &[true]), aupr(&[1.0], &[false])), (None, None));
    }

    #[test]
    fn confusion_of_a_hand_computed_case() {
        let c = Confusion { true_positive: 90, false_positive: 20, true_negative: 80, false_negative: 10 };
        assert_eq!((c.sensitivity(), c.specificity(), c.accuracy()), (Some(0.9), Some(0.8), Some(0.85)));
        // (90·80 − 20·10) / √(110·100·100·90)
        assert!((c.mcc().unwrap() - 7000.0 / 9_949.874_371_066_2).abs() < 1e-12);
        assert_eq!(Confusion::default().mcc(), None);
        assert_eq!(Confusion { true_positive: 3, ..Confusion::default() }.mcc(), Some(0.0));
        let at = Confusion::at(&[0.2, 0.5, 0.9], &[false, true, true], 0.5);
        assert_eq!(
            at,
            Confusion { true_positive: 1, false_positive: 0, true_negative: 1, false_negative: 1 }
        );
    }
}
