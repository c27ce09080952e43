//! What was measured of a model: how its logits become probabilities and bands, and what quantisation cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One calibration per input mode, or that of a sequence model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbabilityModel {
    /// By input mode; none in a sequence model.
    pub modes: BTreeMap<String, ModeCalibration>,
    /// Of a sequence model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceCalibration>,
}

/// How the logits of a sequence become an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SequenceCalibration {
    /// probabilities = softmax(logits / temperature + offsets), under the named prior.
    Classes {
        /// Divides the logits.
        temperature: f64,
        /// Added after, one a label.
        offsets: Vec<f64>,
        /// Share of each label that the probabilities assume.
        prior: Vec<f64>,
    },
    /// value = mean + deviation × logit.
    Value {
        /// Mean of the training targets.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
    },
}

/// probability = sigmoid(logit / temperature + offset), under the named prior.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeCalibration {
    /// Divides the logit.
    pub temperature: f64,
    /// Added after.
    pub offset: f64,
    /// Share of pathogenic that the probability assumes.
    pub prior: f64,
    /// Below it the band is benign.
    pub benign_below: f64,
    /// Above it the band is pathogenic; between, uncertain.
    pub pathogenic_above: f64,
    /// Share of right answers among those outside the uncertain band, on validation.
    pub answered_accuracy: f64,
    /// Share of variants outside the uncertain band, on validation.
    pub answered_share: f64,
    /// Likelihood ratio of the pathogenic band on validation.
    pub lr_pathogenic: f64,
    /// Likelihood ratio of the benign band on validation.
    pub lr_benign: f64,
    /// From which probability on a missense variant reaches a step of evidence, with 95 % confidence over genes of
    /// validation; empty where the records do not show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceStep>,
    /// Borders for missense variants. Of other consequences the term alone says much; here the label is the model's
    /// own work, and what holds for all together may not hold for them. `None`: the borders above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missense: Option<Borders>,
}

/// A step of evidence in the sense of PP3 and BP4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceStep {
    /// `PP3` for pathogenic, `BP4` for benign.
    pub criterion: String,
    /// `supporting`, `moderate`, `strong` or `very strong`.
    pub strength: String,
    /// Its least likelihood ratio, or the inverse of it for BP4.
    pub likelihood_ratio: f64,
    /// From this probability on (PP3: up, BP4: down).
    pub from: f64,
}

/// Borders of the bands of some of a mode's variants, and what they did on validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Borders {
    /// Below it the band is benign.
    pub benign_below: f64,
    /// Above it the band is pathogenic; between, uncertain.
    pub pathogenic_above: f64,
    /// Share of right answers among those outside the uncertain band.
    pub answered_accuracy: f64,
    /// Share of these variants outside the uncertain band; 0: all are uncertain.
    pub answered_share: f64,
    /// Likelihood ratio of the pathogenic band.
    pub lr_pathogenic: f64,
    /// Likelihood ratio of the benign band.
    pub lr_benign: f64,
}

impl ModeCalibration {
    /// Borders of the uncertain band: below the first benign, above the second pathogenic.
    pub fn borders(&self, missense: bool) -> (f64, f64) {
        match self.missense {
            Some(own) if missense => (own.benign_below, own.pathogenic_above),
            _ => (self.benign_below, self.pathogenic_above),
        }
    }
}

/// What quantisation cost, on data that trained nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyContract {
    /// The data.
    pub data: String,
    /// The metric that the budget is about.
    pub metric: String,
    /// Metrics of `fp32.onnx`.
    pub fp32: BTreeMap<String, f64>,
    /// Metrics of `int8.onnx`.
    pub int8: BTreeMap<String, f64>,
    /// INT8 less FP32.
    pub difference: BTreeMap<String, f64>,
    /// Largest loss that is allowed.
    pub budget: f64,
    /// Share of records that INT8 decides otherwise than FP32: in another band, or as another class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<f64>,
    /// Largest share that is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips_budget: Option<f64>,
    /// How the ranges of activations were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<String>,
    /// Products with weights that stay in float in `int8.onnx`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub float_layers: Vec<String>,
}

impl AccuracyContract {
    /// Why INT8 may not be chosen: FP32 less INT8 of the metric, where more is better, or the share of other decisions is
    /// over its budget. A gain costs nothing, and what was not measured is not within the budget; the difference that the
    /// contract states is not asked, as it follows from the two figures.
    pub fn exceeded(&self) -> Option<String> {
        let (Some(fp32), Some(int8)) = (self.fp32.get(&self.metric), self.int8.get(&self.metric)) else {
            return Some(format!(
                "the accuracy contract lacks {} of FP32 or of INT8, so what INT8 loses is not known",
                self.metric
            ));
        };
        let loss = fp32 - int8;
        if loss.is_nan() || loss > self.budget {
            return Some(format!(
                "INT8 loses {loss:.4} {} against FP32, over the budget of {:.4}",
                self.metric, self.budget
            ));
        }
        let budget = self.flips_budget?;
        match self.flips {
            Some(flips) if flips <= budget => None,
            Some(flips) => Some(format!(
                "INT8 decides {:.2} % of records otherwise than FP32, over the budget of {:.2} %",
                100.0 * flips,
                100.0 * budget
            )),
            None => Some("the accuracy contract does not say how many decisions INT8 changes".into()),
        }
    }
}
