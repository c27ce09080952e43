//! `locus export`: ONNX in FP32 and INT8, proved against candle before anything is written.

use std::collections::BTreeMap;

use locus_calibration::{Budget, CalibrationTable, Cost};
use locus_engine::{
    EngineKind, EngineSettings, Graphs, LoadOptions, Precision, Row, Session, engine_for, logits_of,
    open_graphs,
};
use locus_export::{
    SafetensorsWeights, build_fp32, build_int8, build_int8_fp16, build_int8_fp16_rounding_in_fp32, smoothed,
    to_bytes,
};
use locus_firmware_config::{
    manifest::{AccuracyContract, GoldenVector, ModeCalibration, ProbabilityModel},
    message::Band,
    profile::DeviceProfile,
};
use locus_genome::{Consequence, InputMode};
use serde::{Deserialize, Serialize};

use super::{ChainRecipe, Link, Stage, calibrate::best};
use crate::{
    Error, Recipe, Result,
    data::{Dataset, Pair, Record, Split, View},
    error::io_at,
    files, infer, metrics,
    model::ModelConfig,
    stage::{Run, read_json, write_json},
};

/// Rows per batch that a bundle's sessions take at most.
pub(crate) const MAX_BATCH: u32 = 32;
/// What the contract is about.
const METRIC: &str = "auroc";
/// Half precision's eleven bits move activations over the borders of their codes: noise of quantisation's size, in logits.
const FP16_TOLERANCE: f64 = 0.25;
/// Name of the distance of `int8-fp16.onnx` from `int8.onnx` among the parities.
pub(super) const HALF: &str = "int8_fp16";
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
pub(super) struct Wide {
    ref_ids: Vec<i64>,
    alt_ids: Vec<i64>,
    track: Vec<i64>,
    features: Vec<f32>,
}

impl Wide {
    pub(super) fn of(pair: &Pair, n_features: usize) -> Self {
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

    pub(super) fn row(&self) -> Row<'_> {
        Row {
            ref_ids: &self.ref_ids,
            alt_ids: &self.alt_ids,
            ref_track: &self.track,
            alt_track: &self.track,
            features: &self.features,
        }
    }
}

pub(super) fn engine_logits(
    session: &mut dyn Session,
    pairs: &[Pair],
    n_features: usize,
) -> Result<Vec<f32>> {
    let wide: Vec<Wide> = pairs.iter().map(|p| Wide::of(p, n_features)).collect();
    let rows: Vec<Row<'_>> = wide.iter().map(Wide::row).collect();
    Ok(logits_of(session, &rows)?.into_iter().map(|l| l[0]).collect())
}

fn largest(a: &[f32], b: &[f32]) -> f64 {
    locus_calibration::max_abs_error(a, b)
}

/// The graphs of a recipe's model for a session.
pub(super) fn graphs(
    recipe: &Recipe,
    config: &ModelConfig,
    fp32: Option<Vec<u8>>,
    int8: Option<Vec<u8>>,
) -> Graphs {
    let lengths: Vec<u32> = recipe.window.buckets.iter().map(|&b| b as u32).collect();
    Graphs::from_onnx(fp32, int8, &lengths, MAX_BATCH, config.labels.len() as u32, config.n_features as u32)
}

/// Records that graphs are held against, with transcript.
pub(super) struct Held {
    pathogenic: Vec<bool>,
    missense: Vec<bool>,
    consequences: Vec<Option<Consequence>>,
    mode: Option<ModeCalibration>,
}

impl Held {
    pub(super) fn new(dataset: &Dataset, probability: &ProbabilityModel, records: &[usize]) -> Self {
        let of = |term: &str| Consequence::ALL.iter().find(|c| c.so_term() == term).copied();
        let all = || records.iter().map(|&i| &dataset.records[i]);
        Self {
            pathogenic: all().map(|r| r.pathogenic).collect(),
            missense: all().map(Record::is_missense).collect(),
            consequences: all().map(|r| of(&r.consequence)).collect(),
            mode: probability.modes.get(InputMode::Transcript.as_str()).cloned(),
        }
    }

    pub(super) fn figures(&self, logits: &[f32]) -> BTreeMap<String, f64> {
        let figure = |keep: &dyn Fn(usize) -> bool| {
            let kept = || (0..logits.len()).filter(|&i| keep(i));
            let scores: Vec<f64> = kept().map(|i| f64::from(logits[i])).collect();
            let labels: Vec<bool> = kept().map(|i| self.pathogenic[i]).collect();
            metrics::auroc(&scores, &labels)
        };
        let figures = [("auroc", figure(&|_| true)), ("missense_auroc", figure(&|i| self.missense[i]))];
        figures.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect()
    }

    /// The band of each record.
    fn decisions(&self, logits: &[f32]) -> Vec<Band> {
        let Some(mode) = &self.mode else { return vec![Band::None; logits.len()] };
        let band = |(&logit, &known): (&f32, &Option<Consequence>)| {
            let probability =
                locus_engine::probability::probability(f64::from(logit), mode.temperature, mode.offset);
            locus_engine::probability::band(probability, mode, known)
        };
        logits.iter().zip(&self.consequences).map(band).collect()
    }

    /// Figures of both, and the share of other bands.
    pub(super) fn measured(&self, float: &[f32], int8: &[f32]) -> Measured {
        let flips = locus_calibration::flips(&self.decisions(float), &self.decisions(int8));
        Measured { fp32: self.figures(float), int8: self.figures(int8), flips }
    }

    /// What `int8` costs against `float`.
    pub(super) fn cost(&self, float: &[f32], int8: &[f32]) -> Cost {
        let auroc = |logits| self.figures(logits).get(METRIC).copied().unwrap_or(f64::NAN);
        Cost {
            loss: auroc(float) - auroc(int8),
            flips: locus_calibration::flips(&self.decisions(float), &self.decisions(int8)),
        }
    }
}

/// What a contract is measured on: all of validation, with transcript.
pub(super) fn held_out(dataset: &Dataset, probability: &ProbabilityModel) -> Result<(Vec<Pair>, Held)> {
    let mut validation = dataset.of_split(Split::ValSelect);
    validation.extend(dataset.of_split(Split::ValFit));
    let pairs = infer::view_of(dataset, &dataset.tokenizer()?, &validation, View::TRANSCRIPT);
    Ok((pairs, Held::new(dataset, probability, &validation)))
}

pub(super) fn broken(what: &str, got: String, expected: String) -> Error {
    Error::Data { what: what.into(), got, expected }
}

pub(super) fn base_profile() -> Result<DeviceProfile> {
    DeviceProfile::named("base").map_err(|e| broken("profile base", e.to_string(), "the shipped one".into()))
}

pub(super) fn options<R>(stage: &Stage<R>) -> LoadOptions {
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
    let drawn = drawn(&stage.run, &config)?;
    let buckets = &stage.recipe.window.buckets;
    let n = config.n_features;
    let both = graphs(&stage.recipe, &config, Some(drawn.fp32.clone()), Some(drawn.int8.clone()));
    let (mut float, mut whole) = sessions(stage, &both)?;

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
    let (pairs, held) = held_out(&dataset, &read_json(&stage.run.at("probability.json"))?)?;
    let (f, q) = (engine_logits(&mut *float, &pairs, n)?, engine_logits(&mut *whole, &pairs, n)?);
    let measured = held.measured(&f, &q);
    let budget = Budget { loss: plan.int8_budget, flips: stage.recipe.quantise.flips_budget };
    let contract = contract(&drawn.table, "validation, with transcript", METRIC, &budget, measured)?;
    let mut half = half_session(stage, &drawn, |int8| graphs(&stage.recipe, &config, None, Some(int8)))?;
    let h = engine_logits(&mut *half, &pairs, n)?;
    parity.insert(HALF.into(), near_int8(largest(&q, &h), &held.cost(&f, &h), &budget)?);
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
    complain!(
        "export: parity {parity:?}; INT8 less FP32 on validation {:?}, {:.3} % of bands changed; {} and {} bytes",
        contract.difference,
        100.0 * contract.flips.unwrap_or(f64::NAN),
        drawn.fp32.len(),
        drawn.int8.len()
    );
    let exported = Exported {
        parity,
        provider: float.spec().provider.clone(),
        contract,
        golden,
        int8_difference: largest(&gf, &gq),
    };
    let figures = drawn.write(&stage.run, &exported)?;
    stage.finish(Link::Export, made_from, figures)
}

/// What was measured of both graphs on the same records.
pub(super) struct Measured {
    pub(super) fp32: BTreeMap<String, f64>,
    pub(super) int8: BTreeMap<String, f64>,
    pub(super) flips: f64,
}

/// The contract, where it is kept.
pub(super) fn contract(
    table: &CalibrationTable,
    data: &str,
    metric: &str,
    budget: &Budget,
    measured: Measured,
) -> Result<AccuracyContract> {
    let Measured { fp32, int8, flips } = measured;
    let less = |(name, value): (&String, &f64)| Some((name.clone(), int8.get(name)? - value));
    let contract = AccuracyContract {
        data: data.into(),
        metric: metric.into(),
        difference: fp32.iter().filter_map(less).collect(),
        fp32,
        int8,
        budget: budget.loss,
        flips: Some(flips),
        flips_budget: Some(budget.flips),
        ranges: Some(table.method.clone()),
        float_layers: table.float.iter().cloned().collect(),
    };
    match contract.exceeded() {
        None => Ok(contract),
        Some(reason) => Err(broken(
            "the accuracy contract on validation",
            reason,
            "less: try more estimators or migrations in [quantise], or widen export.int8_budget".into(),
        )),
    }
}

/// The distance of INT8 with the rest in half precision from INT8 with the rest in single precision, in logits, where it
/// is small, and where what it costs against float32 is within the same budget: a box with TensorRT answers with it.
pub(super) fn near_int8(difference: f64, cost: &Cost, budget: &Budget) -> Result<f64> {
    if let Some(reason) = budget.exceeded(cost) {
        let expected = "the contract of int8.onnx kept".into();
        return Err(broken("int8-fp16.onnx against fp32.onnx", reason, expected));
    }
    if difference.is_nan() || difference > FP16_TOLERANCE {
        let expected = format!("at most {FP16_TOLERANCE}");
        return Err(broken("int8-fp16.onnx against int8.onnx", difference.to_string(), expected));
    }
    Ok(difference)
}

/// A session of `int8-fp16.onnx` on ONNX Runtime's CPU, which computes half precision in single where it has no kernels.
pub(super) fn half_session<R>(
    stage: &Stage<R>,
    drawn: &Drawn,
    graphs: impl Fn(Vec<u8>) -> Graphs,
) -> Result<Box<dyn Session>> {
    let options =
        LoadOptions { precision: Precision::Int8, order: vec![EngineKind::OrtCpu], ..options(stage) };
    Ok(open_graphs(&graphs(drawn.checked.clone()), &base_profile()?, &options)?.session)
}

/// The graphs of the chosen checkpoint, and what those in INT8 rest on.
pub(super) struct Drawn {
    pub(super) fp32: Vec<u8>,
    pub(super) int8: Vec<u8>,
    int8_fp16: Vec<u8>,
    /// The last one, as a CPU can check it.
    checked: Vec<u8>,
    pub(super) table: CalibrationTable,
}

/// Lowers the chosen checkpoint of an output folder, with the scales moved that its calibration table names.
pub(super) fn drawn(run: &Run, config: &ModelConfig) -> Result<Drawn> {
    let table: CalibrationTable = read_json(&run.at("calibration.json"))?;
    let checkpoint = run.at("best/model.safetensors");
    let mut bytes = std::fs::read(&checkpoint).map_err(io_at(&checkpoint))?;
    if table.migration > 0.0 {
        bytes = smoothed(config, &bytes, &table.channels, table.migration)?;
    }
    let source = SafetensorsWeights::parse(&bytes)?;
    Ok(Drawn {
        fp32: to_bytes(&build_fp32(config, &source)?),
        int8: to_bytes(&build_int8(config, &source, &table)?),
        int8_fp16: to_bytes(&build_int8_fp16(config, &source, &table)?),
        checked: to_bytes(&build_int8_fp16_rounding_in_fp32(config, &source, &table)?),
        table,
    })
}

impl Drawn {
    /// Writes graphs and what was found of them; gives the figures of the stage's record.
    pub(super) fn write<G: Serialize>(
        &self,
        run: &Run,
        exported: &Exported<G>,
    ) -> Result<BTreeMap<String, f64>> {
        files::write_atomically(&run.at("fp32.onnx"), &self.fp32)?;
        files::write_atomically(&run.at("int8.onnx"), &self.int8)?;
        files::write_atomically(&run.at("int8-fp16.onnx"), &self.int8_fp16)?;
        write_json(&run.at("export.json"), exported)?;
        let contract = &exported.contract;
        let loss = -contract.difference.get(&contract.metric).copied().unwrap_or(f64::NAN);
        Ok(BTreeMap::from([
            ("fp32_bytes".to_owned(), self.fp32.len() as f64),
            ("int8_bytes".to_owned(), self.int8.len() as f64),
            ("int8_loss".to_owned(), loss),
            ("int8_flips".to_owned(), contract.flips.unwrap_or(f64::NAN)),
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
