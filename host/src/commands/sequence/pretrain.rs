//! `locus pretrain` of sequences: hidden tokens of the training records.

use super::{Link, SequenceStage};
use crate::{
    Result,
    data::{Split, masking::Masking},
    model::Params,
    sequence_model::Masked,
    train::{Metric, Trainer},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A missing set, or a step that diverges.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let Some((set, made_from)) = stage.begin(Link::Pretrain)? else { return Ok(()) };
    let (config, seed) = (stage.config(&set)?, stage.recipe.seed);
    let new = || Ok(Params::new(&config, seed)?);
    let Some(plan) = &stage.recipe.pretrain else {
        stage.write_model("pretrained", &config, &new()?)?;
        return stage.finish(Link::Pretrain, made_from, [("steps".to_owned(), 0.0)].into());
    };
    let train = set.of_split(Split::Train);
    let batch = plan.train.batch.min(train.len());
    let tokens = &stage.recipe.tokens;
    let masking = Masking {
        share: plan.mask_share,
        span: plan.span.into(),
        vocab_size: config.vocab_size as u32,
        overlap: tokens.k.filter(|_| tokens.stride == 1).unwrap_or(1),
    };
    let objective = Masked::new(&config, (&set, stage.recipe.encoder()?), train, batch, masking, seed);
    let trainer = Trainer {
        stage: "pretrain",
        run: &stage.run,
        inputs: &made_from,
        config: &config,
        seed,
        plan: &plan.train,
        batch,
        steps: objective.steps_per_epoch() * plan.epochs,
        validate_every: 0,
        checkpoint_every: CHECKPOINT_EVERY,
        metric: Metric::lower("loss"),
    };
    let trained = trainer.train(&objective, new)?;
    stage.write_model("pretrained", &config, &trained.weights.last)?;
    stage.finish(Link::Pretrain, made_from, trained.figures())
}
