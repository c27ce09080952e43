//! `locus export`: ONNX in FP32 and INT8, proved against candle before anything is written.

use std::collections::BTreeMap;

use locus_calibration::{CalibrationTable, Range};
use locus_engine::{
    EngineKind, EngineSettings, Graphs, LoadOptions, Precision, Row, Session, engine_for, logits_of,
    open_graphs,
};
use locus_export::{SafetensorsWeights, build_fp32, build_int8, to_bytes};
use locus_firmware_config::{
    manifest::{AccuracyContract, GoldenVector},
    profile::DeviceProfile,
};
use serde::{Deserialize, Serialize};

use super::{ChainRecipe, Link, Stage, calibrate::best};
use crate::{
    Error, Result,
    calibrate::Ranges,
    data::{Dataset, Pair, Split, View},
    error::io_at,
    files, infer, metrics,
    model::ModelConfig,
    stage::{Run, read_json, write_json},
};

/// Rows per batch that a bundle's sessions take at most.
pub(crate) const MAX_BATCH: u32 = 32;
const CROPPED: View = View { cropped: true, bare: None };

/// What `locus bundle create` needs besides the graphs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported<G = GoldenVector> {
    /// Largest difference of a logit from candle, in FP32, by how the windows were shown.
    pub parity: BTreeMap<String, f64>,
    /// What ran the graphs.
    pub provider: String,
    /// What quantisation cost on validation.
    pub contract: AccuracyContract,
    /// Vectors that a device must reproduce.
    pub golden: Vec<G>,
    /// Largest difference of a golden logit between FP32 and INT8.
    pub int8_difference: f64,
}

/// A pair in the engine's types.
struct Wide {
    ref_ids: Vec<i64>,
    alt_ids: Vec<i64>,
    track: Vec<i64>,
    features: Vec<f32>,
}

impl Wide {
    fn of(pair: &Pair, n_features: usize) -> Self {
        let wide = |ids: &[u16]| ids.iter().map(|&i| i64::from(i)).collect();
        let mut features = vec![0.0; n_features];
        pair.features.fill(&mut features);
        Self {
            ref_ids: wide(&pair.ref_ids),
            alt_ids: wide(&pair.alt_ids),
            track: pair.track.iter().map(|&t| i64::from(t)).collect(),
            features,
        }
    }

    fn row(&self) -> Row<'_> {
        Row {
            ref_ids: &self.ref_ids,
            alt_ids: &self.alt_ids,
            ref_track: &self.track,
            alt_track: &self.track,
            features: &self.features,
        }
    }
}

fn engine_logits(session: &mut dyn Session, pairs: &[Pair], n_features: usize) -> Result<Vec<f32>> {
    let wide: Vec<Wide> = pairs.iter().map(|p| Wide::of(p, n_features)).collect();
    let rows: Vec<Row<'_>> = wide.iter().map(Wide::row).collect();
    Ok(logits_of(session, &rows)?.into_iter().map(|l| l[0]).collect())
}

fn largest(a: &[f32], b: &[f32]) -> f64 {
    locus_calibration::max_abs_error(a, b)
}

fn auroc(dataset: &Dataset, records: &[usize], logits: &[f32]) -> BTreeMap<String, f64> {
    let figure = |keep: &dyn Fn(usize) -> bool| {
        let kept = || records.iter().zip(logits).filter(|(i, _)| keep(**i));
        let scores: Vec<f64> = kept().map(|(_, z)| f64::from(*z)).collect();
        let labels: Vec<bool> = kept().map(|(i, _)| dataset.records[*i].pathogenic).collect();
        metrics::auroc(&scores, &labels)
    };
    let figures =
        [("auroc", figure(&|_| true)), ("missense_auroc", figure(&|i| dataset.records[i].is_missense()))];
    figures.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect()
}

pub(super) fn broken(what: &str, got: String, expected: String) -> Error {
    Error::Data { what: what.into(), got, expected }
}

fn base_profile() -> Result<DeviceProfile> {
    DeviceProfile::named("base").map_err(|e| broken("profile base", e.to_string(), "the shipped one".into()))
}

fn options<R>(stage: &Stage<R>) -> LoadOptions {
    LoadOptions { onnxruntime: stage.onnxruntime.clone(), ..LoadOptions::default() }
}

/// Says before the training what would otherwise stop the chain at its end: INT8 is proved on ONNX Runtime.
///
/// # Errors
/// The library cannot be loaded, and the stage is still to be run.
pub(crate) fn ready<R: ChainRecipe>(stage: &Stage<R>) -> Result<()> {
    if stage.require_before("bundle create").is_ok() {
        return Ok(());
    }
    let base = base_profile()?;
    engine_for(EngineKind::OrtCpu, &EngineSettings::from_profile(&base)?)
        .and_then(|engine| engine.check(&base, &options(stage)))
        .map_err(|unavailable| {
            broken(
                "ONNX Runtime, which proves the INT8 graph",
                unavailable.reason,
                "its library: `cargo xtask onnxruntime` fetches one, --onnxruntime names another".into(),
            )
        })
}

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A missing stage, no engine, graphs that differ from candle, or INT8 over its budget: nothing is written.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.export;
    let (dataset, _) = stage.dataset("export")?;
    if stage.done_before(Link::Export)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Export)?;
    let (config, params, _) = best(stage, "export")?;
    let graphs = drawn(&stage.run, &config, stage.recipe.calibrate.range_records)?;
    let buckets = &stage.recipe.window.buckets;
    let lengths: Vec<u32> = buckets.iter().map(|&b| b as u32).collect();
    let n = config.n_features;
    let (labels, features) = (config.labels.len() as u32, n as u32);
    let onnx = |fp32, int8| Graphs::from_onnx(Some(fp32), Some(int8), &lengths, MAX_BATCH, labels, features);
    let (mut float, mut whole) = sessions(stage, &onnx(graphs.fp32.clone(), graphs.int8.clone()))?;

    let tokenizer = dataset.tokenizer()?;
    let train = dataset.of_split(Split::Train);
    let mut parity = BTreeMap::new();
    for view in [View::TRANSCRIPT, View::SEQUENCE_ONLY, CROPPED] {
        let picked: Vec<usize> = train.iter().copied().take(plan.parity_windows).collect();
        let pairs = infer::view_of(&dataset, &tokenizer, &picked, view);
        let difference = largest(
            &infer::logits(&config, &params, &pairs, buckets)?,
            &engine_logits(&mut *float, &pairs, n)?,
        );
        if difference.is_nan() || difference > plan.parity_tolerance {
            return Err(broken(
                "parity of fp32.onnx with candle",
                difference.to_string(),
                format!("at most {}", plan.parity_tolerance),
            ));
        }
        let name = if view == CROPPED {
            "cropped"
        } else if view == View::TRANSCRIPT {
            "transcript"
        } else {
            "sequence_only"
        };
        parity.insert(name.to_owned(), difference);
    }
    let mut validation = dataset.of_split(Split::ValSelect);
    validation.extend(dataset.of_split(Split::ValFit));
    let pairs = infer::view_of(&dataset, &tokenizer, &validation, View::TRANSCRIPT);
    let (f, q) = (engine_logits(&mut *float, &pairs, n)?, engine_logits(&mut *whole, &pairs, n)?);
    let (fp32_figures, int8_figures) = (auroc(&dataset, &validation, &f), auroc(&dataset, &validation, &q));
    let difference: BTreeMap<String, f64> = fp32_figures
        .iter()
        .map(|(k, v)| (k.clone(), int8_figures.get(k).copied().unwrap_or(0.0) - v))
        .collect();
    let lost = -difference.get("auroc").copied().unwrap_or(f64::NAN);
    if lost.is_nan() || lost > plan.int8_budget {
        return Err(broken(
            "AUROC that INT8 loses on validation",
            lost.to_string(),
            format!("at most {}", plan.int8_budget),
        ));
    }
    let golden_pairs: Vec<Pair> = train
        .iter()
        .step_by((train.len() / plan.golden).max(1))
        .take(plan.golden)
        .enumerate()
        .map(|(i, &r)| {
            [View::TRANSCRIPT, View::SEQUENCE_ONLY, CROPPED][i % 3].of(&dataset.records[r], &tokenizer)
        })
        .collect();
    let (gf, gq) =
        (engine_logits(&mut *float, &golden_pairs, n)?, engine_logits(&mut *whole, &golden_pairs, n)?);
    let golden = golden_pairs
        .iter()
        .zip(gf.iter().zip(&gq))
        .map(|(p, (&f, &q))| {
            let w = Wide::of(p, n);
            GoldenVector {
                ref_ids: w.ref_ids,
                alt_ids: w.alt_ids,
                track: w.track,
                features: w.features,
                logits_fp32: vec![f],
                logits_int8: vec![q],
            }
        })
        .collect();
    eprintln!(
        "export: parity {parity:?}; INT8 less FP32 on validation {difference:?}; {} and {} bytes",
        graphs.fp32.len(),
        graphs.int8.len()
    );
    let exported = Exported {
        parity,
        provider: float.spec().provider.clone(),
        contract: AccuracyContract {
            data: "validation, with transcript".into(),
            metric: "auroc".into(),
            fp32: fp32_figures,
            int8: int8_figures,
            difference,
            budget: plan.int8_budget,
        },
        golden,
        int8_difference: largest(&gf, &gq),
    };
    let figures = graphs.write(&stage.run, &exported, ("int8_auroc_loss", lost))?;
    stage.finish(Link::Export, made_from, figures)
}

/// Both graphs of the chosen checkpoint, and the ranges that the one in INT8 rests on.
pub(super) struct Drawn {
    pub(super) fp32: Vec<u8>,
    pub(super) int8: Vec<u8>,
    table: CalibrationTable,
}

/// Lowers the chosen checkpoint of an output folder; `samples` records gave its ranges.
pub(super) fn drawn(run: &Run, config: &ModelConfig, samples: usize) -> Result<Drawn> {
    let ranges: Ranges = read_json(&run.at("ranges.json"))?;
    let table = CalibrationTable {
        method: "min-max".into(),
        samples: samples as u64,
        ranges: ranges.into_iter().map(|(n, (min, max))| (n, Range { min, max })).collect(),
    };
    let checkpoint = run.at("best/model.safetensors");
    let bytes = std::fs::read(&checkpoint).map_err(io_at(&checkpoint))?;
    let source = SafetensorsWeights::parse(&bytes)?;
    let (fp32, int8) =
        (to_bytes(&build_fp32(config, &source)?), to_bytes(&build_int8(config, &source, &table)?));
    Ok(Drawn { fp32, int8, table })
}

impl Drawn {
    /// Writes graphs, ranges and what was found of them; gives the figures of the stage's record.
    pub(super) fn write<G: Serialize>(
        &self,
        run: &Run,
        exported: &Exported<G>,
        (loss, lost): (&str, f64),
    ) -> Result<BTreeMap<String, f64>> {
        files::write_atomically(&run.at("fp32.onnx"), &self.fp32)?;
        files::write_atomically(&run.at("int8.onnx"), &self.int8)?;
        write_json(&run.at("export.json"), exported)?;
        write_json(&run.at("calibration.json"), &self.table)?;
        Ok(BTreeMap::from([
            ("fp32_bytes".to_owned(), self.fp32.len() as f64),
            ("int8_bytes".to_owned(), self.int8.len() as f64),
            (loss.to_owned(), lost),
        ]))
    }
}

/// Sessions in FP32, by whichever engine there is, and in INT8.
pub(super) fn sessions<R>(stage: &Stage<R>, graphs: &Graphs) -> Result<(Box<dyn Session>, Box<dyn Session>)> {
    let base = base_profile()?;
    let open = |precision, order: Vec<EngineKind>| {
        open_graphs(graphs, &base, &LoadOptions { precision, order, ..options(stage) })
    };
    let float = open(Precision::Fp32, vec![])?.session;
    Ok((float, open(Precision::Int8, vec![EngineKind::OrtCpu])?.session))
}
