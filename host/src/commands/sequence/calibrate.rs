//! `locus calibrate` of sequences: activation ranges from train, probabilities from validation.

use super::{
    Link, SequenceStage,
    export::{Held, engine_logits, graphs},
};
use crate::{
    Result,
    commands::quantise::{Wanted, quantise},
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
    let all = figures(&predicted(&fitted_on, &calibration), &truth);
    complain!("calibrate: {calibration:?}; on {} records {all:.4?}", records.len());
    let step = (train.len() / stage.recipe.calibrate.range_records).max(1);
    let picked: Vec<usize> = train.iter().copied().step_by(step).collect();
    let seen_on = stage.encode(&set, &picked)?;
    let select = set.of_split(Split::ValSelect);
    let rows = stage.encode(&set, &select)?;
    let held = Held {
        truth: Truth::of(&set, &select),
        calibration: calibration.clone(),
        labels: config.labels.len(),
    };
    let wanted = Wanted {
        name: &stage.recipe.name,
        config: &config,
        plan: &stage.recipe.quantise,
        loss: stage.recipe.export.int8_budget,
        samples: seen_on.len(),
        graphs: &|fp32, int8| graphs(stage, &config, fp32, int8),
        logits: &|session| Ok(engine_logits(session, &rows)?.concat()),
        records: rows.len(),
        cost: &|float, whole| held.cost(float, whole),
    };
    quantise(stage, &wanted, |params| observe(&config, params, &seen_on))?;
    write_json(&stage.run.at("probability.json"), &calibration)?;
    stage.finish(Link::Calibrate, made_from, all)
}
