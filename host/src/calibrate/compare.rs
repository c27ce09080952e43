//! Which calibration is the better one, on genes that it was not fitted on.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{fit, fit_temperature, isotonic, weights};
use crate::{
    data::prepare::hash,
    metrics::{Binning, ece_of, reliability},
};

/// Parts that the genes are dealt into.
const FOLDS: u64 = 10;
/// Bins of the calibration error.
pub(crate) const BINS: usize = 15;

/// How a logit becomes a probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Temperature and offset (Platt 1999).
    #[default]
    Platt,
    /// Temperature, and the offset that the prior asks for (Guo et al. 2017).
    Temperature,
    /// Rising steps (Zadrozny & Elkan 2002): compared, not shipped.
    Isotonic,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Platt, Self::Temperature, Self::Isotonic];
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Platt => "platt",
            Self::Temperature => "temperature",
            Self::Isotonic => "isotonic",
        })
    }
}

/// Figures of a method on records of genes that it was not fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossFit {
    /// Expected calibration error, 15 equal steps.
    pub ece: f64,
    /// The same with as many records in each bin.
    pub ece_equal_mass: f64,
    /// Mean negative log-likelihood, in nats.
    pub log_loss: f64,
    /// Mean squared distance.
    pub brier: f64,
}

/// Probabilities of each record by a calibration that was fitted on the other genes, with the classes weighted to
/// `prior`. `None` where a part cannot be fitted.
pub fn cross_fitted(
    logits: &[f64],
    labels: &[bool],
    genes: &[&str],
    prior: f64,
    method: Method,
) -> Option<Vec<f64>> {
    let fold: Vec<u64> = genes.iter().map(|g| hash(FOLDS, g) % FOLDS).collect();
    let mut out = vec![f64::NAN; logits.len()];
    for held in 0..FOLDS {
        let (z, l): (Vec<f64>, Vec<bool>) =
            (0..logits.len()).filter(|&i| fold[i] != held).map(|i| (logits[i], labels[i])).unzip();
        let own = (0..logits.len()).filter(|&i| fold[i] == held).collect::<Vec<_>>();
        if own.is_empty() {
            continue;
        }
        let probability = fitted(&z, &l, prior, method)?;
        own.into_iter().for_each(|i| out[i] = probability(logits[i]));
    }
    Some(out)
}

fn fitted(logits: &[f64], labels: &[bool], prior: f64, method: Method) -> Option<Box<dyn Fn(f64) -> f64>> {
    Some(match method {
        Method::Platt => {
            let platt = fit(logits, labels, prior)?;
            Box::new(move |z| platt.probability(z))
        }
        Method::Temperature => {
            let platt = fit_temperature(logits, labels, prior)?;
            Box::new(move |z| platt.probability(z))
        }
        Method::Isotonic => {
            let steps = isotonic(logits, labels, weights(labels, prior))?;
            Box::new(move |z| steps.probability(z))
        }
    })
}

/// Every method, cross-fitted; the records are weighted to `prior`, as the probabilities are.
pub fn compare(logits: &[f64], labels: &[bool], genes: &[&str], prior: f64) -> BTreeMap<Method, CrossFit> {
    let (w1, w0) = weights(labels, prior);
    let weight: Vec<f64> = labels.iter().map(|&l| if l { w1 } else { w0 }).collect();
    let n: f64 = weight.iter().sum();
    let figures = |method| {
        let p = cross_fitted(logits, labels, genes, prior, method)?;
        let ece = |binning| ece_of(&reliability(&p, labels, Some(&weight), BINS, binning));
        let mean = |loss: &dyn Fn(f64) -> f64| {
            let right = p.iter().zip(labels).map(|(&p, &l)| if l { p } else { 1.0 - p });
            right.zip(&weight).map(|(p, w)| w * loss(p)).sum::<f64>() / n
        };
        Some(CrossFit {
            ece: ece(Binning::EqualWidth)?,
            ece_equal_mass: ece(Binning::EqualMass)?,
            log_loss: mean(&|p| -p.max(f64::EPSILON).ln()),
            brier: mean(&|p| (1.0 - p).powi(2)),
        })
    };
    Method::ALL.into_iter().filter_map(|m| Some((m, figures(m)?))).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Logits of 60 genes whose true probability is `of` them.
    fn drawn(of: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>, Vec<String>) {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut all = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..6_000 {
            let z = rng.random_range(-4.0..4.0);
            all.0.push(z);
            all.1.push(rng.random_bool(of(z)));
            all.2.push(format!("gene{}", i % 60));
        }
        all
    }

    fn compared(of: impl Fn(f64) -> f64) -> BTreeMap<Method, CrossFit> {
        let (z, l, g) = drawn(of);
        let share = l.iter().filter(|&&l| l).count() as f64 / l.len() as f64;
        compare(&z, &l, &g.iter().map(String::as_str).collect::<Vec<_>>(), share)
    }

    #[test]
    fn a_sigmoid_is_best_fitted_by_one_and_steps_by_steps() {
        let smooth = compared(|z| 1.0 / (1.0 + (-2.0 * z - 1.0).exp()));
        assert!(
            smooth[&Method::Platt].ece < 0.03
                && smooth[&Method::Platt].log_loss < smooth[&Method::Isotonic].log_loss
        );
        assert!(smooth[&Method::Temperature].log_loss > smooth[&Method::Platt].log_loss + 0.01);
        let steps = compared(|z| {
            if z < -1.0 {
                0.02
            } else if z < 2.0 {
                0.5
            } else {
                0.9
            }
        });
        assert!(steps[&Method::Isotonic].log_loss < steps[&Method::Platt].log_loss - 0.01);
    }

    #[test]
    fn a_gene_never_judges_itself() {
        // One gene is the other way round: fitted without it, its probabilities are wrong.
        let (z, mut l, g) = drawn(|z| 1.0 / (1.0 + (-3.0 * z).exp()));
        l.iter_mut().zip(&g).filter(|(_, g)| *g == "gene7").for_each(|(l, _)| *l = !*l);
        let genes: Vec<&str> = g.iter().map(String::as_str).collect();
        let p = cross_fitted(&z, &l, &genes, 0.5, Method::Platt).unwrap();
        let right = |own: bool| {
            let of: Vec<bool> =
                (0..p.len()).filter(|&i| (g[i] == "gene7") == own).map(|i| (p[i] > 0.5) == l[i]).collect();
            of.iter().filter(|&&r| r).count() as f64 / of.len() as f64
        };
        assert!(right(true) < 0.3 && right(false) > 0.8);
        assert_eq!(cross_fitted(&[1.0, 2.0], &[true, true], &["a", "b"], 0.5, Method::Platt), None);
    }
}
