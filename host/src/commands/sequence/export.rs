//! `locus export` of sequences: ONNX in FP32 and INT8, proved against candle before anything is written.

use std::collections::BTreeMap;

use locus_calibration::max_abs_error;
use locus_engine::{Graphs, Inputs, Row, Session, logits_of};
use locus_firmware_config::manifest::{AccuracyContract, GoldenSequence, SequenceCalibration};
use locus_genome::EncodedSequence;

use super::{Link, SequenceStage};
use crate::{
    Result,
    commands::export::{Exported, broken, drawn, sessions},
    data::Split,
    sequence_model::{Truth, figures, logits, predicted},
    stage::read_json,
};

/// Rows per batch that a bundle's sessions take at most: rows are long.
pub(super) const MAX_BATCH: u32 = 16;

fn engine_logits(session: &mut dyn Session, sequences: &[EncodedSequence]) -> Result<Vec<Vec<f32>>> {
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

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A missing stage, no engine, graphs that differ from candle, or INT8 over its budget: nothing is written.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let plan = &stage.recipe.export;
    let Some((set, made_from)) = stage.begin(Link::Export)? else { return Ok(()) };
    let (config, params) = stage.best()?;
    let calibration: SequenceCalibration = read_json(&stage.run.at("probability.json"))?;
    let graphs = drawn(&stage.run, &config, stage.recipe.calibrate.range_records)?;
    let buckets: Vec<u32> = stage.recipe.tokens.buckets.iter().map(|&b| b as u32).collect();
    let labels = config.labels.len();
    let onnx = |fp32, int8| Graphs::from_onnx(Some(fp32), Some(int8), &buckets, MAX_BATCH, labels as u32, 0);
    let onnx = onnx(graphs.fp32.clone(), graphs.int8.clone()).reading(Inputs::Sequence);
    let (mut float, mut whole) = sessions(stage, &onnx)?;

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
    let mut validation = set.of_split(Split::ValSelect);
    validation.extend(set.of_split(Split::ValFit));
    let (rows, truth) = (stage.encode(&set, &validation)?, Truth::of(&set, &validation));
    let of = |session: &mut dyn Session| -> Result<BTreeMap<String, f64>> {
        Ok(figures(&predicted(&engine_logits(session, &rows)?, &calibration), &truth))
    };
    let (fp32_figures, int8_figures) = (of(&mut *float)?, of(&mut *whole)?);
    let lost: BTreeMap<String, f64> = fp32_figures
        .iter()
        .map(|(k, v)| (k.clone(), int8_figures.get(k).copied().unwrap_or(0.0) - v))
        .collect();
    let metric = contract_metric(labels);
    let loss = -lost.get(metric).copied().unwrap_or(f64::NAN);
    if loss.is_nan() || loss > plan.int8_budget {
        let expected = format!("at most {}", plan.int8_budget);
        return Err(broken(&format!("{metric} that INT8 loses on validation"), loss.to_string(), expected));
    }
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
    eprintln!(
        "export: parity {difference:.2e}; INT8 less FP32 on validation {lost:.5?}; {} and {} bytes",
        graphs.fp32.len(),
        graphs.int8.len()
    );
    let exported = Exported {
        parity: BTreeMap::from([("sequence".to_owned(), difference)]),
        provider: float.spec().provider.clone(),
        contract: AccuracyContract {
            data: "validation".into(),
            metric: metric.into(),
            fp32: fp32_figures,
            int8: int8_figures,
            difference: lost,
            budget: plan.int8_budget,
        },
        golden,
        int8_difference,
    };
    let figures = graphs.write(&stage.run, &exported, ("int8_loss", loss))?;
    stage.finish(Link::Export, made_from, figures)
}
