//! What the models of all steps are worth: on validation, in bytes, and in time on ONNX Runtime.

use std::{io::Write, time::Instant};

use flate2::{Compression, write::ZlibEncoder};
use locus_engine::{EngineKind, LoadOptions, Precision, Session, logits_of, open_graphs};
use locus_export::{SafetensorsWeights, build_fp32, to_bytes};
use locus_firmware_config::manifest::ProbabilityModel;

use super::{Pruned, STEPS, Work, sizes};
use crate::{
    Error, Result,
    commands::{
        Stage,
        export::{Held, Wide, base_profile, broken, engine_logits, graphs, options},
    },
    data::{Dataset, Pair, Split, View},
    error::io_at,
    explain::Model,
    infer,
    model::{LayerSize, ModelConfig, Params},
    prune::{Budgets, Figures, Report, Spread, Step},
};

/// Rounds before the clock counts.
const WARM_UP: usize = 30;
/// Validation records on which each graph is held against its checkpoint.
const HELD: usize = 64;

/// Validation records with transcript, those of `val_select` first.
pub(super) struct Validated {
    pairs: Vec<Pair>,
    buckets: Vec<usize>,
    /// How many are of `val_select`.
    selected: usize,
    held: [Held; 2],
}

impl Validated {
    pub(super) fn new(dataset: &Dataset, buckets: &[usize]) -> Result<Self> {
        let mut records = dataset.of_split(Split::ValSelect);
        let selected = records.len();
        let held = |records: &[usize]| Held::new(dataset, &ProbabilityModel::default(), records);
        let select = held(&records);
        records.extend(dataset.of_split(Split::ValFit));
        let pairs = infer::view_of(dataset, &dataset.tokenizer()?, &records, View::TRANSCRIPT);
        Ok(Self { pairs, buckets: buckets.to_vec(), selected, held: [select, held(&records)] })
    }

    /// Figures on `val_select`.
    pub(super) fn select(&self, config: &ModelConfig, params: &Params) -> Result<Figures> {
        let pairs = &self.pairs[..self.selected];
        figures(&self.held[0], &infer::logits(config, params, pairs, &self.buckets)?)
    }
}

fn figures(held: &Held, logits: &[f32]) -> Result<Figures> {
    let of = held.figures(logits);
    let Some(&auroc) = of.get("auroc") else {
        return Err(broken(
            "validation",
            format!("{} records of one class", logits.len()),
            "pathogenic and benign ones".into(),
        ));
    };
    Ok(Figures { auroc, missense_auroc: of.get("missense_auroc").copied() })
}

/// A graph on one thread of ONNX Runtime.
fn session(stage: &Stage, config: &ModelConfig, onnx: Vec<u8>) -> Result<Box<dyn Session>> {
    let options = LoadOptions {
        order: vec![EngineKind::OrtCpu],
        precision: Precision::Fp32,
        intra_threads: 1,
        ..options(stage)
    };
    Ok(open_graphs(&graphs(&stage.recipe, config, Some(onnx), None), &base_profile()?, &options)?.session)
}

/// Whether graphs can be timed here.
///
/// # Errors
/// No ONNX Runtime, or a model that it does not run.
pub(super) fn ready(stage: &Stage, start: &Model) -> Result<()> {
    let folder = stage.run.at(STEPS);
    std::fs::create_dir_all(&folder).map_err(io_at(&folder))?;
    let place = folder.join("start.safetensors");
    start.params.write(&place)?;
    let onnx = graph(&place, &start.config)?;
    std::fs::remove_file(&place).map_err(io_at(&place))?;
    session(stage, &start.config, onnx).map(drop)
}

/// The graph of a checkpoint's weights.
fn graph(weights: &std::path::Path, config: &ModelConfig) -> Result<Vec<u8>> {
    let bytes = std::fs::read(weights).map_err(io_at(weights))?;
    Ok(to_bytes(&build_fp32(config, &SafetensorsWeights::parse(&bytes)?)?))
}

fn deflated(bytes: &[u8]) -> std::io::Result<usize> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

/// Numbers that a graph holds, and those of them that are not zero; the masked-token head is in none.
fn parameters(params: &Params) -> Result<[usize; 2]> {
    let mut counts = [0, 0];
    for (_, var) in params.iter().filter(|(name, _)| !name.starts_with("cls.")) {
        let values = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        counts[0] += values.len();
        counts[1] += values.iter().filter(|v| **v != 0.0).count();
    }
    Ok(counts)
}

/// Validates, weighs and times every model, and chooses one.
///
/// # Errors
/// A graph that differs from its checkpoint, or cannot be run.
pub(super) fn report(work: &Work<'_>, all: &[Pruned]) -> Result<Report> {
    let (stage, validated) = (work.stage, &work.validated);
    let mut sessions = Vec::new();
    let mut steps = Vec::new();
    for pruned in all {
        let Pruned { name, kind, config, params, untuned } = pruned;
        let logits = infer::logits(config, params, &validated.pairs, &validated.buckets)?;
        let onnx = graph(&stage.run.at(STEPS).join(name).join("model.safetensors"), config)?;
        let bytes = [onnx.len(), deflated(&onnx).map_err(io_at(&stage.run.at(STEPS)))?];
        let mut session = session(stage, config, onnx)?;
        let some = &validated.pairs[..HELD.min(validated.pairs.len())];
        let theirs = engine_logits(&mut *session, some, config.n_features)?;
        let parity = locus_calibration::max_abs_error(&theirs, &logits[..some.len()]);
        if parity.is_nan() || parity > stage.recipe.export.parity_tolerance {
            let expected = format!("at most {}", stage.recipe.export.parity_tolerance);
            return Err(broken(
                &format!("parity of {name}'s graph with candle"),
                parity.to_string(),
                expected,
            ));
        }
        sessions.push(session);
        let none = Spread { low: f64::NAN, median: f64::NAN, high: f64::NAN };
        steps.push(Step {
            name: name.clone(),
            kind: *kind,
            layers: sizes(config).into_iter().map(|(heads, ffn)| LayerSize { heads, ffn }).collect(),
            parameters: parameters(params)?,
            bytes,
            untuned: *untuned,
            val_select: figures(&validated.held[0], &logits[..validated.selected])?,
            validation: figures(&validated.held[1], &logits)?,
            parity,
            latency: none,
            ratio: none,
        });
    }
    let longest = validated.pairs.iter().max_by_key(|p| p.ref_ids.len()).ok_or_else(no_records)?;
    let times = times(&mut sessions, &Wide::of(longest, all[0].config.n_features), work.plan.timed)?;
    for (step, own) in steps.iter_mut().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, whole)| own / whole).collect();
        step.latency = Spread::of(own.clone()).ok_or_else(no_records)?;
        step.ratio = Spread::of(ratios).ok_or_else(no_records)?;
    }
    let budget = Budgets { auroc: work.plan.budget, missense_auroc: work.plan.missense_budget };
    let kept = budget.choose(&steps).ok_or_else(no_records)?.name.clone();
    for s in &steps {
        let [loss, missense] = s.loss(&steps[0]);
        complain!(
            "prune: {}: AUROC {:.4} (loss {loss:.4}), missense {:.4} (loss {missense:.4}), {} numbers, {} bytes, {:.0} us, ratio {:.3}{}",
            s.name,
            s.val_select.auroc,
            s.val_select.missense_auroc.unwrap_or(f64::NAN),
            s.parameters[1],
            s.bytes[0],
            s.latency.median,
            s.ratio.median,
            if s.name == kept { "; kept" } else { "" }
        );
    }
    let bucket = crate::data::augment::bucket_for(longest.ref_ids.len(), &validated.buckets);
    Ok(Report {
        records: work.plan.records.min(work.dataset.of_split(Split::Train).len()),
        validation: [validated.selected, validated.pairs.len()],
        provider: sessions
            .first()
            .map_or_else(String::new, |s| format!("{} {}", s.spec().runtime, s.spec().provider)),
        timed: [bucket, work.plan.timed],
        budget,
        steps,
        kept,
    })
}

fn no_records() -> Error {
    broken("validation", "no records".into(), "some".into())
}

/// Microseconds of each graph's answers to one row, round by round. In a round every graph answers once, in an
/// order that turns from round to round, so that what else the machine does meets all alike.
fn times(sessions: &mut [Box<dyn Session>], row: &Wide, rounds: usize) -> Result<Vec<Vec<f64>>> {
    let count = sessions.len();
    let mut all = vec![Vec::with_capacity(rounds); count];
    for round in 0..WARM_UP + rounds {
        for n in (0..count).map(|n| (n + round) % count) {
            let began = Instant::now();
            logits_of(&mut *sessions[n], &[row.row()])?;
            if round >= WARM_UP {
                all[n].push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    Ok(all)
}
