//! What one input mode does on one split.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CalibrationReport, Estimate, estimate};
use crate::{
    calibrate::BINS,
    metrics::{Confusion, aupr, auroc, brier, ece, pr_curve, roc_curve},
};

/// Above this probability a variant counts as called pathogenic.
const THRESHOLD: f64 = 0.5;
/// Most points of a curve that a report keeps.
const POINTS: usize = 300;
/// Steps of the histogram of probabilities.
const STEPS: usize = 20;
/// Fewer records of either class than this say nothing about a group's AUROC.
const MIN_CLASS: usize = 5;

/// One scored record.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Unit of resampling.
    pub gene: String,
    /// Sequence Ontology terms.
    pub consequence: String,
    /// Review stars.
    pub stars: String,
    /// The truth.
    pub pathogenic: bool,
    /// The model's output.
    pub logit: f64,
    /// The model's probability, before any abstention.
    pub probability: f64,
    /// Whether the model gave a label: it did not abstain and was not uncertain.
    pub answered: bool,
    /// Scores of the baselines, in the order of their names; empty where unknown.
    pub floors: Vec<f64>,
}

/// Figures of a group of records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Records.
    pub records: usize,
    /// Of these, pathogenic.
    pub pathogenic: usize,
    /// Genes.
    pub genes: usize,
    /// Of [`NAMES`], those that exist.
    pub figures: BTreeMap<String, Estimate>,
    /// AUROC of each baseline, on the records it has a score for.
    pub floors: BTreeMap<String, Estimate>,
    /// The model's AUROC minus the baseline's, on the same records and resamples.
    pub above_floor: BTreeMap<String, Estimate>,
}

/// Figures of one input mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModeReport {
    /// Every record.
    pub overall: Group,
    /// Missense records.
    pub missense: Group,
    /// By Sequence Ontology terms.
    pub by_consequence: BTreeMap<String, Group>,
    /// By review stars.
    pub by_stars: BTreeMap<String, Group>,
    /// AUROC by gene, where both classes have 5 records or more.
    pub by_gene: BTreeMap<String, f64>,
    /// Mean of `by_gene`.
    pub gene_macro_auroc: Option<f64>,
    /// AUROC of missense records by gene, as in `by_gene`.
    pub missense_by_gene: BTreeMap<String, f64>,
    /// What the missense AUROC is made of; `None` without both classes.
    pub missense_pairs: Option<PairSplit>,
    /// Share of records that got a label.
    pub answered_share: f64,
    /// Accuracy of these labels.
    pub answered_accuracy: Option<f64>,
    /// Calls at a probability of one half against truth.
    pub confusion: Confusion,
    /// Curves for pictures.
    pub curves: Curves,
    /// How far probabilities are from what happens; `None` without both classes.
    pub calibration: Option<CalibrationReport>,
}

/// Curves of all records, thinned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// (1 − specificity, sensitivity).
    pub roc: Vec<(f64, f64)>,
    /// (recall, precision).
    pub precision_recall: Vec<(f64, f64)>,
    /// Benign and pathogenic records in each of 20 steps of probability.
    pub probabilities: Vec<[u64; 2]>,
}

impl Curves {
    /// Of probabilities and truth.
    pub fn of(p: &[f64], labels: &[bool]) -> Self {
        let mut probabilities = vec![[0; 2]; STEPS];
        for (p, &l) in p.iter().zip(labels) {
            probabilities[((p * STEPS as f64) as usize).min(STEPS - 1)][usize::from(l)] += 1;
        }
        let (roc, precision_recall) = (thin(roc_curve(p, labels)), thin(pr_curve(p, labels)));
        Self { roc, precision_recall, probabilities }
    }
}

/// Every so many points, and the last; to five digits.
fn thin(curve: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = curve.len().div_ceil(POINTS).max(1);
    let last = curve.len().saturating_sub(1);
    let kept = curve.into_iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last);
    let short = |v: f64| (v * 1e5).round() / 1e5;
    kept.map(|(_, (x, y))| (short(x), short(y))).collect()
}

/// AUROC over some of the pairs of a pathogenic and a benign record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairFigure {
    /// Such pairs.
    pub pairs: u64,
    /// Share of them in the right order, ties counted half; `None` without a pair.
    pub auroc: Option<f64>,
}

/// The pairs behind an AUROC, by whether both records lie in one gene: only within a gene does the order say
/// something about the variants; between genes, knowing which genes are often hit is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSplit {
    /// Both in one gene.
    pub within: PairFigure,
    /// In two genes.
    pub between: PairFigure,
}

impl PairSplit {
    fn of(records: &[&Scored]) -> Option<Self> {
        let mut genes: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
        for r in records {
            genes.entry(&r.gene).or_default().push(r);
        }
        let (all, all_right) = pairs(records);
        let (within, right) = genes
            .values()
            .map(|g| pairs(g))
            .fold((0, 0.0), |(n, right), (more, right_too)| (n + more, right + right_too));
        let figure =
            |pairs: u64, right: f64| PairFigure { pairs, auroc: (pairs > 0).then(|| right / pairs as f64) };
        (all > 0)
            .then(|| Self { within: figure(within, right), between: figure(all - within, all_right - right) })
    }
}

/// Pairs of a pathogenic and a benign record, and how many of them are in the right order.
fn pairs(records: &[&Scored]) -> (u64, f64) {
    let positives = records.iter().filter(|r| r.pathogenic).count();
    let pairs = (positives * (records.len() - positives)) as u64;
    (pairs, own_auroc(records).map_or(0.0, |auroc| auroc * pairs as f64))
}

fn own_auroc(records: &[&Scored]) -> Option<f64> {
    let (p, l): (Vec<f64>, Vec<bool>) = records.iter().map(|r| (r.probability, r.pathogenic)).unzip();
    auroc(&p, &l)
}

/// AUROC of every gene with [`MIN_CLASS`] records or more of both classes.
fn by_gene(records: &[&Scored]) -> BTreeMap<String, f64> {
    let mut genes: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    for r in records {
        genes.entry(&r.gene).or_default().push(r);
    }
    let enough = |records: &[&Scored]| {
        let positives = records.iter().filter(|r| r.pathogenic).count();
        positives.min(records.len() - positives) >= MIN_CLASS
    };
    let known = genes.into_iter().filter(|(_, r)| enough(r));
    known.filter_map(|(gene, r)| Some((gene.to_owned(), own_auroc(&r)?))).collect()
}

/// Figures of a group.
pub const NAMES: [&str; 12] = [
    "auroc",
    "aupr",
    "mcc",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "accuracy",
    "ece",
    "brier",
    "answered_share",
    "answered_accuracy",
];

fn group(records: &[&Scored], floors: &[String], resamples: usize, seed: u64) -> Group {
    let genes: Vec<&str> = records.iter().map(|r| r.gene.as_str()).collect();
    let share = |indices: &[usize], is: fn(&Scored) -> bool| {
        let so = indices.iter().filter(|&&i| is(records[i])).count();
        (!indices.is_empty()).then(|| so as f64 / indices.len() as f64)
    };
    let figures = estimate(&genes, resamples, seed, |indices| {
        let p: Vec<f64> = indices.iter().map(|&i| records[i].probability).collect();
        let l: Vec<bool> = indices.iter().map(|&i| records[i].pathogenic).collect();
        let c = Confusion::at(&p, &l, THRESHOLD);
        vec![
            auroc(&p, &l),
            aupr(&p, &l),
            c.mcc(),
            c.sensitivity(),
            c.specificity(),
            c.precision(),
            c.f1(),
            c.accuracy(),
            ece(&p, &l, BINS),
            brier(&p, &l),
            share(indices, |r| r.answered),
            share(&indices.iter().copied().filter(|&i| records[i].answered).collect::<Vec<_>>(), |r| {
                (r.probability > THRESHOLD) == r.pathogenic
            }),
        ]
    });
    let mut all = Group {
        records: records.len(),
        pathogenic: records.iter().filter(|r| r.pathogenic).count(),
        genes: genes.iter().collect::<std::collections::BTreeSet<_>>().len(),
        figures: NAMES.iter().zip(figures).filter_map(|(n, e)| Some(((*n).to_owned(), e?))).collect(),
        ..Group::default()
    };
    for (k, name) in floors.iter().enumerate() {
        let known: Vec<&Scored> =
            records.iter().copied().filter(|r| r.floors.get(k).is_some_and(|f| f.is_finite())).collect();
        let genes: Vec<&str> = known.iter().map(|r| r.gene.as_str()).collect();
        let estimates = estimate(&genes, resamples, seed, |indices| {
            let l: Vec<bool> = indices.iter().map(|&i| known[i].pathogenic).collect();
            let of = |score: &dyn Fn(&Scored) -> f64| {
                auroc(&indices.iter().map(|&i| score(known[i])).collect::<Vec<_>>(), &l)
            };
            let (floor, model) = (of(&|r| r.floors[k]), of(&|r| r.probability));
            vec![floor, model.zip(floor).map(|(m, f)| m - f)]
        });
        all.floors.extend(estimates[0].map(|e| (name.clone(), e)));
        all.above_floor.extend(estimates[1].map(|e| (name.clone(), e)));
    }
    all
}

/// Describes a mode's scores; `floors` names the baselines.
pub fn describe(records: &[Scored], floors: &[String], resamples: usize, seed: u64) -> ModeReport {
    let every: Vec<&Scored> = records.iter().collect();
    let missense: Vec<&Scored> =
        records.iter().filter(|r| r.consequence.starts_with("missense_variant")).collect();
    let strata = |key: fn(&Scored) -> &str| -> BTreeMap<String, Group> {
        let mut groups: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
        for r in records {
            groups.entry(key(r)).or_default().push(r);
        }
        groups.iter().map(|(name, r)| ((*name).to_owned(), group(r, floors, resamples, seed))).collect()
    };
    let genes = by_gene(&every);
    let answered: Vec<&Scored> = records.iter().filter(|r| r.answered).collect();
    let right = answered.iter().filter(|r| (r.probability > THRESHOLD) == r.pathogenic).count();
    let (p, labels): (Vec<f64>, Vec<bool>) = records.iter().map(|r| (r.probability, r.pathogenic)).unzip();
    ModeReport {
        overall: group(&every, floors, resamples, seed),
        missense: group(&missense, floors, resamples, seed),
        by_consequence: strata(|r| &r.consequence),
        by_stars: strata(|r| &r.stars),
        gene_macro_auroc: (!genes.is_empty()).then(|| genes.values().sum::<f64>() / genes.len() as f64),
        by_gene: genes,
        missense_by_gene: by_gene(&missense),
        missense_pairs: PairSplit::of(&missense),
        answered_share: answered.len() as f64 / records.len().max(1) as f64,
        answered_accuracy: (!answered.is_empty()).then(|| right as f64 / answered.len() as f64),
        confusion: Confusion::at(&p, &labels, THRESHOLD),
        curves: Curves::of(&p, &labels),
        calibration: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(gene: &str, consequence: &str, pathogenic: bool, probability: f64) -> Scored {
        let answered = !(0.2..=0.8).contains(&probability);
        Scored {
            gene: gene.into(),
            consequence: consequence.into(),
            stars: "1".into(),
            pathogenic,
            logit: probability,
            probability,
            answered,
            floors: vec![f64::from(u8::from(pathogenic))],
        }
    }

    #[test]
    fn groups_hold_their_records_and_a_better_floor_is_said_to_be_better() {
        let records = [
            record("a", "missense_variant", true, 0.9),
            record("a", "missense_variant&splice_region_variant", false, 0.95),
            record("b", "synonymous_variant", false, 0.1),
            record("b", "stop_gained", true, 0.7),
        ];
        let report = describe(&records, &["oracle".into()], 100, 1);
        assert_eq!((report.overall.records, report.missense.records, report.by_consequence.len()), (4, 2, 4));
        assert_eq!(
            (report.overall.figures["auroc"].value, report.overall.floors["oracle"].value),
            (0.5, 1.0)
        );
        assert_eq!(report.overall.above_floor["oracle"].value, -0.5);
        assert_eq!(report.overall.figures["accuracy"].value, 0.75);
        assert_eq!((report.answered_share, report.answered_accuracy), (0.75, Some(2.0 / 3.0)));
        assert!(report.by_gene.is_empty() && report.gene_macro_auroc.is_none());
    }

    #[test]
    fn missense_pairs_are_told_apart_by_gene() {
        // Within `a` one of two is right, within `b` the tie counts half.
        let records = [
            record("a", "missense_variant", true, 0.9),
            record("a", "missense_variant", true, 0.7),
            record("a", "missense_variant", false, 0.8),
            record("b", "missense_variant", false, 0.2),
            record("b", "missense_variant", true, 0.2),
            record("b", "synonymous_variant", true, 0.0),
        ];
        let split = describe(&records, &[], 10, 1).missense_pairs.unwrap();
        assert_eq!(split.within, PairFigure { pairs: 3, auroc: Some(0.5) });
        // 0.9 and 0.7 over 0.2; 0.2 under 0.8.
        assert_eq!(split.between.pairs, 3);
        assert!((split.between.auroc.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(describe(&records[5..], &[], 10, 1).missense_pairs, None);
    }

    #[test]
    fn missense_is_counted_by_gene_where_both_classes_are_many() {
        let mut records = Vec::new();
        for i in 0..5 {
            records.push(record("a", "missense_variant", true, 0.5 + f64::from(i) / 100.0));
            records.push(record("a", "missense_variant", false, 0.4));
            records.push(record("a", "stop_gained", true, 0.1));
            records.push(record("b", "missense_variant", true, 0.9));
        }
        let report = describe(&records, &[], 10, 1);
        assert_eq!(report.missense_by_gene, BTreeMap::from([("a".to_owned(), 1.0)]));
        assert_eq!(report.by_gene["a"], 0.5);
    }

    #[test]
    fn an_empty_split_is_described_not_divided_by() {
        let report = describe(&[], &[], 10, 1);
        assert_eq!((report.overall.records, report.answered_share, report.answered_accuracy), (0, 0.0, None));
    }
}
