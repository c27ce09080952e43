//! What one input mode does on one split.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Estimate, estimate};
use crate::metrics::{Confusion, aupr, auroc, ece};

/// Above this probability a variant counts as called pathogenic.
const THRESHOLD: f64 = 0.5;
const ECE_BINS: usize = 15;
/// Fewer records of either class than this say nothing about a group's AUROC.
const MIN_CLASS: usize = 5;

/// One scored record.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Unit of resampling.
    pub gene: String,
    /// Sequence Ontology terms.
    pub consequence: String,
    /// The truth.
    pub pathogenic: bool,
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
    /// auroc, aupr, mcc, sensitivity, specificity, accuracy, ece; those that exist.
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
    /// AUROC by gene, where both classes have 5 records or more.
    pub by_gene: BTreeMap<String, f64>,
    /// Mean of `by_gene`.
    pub gene_macro_auroc: Option<f64>,
    /// Share of records that got a label.
    pub answered_share: f64,
    /// Accuracy of these labels.
    pub answered_accuracy: Option<f64>,
}

const NAMES: [&str; 7] = ["auroc", "aupr", "mcc", "sensitivity", "specificity", "accuracy", "ece"];

fn group(records: &[&Scored], floors: &[String], resamples: usize, seed: u64) -> Group {
    let genes: Vec<&str> = records.iter().map(|r| r.gene.as_str()).collect();
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
            c.accuracy(),
            ece(&p, &l, ECE_BINS),
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
    let mut by_consequence: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    let mut by_gene: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    for r in records {
        by_consequence.entry(&r.consequence).or_default().push(r);
        by_gene.entry(&r.gene).or_default().push(r);
    }
    let gene_auroc = |records: &[&Scored]| {
        let positives = records.iter().filter(|r| r.pathogenic).count();
        if positives.min(records.len() - positives) < MIN_CLASS {
            return None;
        }
        let (p, l): (Vec<f64>, Vec<bool>) = records.iter().map(|r| (r.probability, r.pathogenic)).unzip();
        auroc(&p, &l)
    };
    let by_gene: BTreeMap<String, f64> =
        by_gene.iter().filter_map(|(g, r)| Some(((*g).to_owned(), gene_auroc(r)?))).collect();
    let answered: Vec<&Scored> = records.iter().filter(|r| r.answered).collect();
    let right = answered.iter().filter(|r| (r.probability > THRESHOLD) == r.pathogenic).count();
    ModeReport {
        overall: group(&every, floors, resamples, seed),
        missense: group(&missense, floors, resamples, seed),
        by_consequence: by_consequence
            .iter()
            .map(|(c, r)| ((*c).to_owned(), group(r, &[], 0, seed)))
            .collect(),
        gene_macro_auroc: (!by_gene.is_empty()).then(|| by_gene.values().sum::<f64>() / by_gene.len() as f64),
        by_gene,
        answered_share: answered.len() as f64 / records.len().max(1) as f64,
        answered_accuracy: (!answered.is_empty()).then(|| right as f64 / answered.len() as f64),
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
            pathogenic,
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
    fn an_empty_split_is_described_not_divided_by() {
        let report = describe(&[], &[], 10, 1);
        assert_eq!((report.overall.records, report.answered_share, report.answered_accuracy), (0, 0.0, None));
    }
}
