//! `locus export` of sequences: ONNX in FP32 and INT8, proved against candle before anything is written.

use std::collections::BTreeMap;

use locus_calibration::{Budget, Cost, flips, max_abs_error};
use locus_engine::{Graphs, Inputs, Row, Session, logits_of};
use locus_firmware_config::manifest::{GoldenSequence, SequenceCalibration};
use locus_genome::EncodedSequence;

use super::{Link, SequenceStage};
use crate::{
    Result,
    commands::export::{
        Exported, HALF, Measured, broken, contract, drawn, half_session, near_int8, sessions,
    },
    data::Split,
    model::ModelConfig,
    recipe::SequenceRecipe,
    sequence::SequenceSet,
    sequence_model::{Truth, figures, logits, predicted},
    stage::read_json,
};

/// Rows per batch that a bundle's sessions take at most: rows are long.
pub(super) const MAX_BATCH: u32 = 16;

pub(in crate::commands) fn engine_logits(
    session: &mut dyn Session,
    sequences: &[EncodedSequence],
) -> Result<Vec<Vec<f32>>> {
    let rows: Vec<Row<'_>> = sequences.iter().map(|s| Row::sequence(&s.ids, &s.track)).collect();
    Ok(logits_of(session, &rows)?)
}

/// The figure that quantisation may cost something of; more of it is better.
const fn contract_metric(labels: usize) -> &'static str {
    match labels {
        1 => "spearman",
        2 => "auroc",
        _ => "accuracy",
    }
}

/// The graphs of a recipe's model for a session.
pub(super) fn graphs(
    stage: &SequenceStage,
    config: &ModelConfig,
    fp32: Option<Vec<u8>>,
    int8: Option<Vec<u8>>,
) -> Graphs {
    let buckets: Vec<u32> = stage.recipe.tokens.buckets.iter().map(|&b| b as u32).collect();
    Graphs::from_onnx(fp32, int8, &buckets, MAX_BATCH, config.labels.len() as u32, 0)
        .reading(Inputs::Sequence)
}

/// Records that graphs are held against.
pub(in crate::commands) struct Held {
    pub(super) truth: Truth,
    pub(super) calibration: SequenceCalibration,
    pub(super) labels: usize,
}

impl Held {
    fn figures(&self, logits: &[Vec<f32>]) -> BTreeMap<String, f64> {
        figures(&predicted(logits, &self.calibration), &self.truth)
    }

    /// Share of records of another class; none where a value is answered.
    fn flips(&self, float: &[Vec<f32>], int8: &[Vec<f32>]) -> f64 {
        let most = |p: &Vec<f64>| (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b]));
        let classes = |logits| predicted(logits, &self.calibration).iter().map(most).collect::<Vec<_>>();
        if self.labels < 2 { 0.0 } else { flips(&classes(float), &classes(int8)) }
    }

    /// Figures of both, and the share of other classes.
    pub(in crate::commands) fn measured(&self, float: &[Vec<f32>], int8: &[Vec<f32>]) -> Measured {
        Measured { fp32: self.figures(float), int8: self.figures(int8), flips: self.flips(float, int8) }
    }

    /// What `int8` costs against `float`, both row after row.
    pub(super) fn cost(&self, float: &[f32], int8: &[f32]) -> Cost {
        let rows =
            |logits: &[f32]| logits.chunks(self.labels.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let (float, int8) = (rows(float), rows(int8));
        let metric =
            |logits| self.figures(logits).get(contract_metric(self.labels)).copied().unwrap_or(f64::NAN);
        Cost { loss: metric(&float) - metric(&int8), flips: self.flips(&float, &int8) }
    }
}

/// What a contract is measured on: all of validation.
pub(in crate::commands) fn held_out(
    recipe: &SequenceRecipe,
    set: &SequenceSet,
    calibration: SequenceCalibration,
    labels: usize,
) -> Result<(Vec<EncodedSequence>, Held)> {
    let mut validation = set.of_split(Split::ValSelect);
    validation.extend(set.of_split(Split::ValFit));
    let encoder = recipe.encoder()?;
    let encode = |&i: &usize| Ok(encoder.encode(&set.sequence(i)?)?);
    let rows = validation.iter().map(encode).collect::<Result<_>>()?;
    Ok((rows, Held { truth: Truth::of(set, &validation), calibration, labels }))
}

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A missing stage, no engine, graphs that differ from candle, or INT8 over its budget: nothing is written.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let plan = &stage.recipe.export;
    let Some((set, made_from)) = stage.begin(Link::Export)? else { return Ok(()) };
    let (config, params) = stage.best()?;
    let calibration: SequenceCalibration = read_json(&stage.run.at("probability.json"))?;
    let drawn = drawn(&stage.run, &config)?;
    let both = graphs(stage, &config, Some(drawn.fp32.clone()), Some(drawn.int8.clone()));
    let (mut float, mut whole) = sessions(stage, &both)?;

    let train = set.of_split(Split::Train);
    let spread =
        |n: usize| train.iter().copied().step_by((train.len() / n).max(1)).take(n).collect::<Vec<_>>();
    let shown = stage.encode(&set, &spread(plan.parity_windows))?;
    let difference = max_abs_error(
        &logits(&config, &params, &shown)?.concat(),
        &engine_logits(&mut *float, &shown)?.concat(),
    );
    if difference.is_nan() || difference > plan.parity_tolerance {
        let expected = format!("at most {}", plan.parity_tolerance);
        return Err(broken("parity of fp32.onnx with candle", difference.to_string(), expected));
    }
    let (rows, held) = held_out(&stage.recipe, &set, calibration, config.labels.len())?;
    let (f, q) = (engine_logits(&mut *float, &rows)?, engine_logits(&mut *whole, &rows)?);
    let budget = Budget { loss: plan.int8_budget, flips: stage.recipe.quantise.flips_budget };
    let metric = contract_metric(held.labels);
    let contract = contract(&drawn.table, "validation", metric, &budget, held.measured(&f, &q))?;
    let mut half = half_session(stage, &drawn, |int8| graphs(stage, &config, None, Some(int8)))?;
    let h = engine_logits(&mut *half, &rows)?.concat();
    let from_int8 = near_int8(max_abs_error(&q.concat(), &h), &held.cost(&f.concat(), &h), &budget)?;
    let golden_rows = stage.encode(&set, &spread(plan.golden))?;
    let (gf, gq) = (engine_logits(&mut *float, &golden_rows)?, engine_logits(&mut *whole, &golden_rows)?);
    let int8_difference = max_abs_error(&gf.concat(), &gq.concat());
    let golden: Vec<GoldenSequence> = golden_rows
        .into_iter()
        .zip(gf.into_iter().zip(gq))
        .map(|(s, (logits_fp32, logits_int8))| GoldenSequence {
            ids: s.ids,
            track: s.track,
            logits_fp32,
            logits_int8,
        })
        .collect();
    complain!(
        "export: parity {difference:.2e}; INT8 less FP32 on validation {:.5?}, {:.3} % of classes changed; {} and {} bytes",
        contract.difference,
        100.0 * contract.flips.unwrap_or(f64::NAN),
        drawn.fp32.len(),
        drawn.int8.len()
    );
    let exported = Exported {
        parity: BTreeMap::from([("sequence".to_owned(), difference), (HALF.to_owned(), from_int8)]),
        provider: float.spec().provider.clone(),
        contract,
        golden,
        int8_difference,
    };
    let figures = drawn.write(&stage.run, &exported)?;
    stage.finish(Link::Export, made_from, figures)
}
