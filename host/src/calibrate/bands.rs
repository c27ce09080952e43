//! Bands from likelihood ratios: what a band says holds whatever the share of pathogenic variants on a
//! ward, where a threshold on the probability alone would not.

use super::platt::{Platt, weights};
use crate::metrics::wilson;

/// Likelihood ratio of moderate evidence (Tavtigian et al. 2018, 350^(1/4)).
pub const MODERATE: f64 = 4.33;
/// Ratios tried, from moderate upwards.
const GROWTH: f64 = 1.15;
const TRIES: usize = 40;
/// A mode that answers fewer variants than this share does not answer.
const LEAST_SHARE: f64 = 0.05;

/// Thresholds, and what they did on the records they were chosen on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bands {
    /// Under this probability: benign.
    pub benign_below: f64,
    /// Over it: pathogenic.
    pub pathogenic_above: f64,
    /// Accuracy outside the uncertain band, at the prior.
    pub answered_accuracy: f64,
    /// Lower end of its 95 % interval (Wilson 1927).
    pub accuracy_at_least: f64,
    /// Accuracy of the benign and of the pathogenic band, at the prior.
    pub band_accuracy: [f64; 2],
    /// Share outside the uncertain band.
    pub answered_share: f64,
    /// P(band | pathogenic) / P(band | benign) of the pathogenic band.
    pub lr_pathogenic: f64,
    /// The same of the benign band; under 1.
    pub lr_benign: f64,
}

impl Bands {
    /// Every probability is uncertain: what a mode has that does not answer.
    pub const NONE: Self = Self {
        benign_below: 0.0,
        pathogenic_above: 1.0,
        answered_accuracy: 0.0,
        accuracy_at_least: 0.0,
        band_accuracy: [0.0; 2],
        answered_share: 0.0,
        lr_pathogenic: 1.0,
        lr_benign: 1.0,
    };

    /// Whether labels are right often enough, in each band and as far as the records can tell, and both bands were
    /// seen to be at least moderate evidence.
    fn pass(&self, wanted: Wanted) -> bool {
        self.band_accuracy.iter().all(|&a| a >= wanted.accuracy)
            && self.accuracy_at_least >= wanted.at_least
            && self.lr_pathogenic >= MODERATE
            && self.lr_benign <= 1.0 / MODERATE
    }
}

/// How often labels must be right.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Among the records.
    pub accuracy: f64,
    /// At the lower end of the 95 % interval.
    pub at_least: f64,
}

impl Wanted {
    /// So often that chance does not explain it.
    pub const fn surely(accuracy: f64) -> Self {
        Self { accuracy, at_least: accuracy }
    }
}

/// The widest bands tried that pass and answer one record in twenty; `None` where there are none: the mode
/// abstains.
pub fn choose(platt: &Platt, logits: &[f64], labels: &[bool], prior: f64, wanted: Wanted) -> Option<Bands> {
    let ratio = |n: usize| MODERATE * GROWTH.powi(n as i32);
    let tried = (0..TRIES).flat_map(|n| (0..TRIES).map(move |m| (n, m)));
    let mut widest: Option<Bands> = None;
    for (n, m) in tried {
        let bands = at(platt, logits, labels, prior, (ratio(n), ratio(m)))?;
        let wider = widest.is_none_or(|w| bands.answered_share > w.answered_share);
        if wider && bands.answered_share >= LEAST_SHARE && bands.pass(wanted) {
            widest = Some(bands);
        }
    }
    widest
}

/// Bands whose borders have these likelihood ratios, the first as its inverse: posterior odds over prior odds. `None`
/// without both classes.
fn at(
    platt: &Platt,
    logits: &[f64],
    labels: &[bool],
    prior: f64,
    (benign, pathogenic): (f64, f64),
) -> Option<Bands> {
    let odds = prior / (1.0 - prior);
    let probability = |ratio: f64| odds * ratio / (1.0 + odds * ratio);
    let (benign_below, pathogenic_above) = (probability(1.0 / benign), probability(pathogenic));
    let (w1, w0) = weights(labels, prior);
    let positives = labels.iter().filter(|&&l| l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    // Pathogenic and benign records in the benign and in the pathogenic band.
    let (mut low, mut high) = ([0.0; 2], [0.0; 2]);
    for (&z, &l) in logits.iter().zip(labels) {
        let p = platt.probability(z);
        let side = if p < benign_below {
            &mut low
        } else if p > pathogenic_above {
            &mut high
        } else {
            continue;
        };
        side[usize::from(!l)] += 1.0;
    }
    let right = w1 * high[0] + w0 * low[1];
    let answered = right + w1 * low[0] + w0 * high[1];
    let accuracy = |right: f64, wrong: f64| if right > 0.0 { right / (right + wrong) } else { 0.0 };
    let answered_accuracy = accuracy(right, answered - right);
    // Weighted records count for fewer (Kish 1965).
    let squares = w1 * w1 * (low[0] + high[0]) + w0 * w0 * (low[1] + high[1]);
    let effective = if squares > 0.0 { answered * answered / squares } else { 0.0 };
    // Half a record is added to each count, so that an empty cell gives no infinite ratio.
    let lr = |side: [f64; 2]| ((side[0] + 0.5) / (positives + 1.0)) / ((side[1] + 0.5) / (negatives + 1.0));
    Some(Bands {
        benign_below,
        pathogenic_above,
        answered_accuracy,
        band_accuracy: [accuracy(w0 * low[1], w1 * low[0]), accuracy(w1 * high[0], w0 * high[1])],
        accuracy_at_least: if effective > 0.0 { wilson(answered_accuracy, effective).0 } else { 0.0 },
        answered_share: answered / labels.len() as f64,
        lr_pathogenic: lr(high),
        lr_benign: lr(low),
    })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::calibrate::fit;

    fn drawn(n: usize, separation: f64) -> (Vec<f64>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        (0..n)
            .map(|_| {
                let l = rng.random_bool(0.4);
                let noise: f64 = (0..12).map(|_| rng.random_range(-0.5..0.5)).sum();
                (noise + if l { separation } else { -separation }, l)
            })
            .unzip()
    }

    #[test]
    fn the_borders_are_moderate_evidence_where_that_is_accurate_enough() {
        let (z, l) = drawn(4000, 1.5);
        let platt = fit(&z, &l, 0.35).unwrap();
        let bands = choose(&platt, &z, &l, 0.35, Wanted::surely(0.9)).unwrap();
        let odds = |p: f64| p / (1.0 - p);
        assert!((odds(bands.pathogenic_above) / odds(0.35) - MODERATE).abs() < 1e-9);
        assert!((odds(bands.benign_below) / odds(0.35) * MODERATE - 1.0).abs() < 1e-9);
        assert!(
            bands.answered_accuracy > 0.9
                && bands.lr_pathogenic > MODERATE
                && bands.lr_benign < 1.0 / MODERATE
        );
    }

    #[test]
    fn a_weaker_model_answers_less_and_one_that_knows_nothing_abstains() {
        let (z, l) = drawn(4000, 0.7);
        let platt = fit(&z, &l, 0.35).unwrap();
        let weak = choose(&platt, &z, &l, 0.35, Wanted::surely(0.9)).unwrap();
        let (zs, ls) = drawn(4000, 1.5);
        let strong = choose(&fit(&zs, &ls, 0.35).unwrap(), &zs, &ls, 0.35, Wanted::surely(0.9)).unwrap();
        assert!(weak.answered_accuracy >= 0.9 && weak.answered_share < strong.answered_share);
        let noise: Vec<f64> = (0..4000).map(|i| f64::from(i * 7919 % 1000) / 500.0 - 1.0).collect();
        assert_eq!(choose(&fit(&noise, &l, 0.35).unwrap(), &noise, &l, 0.35, Wanted::surely(0.9)), None);
    }

    /// `n` records at each logit, all of one class.
    fn counted(cells: &[(usize, f64, bool)]) -> (Vec<f64>, Vec<bool>) {
        cells.iter().flat_map(|&(n, z, l)| std::iter::repeat_n((z, l), n)).unzip()
    }

    fn chosen(cells: &[(usize, f64, bool)]) -> Option<Bands> {
        let (z, l) = counted(cells);
        choose(&Platt { temperature: 1.0, offset: 0.0 }, &z, &l, 0.5, Wanted::surely(0.9))
    }

    #[test]
    fn few_answers_few_records_or_an_empty_band_are_no_ground_to_answer_on() {
        let answered = [(200, 9.0, true), (200, -9.0, false)];
        assert!(chosen(&answered).is_some_and(|b| b.answered_share == 1.0 && b.answered_accuracy == 1.0));
        // All right, but 2 % of the records: at the first ratio that is tried as at any other.
        assert_eq!(
            chosen(&[(40, 9.0, true), (40, -9.0, false), (1960, 0.0, true), (1960, 0.0, false)]),
            None
        );
        // 20 of 20 right is compatible with 84 %.
        assert_eq!(chosen(&[(10, 9.0, true), (10, -9.0, false), (10, 0.0, true), (10, 0.0, false)]), None);
        // Where fewer must do, they do.
        let (z, l) = counted(&[(10, 9.0, true), (10, -9.0, false), (10, 0.0, true), (10, 0.0, false)]);
        let few = Wanted { accuracy: 0.9, at_least: 0.8 };
        let platt = Platt { temperature: 1.0, offset: 0.0 };
        assert!(choose(&platt, &z, &l, 0.5, few).is_some_and(|b| b.answered_share == 0.5));
        // A band that is wrong too often does not hide behind the other: it is drawn in alone.
        let (z, l) = counted(&[(400, -9.0, false), (30, 2.0, true), (100, 2.0, false), (100, 9.0, true)]);
        let one = choose(&platt, &z, &l, 0.5, Wanted::surely(0.9)).unwrap();
        assert!(platt.probability(2.0) < one.pathogenic_above && one.benign_below > 0.15, "{one:?}");
        assert!((one.answered_share - f64::midpoint(100.0 / 130.0, 400.0 / 500.0)).abs() < 1e-9);
        // Nothing was ever called pathogenic, so nobody knows what such a call would be worth.
        assert_eq!(chosen(&[(200, 0.0, true), (200, -9.0, false)]), None);
    }
}
