//! `locus calibrate` of sequences: activation ranges from train, probabilities from validation.

use super::{Link, SequenceStage};
use crate::{
    Result,
    data::Split,
    sequence_model::{Truth, figures, fit, logits, observe, predicted, scale},
    stage::write_json,
};

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A missing checkpoint, or validation records of one class only.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let Some((set, made_from)) = stage.begin(Link::Calibrate)? else { return Ok(()) };
    let (config, params) = stage.best()?;
    let records = set.for_fitting();
    let truth = Truth::of(&set, &records);
    let fitted_on = logits(&config, &params, &stage.encode(&set, &records)?)?;
    let train = set.of_split(Split::Train);
    let calibration = fit(&fitted_on, &truth, scale(&Truth::of(&set, &train)))?;
    let mut all = figures(&predicted(&fitted_on, &calibration), &truth);
    eprintln!("calibrate: {calibration:?}; on {} records {all:.4?}", records.len());
    let step = (train.len() / stage.recipe.calibrate.range_records).max(1);
    let picked: Vec<usize> = train.iter().copied().step_by(step).collect();
    let ranges = observe(&config, &params, &stage.encode(&set, &picked)?)?;
    all.insert("ranges".into(), ranges.len() as f64);
    write_json(&stage.run.at("probability.json"), &calibration)?;
    write_json(&stage.run.at("ranges.json"), &ranges)?;
    stage.finish(Link::Calibrate, made_from, all)
}
