//! `locus finetune` of sequences: labelled records; the best checkpoint by validation.

use std::collections::BTreeMap;

use super::{Link, SequenceStage};
use crate::{
    Error, Result,
    data::Split,
    model::{ModelConfig, Params},
    nn::ClassLoss,
    sequence::{Balance, SequenceSet, Target, balance::class_weights},
    sequence_model::{Labelled, Refit, Wide, counted},
    train::{Metric, Objective, TrainPlan, Trained, Trainer},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A stage before it that is not done, or a step that diverges.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let Some((set, made_from)) = stage.begin(Link::Finetune)? else { return Ok(()) };
    let plan = &stage.recipe.finetune;
    let (config, seed) = (stage.config(&set)?, stage.recipe.seed);
    let (train, validation) = (set.of_split(Split::Train), set.of_split(Split::ValSelect));
    let class = |&i: &usize| if let Target::Class(c) = set.records[i].target { c } else { 0 };
    plan.augment.check_frame(&set)?;
    let ranks = stage.run.ranks();
    if plan.balance.method == Balance::Smote && ranks.world > 1 {
        return Err(Error::Ranks {
            got: format!("{} ranks and finetune.balance.method = \"smote\"", ranks.world),
            expected: "one rank: the samples are made up from the states of one model".into(),
        });
    }
    let weights = match plan.balance.method {
        Balance::Weights => class_weights(&train.iter().map(class).collect::<Vec<_>>()),
        _ => Vec::new(),
    };
    let loss = ClassLoss { smoothing: plan.smoothing, focal: plan.focal, weights };
    let batch = plan.train.batch.min(train.len());
    let wide = match &stage.recipe.tokens.wide {
        None => None,
        Some(plan) => Some(Wide::fit(plan, &config, (&set, &stage.recipe.encoder()?), &train, seed)?),
    };
    let objective = Labelled::new(
        &config,
        (&set, stage.recipe.encoder()?),
        (train.clone(), validation.clone()),
        batch,
        (plan.balance.method, loss.clone()),
        plan.augment.clone(),
        seed,
    )?
    .beside(wide.as_ref().map(Wide::held_out));
    let steps_per_epoch = objective.steps_per_epoch();
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
        metric: metric(config.labels.len()),
    };
    let pretrained = stage.run.at("pretrained/model.safetensors");
    let start = || {
        let params = Params::read(&pretrained, &config, seed)?;
        if config.counted > 0 {
            let rows = stage.encode(&set, &train)?;
            let classes: Vec<usize> = train.iter().map(class).map(usize::from).collect();
            counted::count(&params, &config, &stage.recipe.tokenizer()?, &rows, &classes)?;
        }
        if let Some(wide) = &wide {
            wide.set(&params)?;
        }
        Ok(params)
    };
    let trained = trainer.train(&objective, start)?;
    let mut figures = trained.figures();
    if plan.balance.method == Balance::Smote {
        let refitted =
            refit(stage, &set, (&config, trained.best()), (&train, &validation), loss, &made_from)?;
        figures.extend(refitted.figures().into_iter().map(|(name, value)| (format!("refit.{name}"), value)));
        stage.write_model("best", &config, refitted.best())?;
    } else {
        stage.write_model("best", &config, trained.best())?;
    }
    stage.finish(Link::Finetune, made_from, figures)
}

/// What checkpoints are chosen by where the recipe does not say.
fn metric(labels: usize) -> Metric {
    match labels {
        1 => Metric::higher("spearman"),
        2 => Metric::higher("auroc"),
        _ => Metric::lower("log_loss"),
    }
}

/// Trains the head anew from where it is, on real and made-up states of the chosen checkpoint's encoder; a run that was
/// stopped goes on.
fn refit(
    stage: &SequenceStage,
    set: &SequenceSet,
    (config, params): (&ModelConfig, &Params),
    (train, validation): (&[usize], &[usize]),
    loss: ClassLoss,
    made_from: &BTreeMap<String, String>,
) -> Result<Trained> {
    let (plan, seed) = (&stage.recipe.finetune, stage.recipe.seed);
    let objective = Refit::new(
        (config, params),
        (set, &stage.recipe.encoder()?),
        (train, validation),
        (plan.balance, loss),
        plan.train.batch,
        seed,
    )?;
    let steps = objective.steps_per_epoch() * plan.balance.epochs();
    complain!(
        "refit: the head on {} records and {} samples made up by SMOTE; before it {:.4?}",
        train.len(),
        objective.made_up(),
        objective.validate(&params.frozen())?
    );
    let mut freeze = plan.train.freeze.clone();
    freeze.extend(Refit::frozen(params));
    let train_plan = TrainPlan {
        freeze,
        freeze_layers: None,
        warmup: plan.train.warmup.min(steps / 4),
        accumulate: 1,
        ..plan.train.clone()
    };
    let trainer = Trainer {
        stage: "refit",
        run: &stage.run,
        inputs: made_from,
        config,
        seed,
        plan: &train_plan,
        batch: objective.batch_size(),
        steps,
        validate_every: objective.steps_per_epoch(),
        checkpoint_every: CHECKPOINT_EVERY,
        metric: metric(config.labels.len()),
    };
    trainer.train(&objective, || Ok(params.snapshot()?))
}
