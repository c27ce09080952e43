//! The search: which estimator, how much migration, and which layers stay in float.

use locus_calibration::{Budget, CalibrationTable, Cost, Method, fall_back, sqnr_db};
use locus_export::{Layer, SafetensorsWeights, build_fp32, build_int8, layers, smoothed, to_bytes};
use serde::{Deserialize, Serialize};

use super::Seen;
use crate::{Result, model::ModelConfig, recipe::QuantisePlan};

/// Bytes that a weight saves in INT8.
const SAVED: usize = 3;

/// A graph to be run.
#[derive(Clone, Debug)]
pub enum Graph {
    /// In float32.
    Fp32(Vec<u8>),
    /// In INT8.
    Int8(Vec<u8>),
}

/// What graphs are held against: records of `val_select`.
pub struct Judge<'a> {
    /// The logits of the records, row after row, and the microseconds that a row took.
    pub logits: &'a mut dyn FnMut(Graph) -> Result<(Vec<f32>, f64)>,
    /// What logits in INT8 cost against those in float.
    pub cost: &'a dyn Fn(&[f32], &[f32]) -> Cost,
}

/// An estimator and a strength of migration, and how near its logits come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// How ranges are chosen.
    pub method: Method,
    /// Strength of the scale migration; 0 without.
    pub migration: f32,
    /// Signal to quantisation noise of the logits, in decibels.
    pub sqnr_db: f64,
}

/// What it costs to quantise one layer alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerCost {
    /// Its name in the graph.
    pub name: String,
    /// The activation that goes in.
    pub activation: String,
    /// Signal to quantisation noise of the logits where only this layer is quantised, in decibels.
    pub sqnr_db: f64,
    /// Bytes that it saves.
    pub bytes_saved: usize,
    /// Microseconds a row where only this layer is quantised.
    pub us_per_row: f64,
}

/// A step of the fallback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Layers in float.
    pub float: Vec<String>,
    /// What INT8 costs then.
    pub cost: Cost,
    /// Signal to quantisation noise of the logits, in decibels.
    pub sqnr_db: f64,
    /// Bytes of the graph.
    pub bytes: usize,
    /// Microseconds a row.
    pub us_per_row: f64,
}

/// Everything that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Records that ranges were seen on.
    pub samples: u64,
    /// Microseconds a row, and bytes, of the graph in float32.
    pub float: (f64, usize),
    /// Estimators and migrations, the nearest first.
    pub candidates: Vec<Candidate>,
    /// Layers, the most sensitive first.
    pub layers: Vec<LayerCost>,
    /// Layers taken into float, one after the other; the last step is the one that is used.
    pub steps: Vec<Step>,
    /// What INT8 may cost.
    pub budget: Budget,
}

/// What was found.
pub struct Quantised {
    /// Ranges, migration and layers in float.
    pub table: CalibrationTable,
    /// What the ranges were chosen from.
    pub seen: Seen,
    /// What was tried.
    pub report: Report,
}

/// A search over one checkpoint.
pub struct Search<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Its `model.safetensors`.
    pub checkpoint: &'a [u8],
    /// What is tried.
    pub plan: &'a QuantisePlan,
    /// What INT8 may cost.
    pub budget: Budget,
    /// Records that ranges are seen on.
    pub samples: u64,
}

impl Search<'_> {
    /// Tries every estimator and migration, ranks the layers, and takes the most sensitive ones into float until the
    /// budget is kept. `observe` runs training records through a checkpoint.
    ///
    /// # Errors
    /// A graph that cannot be built or run.
    pub fn run(
        &self,
        mut observe: impl FnMut(&[u8]) -> Result<Seen>,
        judge: &mut Judge<'_>,
    ) -> Result<Quantised> {
        let weights = SafetensorsWeights::parse(self.checkpoint)?;
        let fp32 = to_bytes(&build_fp32(self.config, &weights)?);
        let bytes = fp32.len();
        let (float, us) = (judge.logits)(Graph::Fp32(fp32))?;
        let plain = observe(self.checkpoint)?;
        let mut candidates = Vec::new();
        let mut best: Option<(f64, Vec<u8>, CalibrationTable, Seen)> = None;
        for migration in std::iter::once(0.0).chain(self.plan.migrations.iter().copied()) {
            let (checkpoint, seen) = if migration == 0.0 {
                (self.checkpoint.to_vec(), plain.clone())
            } else {
                let moved = smoothed(self.config, self.checkpoint, &plain.channels(), migration)?;
                let seen = observe(&moved)?;
                (moved, seen)
            };
            for &method in &self.plan.methods {
                let table = CalibrationTable {
                    method: method.to_string(),
                    samples: self.samples,
                    ranges: seen.ranges(method),
                    migration,
                    channels: if migration == 0.0 { Default::default() } else { plain.channels() },
                    float: Default::default(),
                };
                let (logits, ..) = self.measured(&checkpoint, &table, judge)?;
                let sqnr = sqnr_db(&float, &logits);
                candidates.push(Candidate { method, migration, sqnr_db: sqnr });
                if best.as_ref().is_none_or(|(most, ..)| sqnr > *most) {
                    best = Some((sqnr, checkpoint.clone(), table, seen.clone()));
                }
            }
        }
        candidates.sort_by(|a, b| b.sqnr_db.total_cmp(&a.sqnr_db));
        let Some((_, checkpoint, mut table, seen)) = best else {
            return Err(crate::Error::Recipe {
                key: "quantise.methods".into(),
                got: "none whose logits are numbers".into(),
                expected: "one or more estimators".into(),
            });
        };
        let ranking = self.rank(&checkpoint, &table, &float, judge)?;
        let names: Vec<String> = ranking.iter().map(|l| l.name.clone()).collect();
        let mut measure = |float_layers: &[String]| -> Result<Step> {
            let table = CalibrationTable { float: float_layers.iter().cloned().collect(), ..table.clone() };
            let (logits, us_per_row, bytes) = self.measured(&checkpoint, &table, judge)?;
            Ok(Step {
                float: float_layers.to_vec(),
                cost: (judge.cost)(&float, &logits),
                sqnr_db: sqnr_db(&float, &logits),
                bytes,
                us_per_row,
            })
        };
        let trials = fall_back(&names, &mut measure, |step| self.budget.exceeded(&step.cost).is_none())?;
        let steps: Vec<Step> = trials.into_iter().map(|t| t.measured).collect();
        table.float = steps.last().into_iter().flat_map(|s| s.float.iter().cloned()).collect();
        let report = Report {
            samples: self.samples,
            float: (us, bytes),
            candidates,
            layers: ranking,
            steps,
            budget: self.budget,
        };
        Ok(Quantised { table, seen, report })
    }

    /// Logits, microseconds a row and bytes of a graph in INT8.
    fn measured(
        &self,
        checkpoint: &[u8],
        table: &CalibrationTable,
        judge: &mut Judge<'_>,
    ) -> Result<(Vec<f32>, f64, usize)> {
        let weights = SafetensorsWeights::parse(checkpoint)?;
        let graph = to_bytes(&build_int8(self.config, &weights, table)?);
        let bytes = graph.len();
        let (logits, us) = (judge.logits)(Graph::Int8(graph))?;
        Ok((logits, us, bytes))
    }

    /// Layers by what it costs to quantise them alone, the costliest first.
    fn rank(
        &self,
        checkpoint: &[u8],
        table: &CalibrationTable,
        float: &[f32],
        judge: &mut Judge<'_>,
    ) -> Result<Vec<LayerCost>> {
        let all = layers(self.config)?;
        let mut costs = Vec::with_capacity(all.len());
        for layer in &all {
            let others = all.iter().filter(|l| l.name != layer.name).map(|l| l.name.clone()).collect();
            let alone = CalibrationTable { float: others, ..table.clone() };
            let (logits, us_per_row, _) = self.measured(checkpoint, &alone, judge)?;
            let Layer { name, activation, weights } = layer.clone();
            let sqnr_db = sqnr_db(float, &logits);
            costs.push(LayerCost { name, activation, sqnr_db, bytes_saved: SAVED * weights, us_per_row });
        }
        costs.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
        Ok(costs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Pair, pack},
        model::{Context, PairHead, Params},
    };

    fn config() -> ModelConfig {
        let recipe = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
        crate::Recipe::read(&recipe).unwrap().model_config(69, 3)
    }

    fn checkpoint(config: &ModelConfig) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        Params::new(config, 1).unwrap().write(&file).unwrap();
        std::fs::read(file).unwrap()
    }

    fn observe(config: &ModelConfig, checkpoint: &[u8]) -> Result<Seen> {
        let params = Params::parse(checkpoint, config)?;
        let pair = |shift: u16| Pair {
            ref_ids: vec![2, 9, 20, 3],
            alt_ids: vec![2, 11 + shift, 20, 3],
            track: vec![0, 6, 6, 0],
            ..Pair::default()
        };
        let mut seen = Seen::default();
        let batch = pack(&[pair(0), pair(1)], config.n_features, &[8]);
        PairHead::new(config, &params).forward(&batch, &Context::observe(&mut seen))?;
        Ok(seen)
    }

    /// Logits that are off by 1 for each layer of a name that is quantised.
    fn off_by(graph: &Graph, names: &[&str]) -> Vec<f32> {
        let Graph::Int8(bytes) = graph else { return vec![10.0; 4] };
        let quantised = |name: &&&str| {
            let node = format!("{name}.weight.dequantised");
            bytes.windows(node.len()).any(|w| w == node.as_bytes())
        };
        vec![10.0 + names.iter().filter(quantised).count() as f32; 4]
    }

    fn searched(plan: &QuantisePlan, sensitive: &[&str], budget: Budget) -> Quantised {
        let config = config();
        let checkpoint = checkpoint(&config);
        let search = Search { config: &config, checkpoint: &checkpoint, plan, budget, samples: 2 };
        let mut logits = |graph: Graph| Ok((off_by(&graph, sensitive), 1.0));
        let cost = |a: &[f32], b: &[f32]| Cost { loss: f64::from((a[0] - b[0]).abs()), flips: 0.0 };
        search.run(|bytes| observe(&config, bytes), &mut Judge { logits: &mut logits, cost: &cost }).unwrap()
    }

    const NONE: Budget = Budget { loss: 0.5, flips: 0.0 };

    #[test]
    fn the_sensitive_layers_alone_stay_in_float() {
        let found =
            searched(&QuantisePlan::default(), &["layer.1.ffn.output", "layer.0.attention.qkv"], NONE);
        let float: Vec<&str> = found.table.float.iter().map(String::as_str).collect();
        assert_eq!(float, ["layer.0.attention.qkv", "layer.1.ffn.output"]);
        let losses: Vec<f64> = found.report.steps.iter().map(|s| s.cost.loss).collect();
        assert_eq!(losses, [2.0, 1.0, 0.0]);
        assert!(found.report.layers[1].sqnr_db < found.report.layers[2].sqnr_db);
        assert!(found.report.steps[2].bytes > found.report.steps[0].bytes);
    }

    #[test]
    fn a_contract_that_holds_leaves_everything_in_int8() {
        let found = searched(&QuantisePlan::default(), &["head.inner"], Budget { loss: 1.0, flips: 0.0 });
        assert!(found.table.float.is_empty() && found.report.steps.len() == 1);
    }

    #[test]
    fn migrated_scales_are_tried_and_named() {
        let plan = QuantisePlan {
            methods: vec![Method::MinMax, Method::MeanSquare],
            migrations: vec![0.5],
            ..QuantisePlan::default()
        };
        let found = searched(&plan, &[], NONE);
        assert_eq!(found.report.candidates.len(), 4);
        // Of equals the first one is taken: the simplest.
        assert_eq!((found.table.method.as_str(), found.table.migration), ("min-max", 0.0));
        assert!(found.table.channels.is_empty());
        let moved = found.report.candidates.iter().filter(|c| c.migration == 0.5).count();
        assert_eq!(moved, 2);
    }

    #[test]
    fn the_page_draws_every_activation() {
        let found = searched(&QuantisePlan::default(), &["head.inner"], NONE);
        let html = crate::quantise::page("smoke", &found).unwrap().html();
        assert_eq!(html.matches("<svg").count(), found.table.ranges.len());
        assert!(html.contains("head.inner"));
    }
}
