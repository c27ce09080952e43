//! What each step of pruning left, and which one is kept.

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::{model::LayerSize, recipe::Shares};

/// What was done in a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing: the model that is pruned.
    Unpruned,
    /// Heads and columns are gone.
    Structured(Shares),
    /// Weights are zero.
    Magnitude {
        /// How many of them.
        share: f64,
        /// Among which the smallest were looked for.
        scope: Scope,
    },
}

/// AUROC with transcript.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Of all variants.
    pub auroc: f64,
    /// Of missense variants, where there are both classes.
    pub missense_auroc: Option<f64>,
}

/// A median and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// A quarter lies below.
    pub low: f64,
    /// Half lies below.
    pub median: f64,
    /// Three quarters lie below.
    pub high: f64,
}

impl Spread {
    /// Of some numbers; `None` of none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values.get((values.len().checked_sub(1)? * share + 2) / 4).copied();
        Some(Self { low: at(1)?, median: at(2)?, high: at(3)? })
    }
}

/// A model and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its folder below `prune`.
    pub name: String,
    /// What was done.
    pub kind: Kind,
    /// What its layers have.
    pub layers: Vec<LayerSize>,
    /// Numbers in its graph, and how many of them are not zero.
    pub parameters: [usize; 2],
    /// Bytes of its graph in float32, as it is and deflated.
    pub bytes: [usize; 2],
    /// On `val_select` before it was trained again.
    pub untuned: Option<Figures>,
    /// On `val_select`, by which the best checkpoint and the step are chosen.
    pub val_select: Figures,
    /// On both halves of validation.
    pub validation: Figures,
    /// Largest difference of a logit between graph and checkpoint.
    pub parity: f64,
    /// Microseconds of one answer: one variant, one thread.
    pub latency: Spread,
    /// Of the unpruned graph's in the same round.
    pub ratio: Spread,
}

/// What may be lost against the unpruned model on `val_select`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// AUROC.
    pub auroc: f64,
    /// AUROC of missense variants; any where it is not said.
    pub missense_auroc: Option<f64>,
}

/// `prune.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Training records that importance was summed over.
    pub records: usize,
    /// Records of `val_select` and of all validation.
    pub validation: [usize; 2],
    /// What ran the graphs.
    pub provider: String,
    /// Tokens of the row that was timed, padding included, and how often.
    pub timed: [usize; 2],
    /// What may be lost.
    pub budget: Budgets,
    /// The unpruned model first.
    pub steps: Vec<Step>,
    /// Name of the step that is kept.
    pub kept: String,
}

impl Step {
    /// AUROC that is lost against another one, of all variants and of missense ones, on `val_select`.
    pub fn loss(&self, unpruned: &Self) -> [f64; 2] {
        let missense = |s: &Self| s.val_select.missense_auroc.unwrap_or(0.0);
        [unpruned.val_select.auroc - self.val_select.auroc, missense(unpruned) - missense(self)]
    }
}

impl Budgets {
    /// The fastest step whose loss is within the budgets; the unpruned one, which is the first, where no other is. Zeros
    /// make no dense kernel faster, so that steps of that kind are not chosen: what they seem to gain is noise.
    pub fn choose<'a>(&self, steps: &'a [Step]) -> Option<&'a Step> {
        let unpruned = steps.first()?;
        let within = |s: &&Step| {
            let [all, missense] = s.loss(unpruned);
            let structured = matches!(s.kind, Kind::Structured(_));
            structured && all <= self.auroc && self.missense_auroc.is_none_or(|budget| missense <= budget)
        };
        let faster = steps.iter().filter(within).filter(|s| s.ratio.median < 1.0);
        faster.min_by(|a, b| a.ratio.median.total_cmp(&b.ratio.median)).or(Some(unpruned))
    }
}
