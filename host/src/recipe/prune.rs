//! `[prune]`: what is taken out of a fine-tuned model, and what that may cost.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::wrong;
use crate::{Result, distill::DistillPlan, prune::Scope, train::TrainPlan};

/// `[prune]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePlan {
    /// Bundle or output folder whose model is pruned, relative to the working folder; the chain then neither pretrains
    /// nor fine-tunes one. Without it the fine-tuned model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Training records that importance is summed over.
    #[serde(default = "records")]
    pub records: usize,
    /// What is gone after each step; every step goes on from the one before.
    #[serde(default)]
    pub steps: Vec<Shares>,
    /// Weights that are set to zero instead, from the unpruned model on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<MagnitudePlan>,
    /// AUROC that may be lost on `val_select`.
    #[serde(default = "budget")]
    pub budget: f64,
    /// AUROC of missense variants that may be lost there; any where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missense_budget: Option<f64>,
    /// Passes over the training records after each step.
    pub epochs: u64,
    /// Validations per epoch.
    #[serde(default = "validations")]
    pub validations: u64,
    /// Models that are learnt from beside the labels; the unpruned one where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillPlan>,
    /// How parameters are moved; a row is a pair.
    pub train: TrainPlan,
    /// Answers that each graph is timed on.
    #[serde(default = "timed")]
    pub timed: usize,
}

/// Parts of a whole model that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Of all attention heads.
    pub heads: f64,
    /// Of all columns of the feed-forward layers.
    pub ffn: f64,
}

/// `[prune.magnitude]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MagnitudePlan {
    /// Shares of the weights that are zero after each step.
    pub shares: Vec<f64>,
    /// Among which weights the smallest are looked for.
    #[serde(default)]
    pub scope: Scope,
}

const fn records() -> usize {
    1024
}

const fn budget() -> f64 {
    0.005
}

const fn validations() -> u64 {
    2
}

const fn timed() -> usize {
    400
}

impl PrunePlan {
    pub(super) fn check(&self) -> Result<()> {
        for (key, count) in [
            ("prune.records", self.records),
            ("prune.timed", self.timed),
            ("prune.epochs", self.epochs as usize),
            ("prune.validations", self.validations as usize),
        ] {
            if count == 0 {
                return wrong(key, 0, "1 or more");
            }
        }
        let zeros = self.magnitude.as_ref().map_or(&[][..], |m| &m.shares);
        if self.steps.is_empty() && zeros.is_empty() {
            return wrong("prune.steps", "none", "one step or more, or prune.magnitude.shares");
        }
        let of = |share: fn(&Shares) -> f64| self.steps.iter().map(share).collect::<Vec<_>>();
        for (key, shares) in [
            ("prune.steps.heads", of(|s| s.heads)),
            ("prune.steps.ffn", of(|s| s.ffn)),
            ("prune.magnitude.shares", zeros.to_vec()),
        ] {
            let good =
                shares.iter().all(|s| (0.0..1.0).contains(s)) && shares.windows(2).all(|s| s[0] <= s[1]);
            if !good {
                return wrong(
                    key,
                    format!("{shares:?}"),
                    "shares from 0 to under 1, none less than the one before",
                );
            }
        }
        for (key, budget) in
            [("prune.budget", Some(self.budget)), ("prune.missense_budget", self.missense_budget)]
        {
            if let Some(budget) = budget.filter(|b| !(0.0..=1.0).contains(b)) {
                return wrong(key, budget, "a share from 0 to 1");
            }
        }
        if let Some(d) = self.distill.as_ref().filter(|d| !(d.share > 0.0 && d.share <= 1.0)) {
            return wrong("prune.distill.share", d.share, "a share over 0, to 1");
        }
        self.train.check("prune.train")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "epochs = 1\nsteps = [{ heads = 0.25, ffn = 0.5 }, { heads = 0.5, ffn = 0.5 }]\n[train]\n\
        batch = 8\nlearning_rate = 1e-3\nwarmup = 1\nweight_decay = 0.0\nclip = 1.0\n";

    #[test]
    fn what_cannot_be_pruned_is_named_by_its_key() {
        let checked = |text: &str| {
            toml::from_str::<PrunePlan>(text)
                .map_err(|e| e.to_string())
                .and_then(|plan| plan.check().map_err(|e| e.to_string()))
        };
        assert_eq!(checked(GOOD), Ok(()));
        for (line, instead, named) in [
            ("epochs = 1", "epochs = 0", "prune.epochs"),
            ("heads = 0.5", "heads = 0.1", "prune.steps.heads"),
            ("ffn = 0.5 }]", "ffn = 1.0 }]", "prune.steps.ffn"),
            ("epochs = 1", "epochs = 1\nbudget = 2.0", "prune.budget"),
            ("epochs = 1", "epochs = 1\nrecords = 0", "prune.records"),
            ("epochs = 1", "epochs = 1\nmagnitude = { shares = [0.9, 0.5] }", "prune.magnitude.shares"),
            ("epochs = 1", "epochs = 1\ndistill = { share = 0.0 }", "prune.distill.share"),
            ("epochs = 1", "epochs = 1\nspeed = 1", "speed"),
            ("batch = 8", "batch = 0", "prune.train.batch"),
        ] {
            let text = GOOD.replacen(line, instead, 1);
            assert!(
                text != GOOD && checked(&text).unwrap_err().contains(named),
                "{instead}: {:?}",
                checked(&text)
            );
        }
    }
}
