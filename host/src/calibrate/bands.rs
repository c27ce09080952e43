//! Bands from likelihood ratios: what a band says holds whatever the share of pathogenic variants on a
//! ward, where a threshold on the probability alone would not.

use super::platt::{Platt, weights};

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
    /// Share outside the uncertain band, at the prior.
    pub answered_share: f64,
    /// P(band | pathogenic) / P(band | benign) of the pathogenic band.
    pub lr_pathogenic: f64,
    /// The same of the benign band; under 1.
    pub lr_benign: f64,
}

/// The widest bands whose border has at least moderate evidence and whose labels are right often enough;
/// the narrowest tried where none are. `None` without both classes.
pub fn choose(platt: &Platt, logits: &[f64], labels: &[bool], prior: f64, accuracy: f64) -> Option<Bands> {
    let mut last = None;
    for n in 0..TRIES {
        let bands = at(platt, logits, labels, prior, MODERATE * GROWTH.powi(n as i32))?;
        if bands.answered_share < LEAST_SHARE && last.is_some() {
            break;
        }
        if bands.answered_accuracy >= accuracy {
            return Some(bands);
        }
        last = Some(bands);
    }
    last
}

/// Bands whose border has likelihood ratio `ratio` and its inverse: posterior odds over prior odds.
fn at(platt: &Platt, logits: &[f64], labels: &[bool], prior: f64, ratio: f64) -> Option<Bands> {
    let odds = prior / (1.0 - prior);
    let probability = |ratio: f64| odds * ratio / (1.0 + odds * ratio);
    let (benign_below, pathogenic_above) = (probability(1.0 / ratio), probability(ratio));
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
    // Half a record is added to each count, so that an empty cell gives no infinite ratio.
    let lr = |side: [f64; 2]| ((side[0] + 0.5) / (positives + 1.0)) / ((side[1] + 0.5) / (negatives + 1.0));
    Some(Bands {
        benign_below,
        pathogenic_above,
        answered_accuracy: if answered > 0.0 { right / answered } else { 0.0 },
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
        let bands = choose(&platt, &z, &l, 0.35, 0.9).unwrap();
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
    fn a_weaker_model_answers_less_and_one_that_knows_nothing_is_said_to_be_wrong() {
        let (z, l) = drawn(4000, 0.7);
        let platt = fit(&z, &l, 0.35).unwrap();
        let weak = choose(&platt, &z, &l, 0.35, 0.9).unwrap();
        let (zs, ls) = drawn(4000, 1.5);
        let strong = choose(&fit(&zs, &ls, 0.35).unwrap(), &zs, &ls, 0.35, 0.9).unwrap();
        assert!(weak.answered_accuracy >= 0.9 && weak.answered_share < strong.answered_share);
        let noise: Vec<f64> = (0..4000).map(|i| f64::from(i * 7919 % 1000) / 500.0 - 1.0).collect();
        let none = choose(&fit(&noise, &l, 0.35).unwrap(), &noise, &l, 0.35, 0.9).unwrap();
        assert!(none.answered_accuracy < 0.9);
    }
}
