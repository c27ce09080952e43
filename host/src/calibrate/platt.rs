//! Temperature and offset by logistic regression on the logit (Platt 1999; Guo et al. 2017), with
//! the classes weighted to a named prior.

use locus_engine::probability::probability;

/// probability = sigmoid(z / temperature + offset).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platt {
    /// Divides the logit; positive.
    pub temperature: f64,
    /// Added to it.
    pub offset: f64,
}

impl Platt {
    /// Probability of a logit.
    pub fn probability(&self, logit: f64) -> f64 {
        probability(logit, self.temperature, self.offset)
    }
}

/// Slopes beyond these come from classes that do not overlap, not from calibration.
const SLOPE: (f64, f64) = (0.05, 20.0);
const STEPS: usize = 100;

/// Weights of pathogenic and benign records under which the pathogenic share is `prior` and the sum is
/// the number of records.
pub fn weights(labels: &[bool], prior: f64) -> (f64, f64) {
    let n = labels.len() as f64;
    let positives = labels.iter().filter(|&&l| l).count() as f64;
    (prior * n / positives.max(1.0), (1.0 - prior) * n / (n - positives).max(1.0))
}

/// Fits by Newton's method with Platt's smoothed targets. `None` without both classes.
pub fn fit(logits: &[f64], labels: &[bool], prior: f64) -> Option<Platt> {
    newton(logits, labels, prior, true)
}

/// Fits the temperature alone (Guo et al. 2017); the offset is what turns the records' own share of pathogenic into
/// `prior`. `None` without both classes.
pub fn fit_temperature(logits: &[f64], labels: &[bool], prior: f64) -> Option<Platt> {
    newton(logits, labels, prior, false)
}

fn log_odds(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

fn newton(logits: &[f64], labels: &[bool], prior: f64, with_offset: bool) -> Option<Platt> {
    let positives = labels.iter().filter(|&&l| l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (w1, w0) = weights(labels, prior);
    let (t1, t0) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let loss = |slope: f64, offset: f64| -> f64 {
        let one = |(&z, &l): (&f64, &bool)| {
            let (w, t) = if l { (w1, t1) } else { (w0, t0) };
            let x = slope * z + offset;
            // ln(1 + e^x) − t·x, written so that neither end overflows.
            w * (x.max(0.0) + (-x.abs()).exp().ln_1p() - t * x)
        };
        logits.iter().zip(labels).map(one).sum()
    };
    let (mut slope, mut offset) =
        (1.0, if with_offset { 0.0 } else { log_odds(prior) - log_odds(positives / labels.len() as f64) });
    for _ in 0..STEPS {
        let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for (&z, &l) in logits.iter().zip(labels) {
            let (w, t) = if l { (w1, t1) } else { (w0, t0) };
            let p = probability(z, 1.0 / slope, offset);
            let (e, v) = (w * (p - t), w * p * (1.0 - p));
            g = [g[0] + e * z, g[1] + e];
            h = [h[0] + v * z * z, h[1] + v * z, h[2] + v];
        }
        if !with_offset {
            // As if the offset's column were not there.
            (g[1], h[1], h[2]) = (0.0, 0.0, 1.0);
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        if determinant.abs() < 1e-18 {
            break;
        }
        let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        let now = loss(slope, offset);
        let mut size = 1.0;
        while size > 1e-6
            && loss((slope - size * step[0]).clamp(SLOPE.0, SLOPE.1), offset - size * step[1]) > now
        {
            size /= 2.0;
        }
        let next = ((slope - size * step[0]).clamp(SLOPE.0, SLOPE.1), offset - size * step[1]);
        let moved = (next.0 - slope).abs() + (next.1 - offset).abs();
        (slope, offset) = next;
        if moved < 1e-10 {
            break;
        }
    }
    Some(Platt { temperature: 1.0 / slope, offset })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Logits whose true probability is sigmoid(z / 2 + 0.3).
    fn drawn(n: usize) -> (Vec<f64>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        (0..n)
            .map(|_| {
                let z = rng.random_range(-6.0..6.0);
                (z, rng.random_bool(probability(z, 2.0, 0.3)))
            })
            .unzip()
    }

    #[test]
    fn a_known_temperature_and_offset_are_found_again() {
        let (z, l) = drawn(20_000);
        let share = l.iter().filter(|&&l| l).count() as f64 / 20_000.0;
        let fitted = fit(&z, &l, share).unwrap();
        assert!((fitted.temperature - 2.0).abs() < 0.1 && (fitted.offset - 0.3).abs() < 0.1, "{fitted:?}");
    }

    #[test]
    fn a_temperature_alone_is_found_again_and_keeps_the_offset_of_the_prior() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (z, l): (Vec<f64>, Vec<bool>) = (0..20_000)
            .map(|_| {
                let z = rng.random_range(-6.0..6.0);
                (z, rng.random_bool(probability(z, 2.0, 0.0)))
            })
            .unzip();
        let share = l.iter().filter(|&&l| l).count() as f64 / 20_000.0;
        let fitted = fit_temperature(&z, &l, share).unwrap();
        assert!((fitted.temperature - 2.0).abs() < 0.1 && fitted.offset == 0.0, "{fitted:?}");
        let rare = fit_temperature(&z, &l, 0.1).unwrap();
        assert!((rare.offset - (log_odds(0.1) - log_odds(share))).abs() < 1e-12);
    }

    #[test]
    fn another_prior_moves_the_offset_by_the_difference_of_the_log_odds() {
        let (z, l) = drawn(20_000);
        let share = l.iter().filter(|&&l| l).count() as f64 / 20_000.0;
        let (same, rare) = (fit(&z, &l, share).unwrap(), fit(&z, &l, 0.1).unwrap());
        let moved = rare.offset - same.offset;
        assert!((moved - (log_odds(0.1) - log_odds(share))).abs() < 0.15, "{moved}");
    }

    #[test]
    fn classes_that_do_not_overlap_give_finite_figures_and_one_class_none() {
        let fitted = fit(&[-3.0, -2.0, 2.0, 3.0], &[false, false, true, true], 0.5).unwrap();
        assert!(fitted.temperature > 0.0 && fitted.temperature.is_finite() && fitted.offset.is_finite());
        assert!(fitted.probability(3.0) > fitted.probability(-3.0));
        assert_eq!(fit(&[1.0], &[true], 0.5), None);
    }
}
