//! How far a mode's probabilities are from what happens, under the prior that they name and under another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Scored;
use crate::{
    calibrate::{BINS, CrossFit, LocalRatio, Method, Strength, compare, local_ratios, strengths},
    metrics::{Bin, Binning, brier, ece_of, log_loss, mce_of, reliability},
};

/// Pathogenic records and all records of each consequence, of the split that probabilities were fitted on.
pub type Shares = BTreeMap<String, (usize, usize)>;

/// How far probabilities are from what happens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Expected calibration error, 15 equal steps.
    pub ece: f64,
    /// The same with as many records in each bin.
    pub ece_equal_mass: f64,
    /// Largest error of an equal step.
    pub mce: f64,
    /// The reliability curve in equal steps.
    pub bins: Vec<Bin>,
}

impl Calibrated {
    pub(super) fn of(p: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Option<Self> {
        let bins = reliability(p, labels, weights, BINS, Binning::EqualWidth);
        Some(Self {
            ece: ece_of(&bins)?,
            ece_equal_mass: ece_of(&reliability(p, labels, weights, BINS, Binning::EqualMass))?,
            mce: mce_of(&bins)?,
            bins,
        })
    }
}

/// Records weighted so that each consequence has the share of pathogenic that it has in another split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reweighted {
    /// The other split.
    pub to: String,
    /// Its share of pathogenic, which the probabilities are moved to.
    pub prior: f64,
    /// By consequence: share here, share there; `None` where the other split has no such record, whose weight is 1.
    pub strata: BTreeMap<String, (f64, Option<f64>)>,
    /// The figures.
    pub calibrated: Calibrated,
}

/// Figures of a mode's probabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Share of pathogenic that the probabilities assume.
    pub prior: f64,
    /// Share of pathogenic among the records.
    pub share: f64,
    /// As they are.
    pub raw: Calibrated,
    /// Moved from the prior to the records' own share.
    pub at_share: Calibrated,
    /// Brier score at the records' own share.
    pub brier: f64,
    /// Mean negative log-likelihood at the records' own share, in nats.
    pub log_loss: f64,
    /// With the shares of the split that the probabilities were fitted on; `None` on that split itself.
    pub reweighted: Option<Reweighted>,
    /// Methods fitted on the other genes of these records; empty on a test split, on which nothing is fitted.
    pub cross_fitted: BTreeMap<Method, CrossFit>,
    /// Local likelihood ratios.
    pub local: Vec<LocalRatio>,
    /// Probabilities from which on a step of evidence is sure.
    pub strengths: Vec<Strength>,
}

/// A probability that assumes the share `from`, as it is where the share is `to`.
pub fn at_prior(probability: f64, from: f64, to: f64) -> f64 {
    let odds = |p: f64| p / (1.0 - p);
    if probability >= 1.0 {
        return 1.0;
    }
    let moved = odds(probability) * odds(to) / odds(from);
    if moved.is_finite() { moved / (1.0 + moved) } else { 1.0 }
}

/// Describes probabilities that assume `prior`. `other` names the split that they were fitted on, with its shares,
/// where the records are not of it. `None` without both classes.
pub fn calibration(
    records: &[Scored],
    prior: f64,
    other: Option<(&str, &Shares)>,
    fit: bool,
    resamples: usize,
    seed: u64,
) -> Option<CalibrationReport> {
    let labels: Vec<bool> = records.iter().map(|r| r.pathogenic).collect();
    let p: Vec<f64> = records.iter().map(|r| r.probability).collect();
    let genes: Vec<&str> = records.iter().map(|r| r.gene.as_str()).collect();
    let positives = labels.iter().filter(|&&l| l).count();
    if positives == 0 || positives == labels.len() {
        return None;
    }
    let share = positives as f64 / labels.len() as f64;
    let own: Vec<f64> = p.iter().map(|&p| at_prior(p, prior, share)).collect();
    let cross_fitted = if fit {
        compare(&records.iter().map(|r| r.logit).collect::<Vec<_>>(), &labels, &genes, share)
    } else {
        BTreeMap::new()
    };
    let local = local_ratios(&p, &labels, &genes, resamples, seed);
    Some(CalibrationReport {
        prior,
        share,
        raw: Calibrated::of(&p, &labels, None)?,
        at_share: Calibrated::of(&own, &labels, None)?,
        brier: brier(&own, &labels)?,
        log_loss: log_loss(&own, &labels)?,
        reweighted: other.and_then(|(to, shares)| reweighted(records, &p, prior, to, shares)),
        cross_fitted,
        strengths: strengths(&local),
        local,
    })
}

fn reweighted(records: &[Scored], p: &[f64], prior: f64, to: &str, shares: &Shares) -> Option<Reweighted> {
    let (positives, all) = shares.values().fold((0, 0), |s, v| (s.0 + v.0, s.1 + v.1));
    if positives == 0 || positives == all {
        return None;
    }
    let there = positives as f64 / all as f64;
    let mut own = Shares::new();
    for r in records {
        let counts = own.entry(r.consequence.clone()).or_default();
        counts.0 += usize::from(r.pathogenic);
        counts.1 += 1;
    }
    let share = |(positives, all): (usize, usize)| positives as f64 / all as f64;
    let strata: BTreeMap<String, (f64, Option<f64>)> = own
        .iter()
        .map(|(c, &counts)| (c.clone(), (share(counts), shares.get(c).map(|&s| share(s)))))
        .collect();
    let weight = |r: &Scored| match strata[&r.consequence] {
        (here, Some(there)) if r.pathogenic => there / here,
        (here, Some(there)) => (1.0 - there) / (1.0 - here),
        (_, None) => 1.0,
    };
    let weights: Vec<f64> = records.iter().map(weight).collect();
    let labels: Vec<bool> = records.iter().map(|r| r.pathogenic).collect();
    let moved: Vec<f64> = p.iter().map(|&p| at_prior(p, prior, there)).collect();
    let calibrated = Calibrated::of(&moved, &labels, Some(&weights))?;
    Some(Reweighted { to: to.into(), prior: there, strata, calibrated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(cells: &[(&str, f64, usize, usize)]) -> Vec<Scored> {
        let one = |consequence: &str, probability: f64, pathogenic: bool, i: usize| Scored {
            gene: format!("g{}", i % 7),
            consequence: consequence.into(),
            stars: "1".into(),
            pathogenic,
            logit: (probability / (1.0 - probability)).ln(),
            probability,
            answered: true,
            floors: Vec::new(),
        };
        let cell = |&(c, p, hits, misses): &(&str, f64, usize, usize)| {
            (0..hits + misses).map(move |i| one(c, p, i < hits, i)).collect::<Vec<_>>()
        };
        cells.iter().flat_map(cell).collect()
    }

    #[test]
    fn a_probability_moves_with_its_prior_and_back() {
        assert!((at_prior(0.5, 0.5, 0.2) - 0.2).abs() < 1e-12);
        assert!((at_prior(at_prior(0.7, 0.35, 0.1), 0.1, 0.35) - 0.7).abs() < 1e-12);
        assert_eq!((at_prior(1.0, 0.3, 0.6), at_prior(0.0, 0.3, 0.6)), (1.0, 0.0));
    }

    #[test]
    fn what_differs_only_by_the_shares_of_its_strata_is_calibrated_after_reweighting() {
        // Where it was fitted: missense 40 of 100, others 10 of 300; overall 50 of 400.
        let shares = Shares::from([("missense".into(), (40, 100)), ("other".into(), (10, 300))]);
        // Here twice as many missense records are pathogenic.
        let here = records(&[("missense", 0.4, 80, 20), ("other", 10.0 / 300.0, 10, 290)]);
        let report = calibration(&here, 50.0 / 400.0, Some(("val", &shares)), false, 20, 1).unwrap();
        assert!((report.raw.ece - 0.4 * 100.0 / 400.0).abs() < 1e-9, "{}", report.raw.ece);
        let reweighted = report.reweighted.unwrap();
        assert!(reweighted.calibrated.ece < 1e-9, "{}", reweighted.calibrated.ece);
        assert_eq!(reweighted.strata["missense"], (0.8, Some(0.4)));
        assert!(report.cross_fitted.is_empty());
    }

    #[test]
    fn the_prior_alone_is_no_error_at_the_records_own_share() {
        // Right at a prior of one half, seen where a fifth is pathogenic.
        let odds = 0.25;
        let p = |q: f64| q / odds / (1.0 - q + q / odds);
        let here = records(&[("a", p(0.1), 20, 180), ("b", p(0.3), 60, 140)]);
        let report = calibration(&here, 0.5, None, true, 20, 1).unwrap();
        assert!(report.raw.ece > 0.1 && report.at_share.ece < 1e-9, "{report:?}");
        assert!(report.cross_fitted.len() == 3 && report.reweighted.is_none());
        assert!(calibration(&here[..5], 0.5, None, true, 20, 1).is_none());
    }
}
