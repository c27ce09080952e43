//! What a stage that trains may be told: the table `[pretrain.train]` or `[finetune.train]`.

use serde::{Deserialize, Serialize};

use super::Precision;
use crate::{Error, Result, model::Params};

/// How parameters are moved, and which are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// Rows (windows, pairs or sequences) per step, of all micro-batches and ranks together.
    pub batch: usize,
    /// Micro-batches that a step's rows are run in; more of them need less memory.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps of warm-up; a quarter of the run at most.
    pub warmup: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm.
    pub clip: f64,
    /// Learning rate of a layer as a share of that of the layer above it; embeddings count as the lowest layer.
    #[serde(default = "whole")]
    pub layer_decay: f64,
    /// Tensors that stay as they are: names, or beginnings of names up to a dot.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Freezes the embeddings and so many of the lowest layers.
    #[serde(default)]
    pub freeze_layers: Option<usize>,
    /// Validation figure that checkpoints are chosen by, where not the stage's own.
    #[serde(default)]
    pub metric: Option<Metric>,
    /// Validations in a row without a better one after which training stops; 0 = it never stops early.
    #[serde(default)]
    pub patience: u64,
    /// In what the layers are computed. BF16 and FP16 need a GPU.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
    /// Validates and keeps a running mean of the weights: of the mean so much stays at each step, less in the first
    /// steps (Polyak & Juditsky 1992; Tarvainen & Valpola 2017). 0 = the weights themselves.
    #[serde(default, skip_serializing_if = "is_none")]
    pub average: f64,
    /// Keeps only the input of each layer for the backward pass and runs the layer again (Chen et al. 2016).
    /// The result is the same, so it is no part of the recipe's digest.
    #[serde(default, skip_serializing)]
    pub checkpoint_activations: bool,
    /// Writes TensorBoard event files beside the log.
    #[serde(default, skip_serializing)]
    pub tensorboard: bool,
}

const fn one() -> usize {
    1
}

fn is_none(share: &f64) -> bool {
    *share == 0.0
}

const fn whole() -> f64 {
    1.0
}

/// A validation figure to choose checkpoints by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name among the figures of a validation.
    pub name: String,
    /// Which way is better.
    pub better: Better,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Accuracy, AUROC, correlation.
    Higher,
    /// Loss, error, bits per base.
    Lower,
}

impl Metric {
    /// A figure of which more is better.
    pub fn higher(name: &str) -> Self {
        Self { name: name.to_owned(), better: Better::Higher }
    }

    /// A figure of which less is better.
    pub fn lower(name: &str) -> Self {
        Self { name: name.to_owned(), better: Better::Lower }
    }

    /// Whether `now` is better than the best so far; what is not a number never is.
    pub fn improves(&self, now: f64, best: Option<f64>) -> bool {
        match (self.better, best) {
            (_, None) => !now.is_nan(),
            (Better::Higher, Some(best)) => now > best,
            (Better::Lower, Some(best)) => now < best,
        }
    }
}

impl TrainPlan {
    /// Refuses what cannot be; `table` is where it stands in the recipe.
    pub(crate) fn check(&self, table: &str) -> Result<()> {
        let wrong = |key: &str, got: String, expected: &str| {
            Err(Error::Recipe { key: format!("{table}.{key}"), got, expected: expected.into() })
        };
        if self.batch == 0 {
            return wrong("batch", "0".into(), "1 or more");
        }
        if self.accumulate == 0 || self.accumulate > self.batch {
            return wrong("accumulate", self.accumulate.to_string(), "from 1 to batch");
        }
        for (key, value) in [("learning_rate", self.learning_rate), ("clip", self.clip)] {
            if !value.is_finite() || value <= 0.0 {
                return wrong(key, value.to_string(), "a number over 0");
            }
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return wrong("weight_decay", self.weight_decay.to_string(), "a share from 0 to 1");
        }
        if !(0.0..1.0).contains(&self.average) {
            return wrong("average", self.average.to_string(), "a share from 0 to under 1");
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return wrong("layer_decay", self.layer_decay.to_string(), "a share over 0, 1 at most");
        }
        Ok(())
    }

    /// Whether a tensor stays as it is.
    pub fn freezes(&self, name: &str) -> bool {
        let below = |layers: usize| depth(name).is_some_and(|d| d <= layers) && name.starts_with("bert.");
        self.freeze_layers.is_some_and(below) || self.freeze.iter().any(|prefix| is_under(name, prefix))
    }

    /// Learning rate of a tensor as a share of the plan's, in a model of `layers` layers: layer-wise decay
    /// (Howard & Ruder 2018; Clark et al. 2020).
    pub fn rate_of(&self, name: &str, layers: usize) -> f64 {
        let above = (layers + 1).saturating_sub(depth(name).unwrap_or(layers + 1));
        self.layer_decay.powi(above as i32)
    }

    /// Refuses to freeze what the model does not have, or all that it has.
    pub(crate) fn check_freeze(&self, table: &str, params: &Params, layers: usize) -> Result<()> {
        let wrong = |key: &str, got: String, expected: String| {
            Err(Error::Recipe { key: format!("{table}.{key}"), got, expected })
        };
        if let Some(n) = self.freeze_layers.filter(|&n| n > layers) {
            return wrong("freeze_layers", n.to_string(), format!("the model's {layers} layers at most"));
        }
        if let Some(p) = self.freeze.iter().find(|p| !params.iter().any(|(name, _)| is_under(name, p))) {
            let expected = "the name of a tensor of the model, or its beginning up to a dot".into();
            return wrong("freeze", p.clone(), expected);
        }
        if params.iter().all(|(name, _)| self.freezes(name)) {
            return wrong("freeze", "every tensor of the model".into(), "some to train".into());
        }
        Ok(())
    }
}

/// Whether a name is `prefix` or below it.
fn is_under(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix.trim_end_matches('.'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// 0 for embeddings, 1 for the lowest layer; `None` for what lies above the layers.
fn depth(name: &str) -> Option<usize> {
    if name.starts_with("bert.embeddings.") {
        return Some(0);
    }
    let (number, _) = name.strip_prefix("bert.encoder.layer.")?.split_once('.')?;
    number.parse::<usize>().ok().map(|n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str) -> TrainPlan {
        let text = "batch = 8\nlearning_rate = 1e-3\nwarmup = 0\nweight_decay = 0.0\nclip = 1.0\n";
        toml::from_str(&format!("{text}{more}")).unwrap()
    }

    #[test]
    fn rates_fall_from_the_head_down() {
        let plan = plan("layer_decay = 0.5");
        let rates = [
            "head.dense.weight",
            "bert.encoder.LayerNorm.weight",
            "bert.encoder.layer.1.output.dense.bias",
            "bert.encoder.layer.0.output.dense.bias",
            "bert.embeddings.LayerNorm.bias",
        ]
        .map(|name| plan.rate_of(name, 2));
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.25, 0.125]);
    }

    #[test]
    fn what_is_frozen_is_named_whole_or_up_to_a_dot() {
        let named = plan("freeze = [\"bert.encoder.layer.1\", \"head.out.bias\"]");
        let frozen = |name: &str| named.freezes(name);
        assert!(frozen("bert.encoder.layer.1.output.dense.bias") && frozen("head.out.bias"));
        assert!(!frozen("bert.encoder.layer.10.output.dense.bias") && !frozen("head.out.weight"));
        let lowest = plan("freeze_layers = 1");
        assert!(
            lowest.freezes("bert.embeddings.LayerNorm.bias") && lowest.freezes("bert.encoder.layer.0.x.y")
        );
        assert!(
            !lowest.freezes("bert.encoder.layer.1.x.y") && !lowest.freezes("bert.encoder.LayerNorm.weight")
        );
        assert!(!lowest.freezes("head.out.bias") && !plan("").freezes("bert.embeddings.LayerNorm.bias"));
    }

    #[test]
    fn a_figure_that_is_not_a_number_is_never_better() {
        for metric in [Metric::higher("auroc"), Metric::lower("loss")] {
            assert!(!metric.improves(f64::NAN, None) && !metric.improves(f64::NAN, Some(0.5)));
            assert!(metric.improves(0.5, None) && !metric.improves(0.5, Some(0.5)));
        }
        assert!(Metric::higher("auroc").improves(0.6, Some(0.5)));
        assert!(Metric::lower("loss").improves(0.4, Some(0.5)));
    }
}
