//! `locus finetune` of sequences: labelled records; the best checkpoint by validation.

use super::{Link, SequenceStage};
use crate::{
    Result,
    data::Split,
    model::Params,
    nn::ClassLoss,
    sequence::{Balance, Target, balance::class_weights},
    sequence_model::{Labelled, counted},
    train::{Metric, Trainer},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A stage before it that is not done, or a step that diverges.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let set = stage.set("finetune")?;
    if stage.done_before(Link::Finetune)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Finetune)?;
    let plan = &stage.recipe.finetune;
    let (config, seed) = (stage.config(&set)?, stage.recipe.seed);
    let (train, validation) = (set.of_split(Split::Train), set.of_split(Split::ValSelect));
    let class = |&i: &usize| if let Target::Class(c) = set.records[i].target { c } else { 0 };
    let weights = match plan.balance {
        Balance::Weights => class_weights(&train.iter().map(class).collect::<Vec<_>>()),
        _ => Vec::new(),
    };
    let loss = ClassLoss { smoothing: plan.smoothing, focal: plan.focal, weights };
    let batch = plan.train.batch.min(train.len());
    let objective = Labelled::new(
        &config,
        (&set, stage.recipe.encoder()?),
        (train.clone(), validation),
        batch,
        (plan.balance, loss),
        plan.augment,
        seed,
    )?;
    let steps_per_epoch = objective.steps_per_epoch();
    let metric = match config.labels.len() {
        1 => Metric::higher("spearman"),
        2 => Metric::higher("auroc"),
        _ => Metric::lower("log_loss"),
    };
    let trainer = Trainer {
        stage: "finetune",
        run: &stage.run,
        inputs: &made_from,
        config: &config,
        seed,
        plan: &plan.train,
        batch,
        steps: steps_per_epoch * plan.epochs,
        validate_every: ((steps_per_epoch as f64 / plan.validations).ceil() as u64).max(1),
        checkpoint_every: CHECKPOINT_EVERY,
        metric,
    };
    let pretrained = stage.run.at("pretrained/model.safetensors");
    let start = || {
        let params = Params::read(&pretrained, &config, seed)?;
        if config.counted > 0 {
            let rows = stage.encode(&set, &train)?;
            let classes: Vec<usize> = train.iter().map(class).map(usize::from).collect();
            counted::count(&params, &config, &stage.recipe.tokenizer()?, &rows, &classes)?;
        }
        Ok(params)
    };
    let trained = trainer.train(&objective, start)?;
    stage.write_model("best", &config, trained.best())?;
    stage.finish(Link::Finetune, made_from, trained.figures())
}
