//! `locus pretrain`: span-masked tokens on regions without validation or test records.

use std::{collections::BTreeMap, ops::Range};

use candle_core::Result as ModelResult;
use locus_genome::ReferencePack;

use super::{Link, Stage, write_model};
use crate::{
    Result,
    data::{masking::Masking, regions::WindowSampler},
    model::{Context, MlmHead, ModelConfig, Params, Rows},
    nn::cross_entropy,
    train::{Loss, Metric, Objective, Trainer},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

struct MaskedTokens<'a> {
    sampler: &'a WindowSampler<'a>,
    masking: Masking,
    config: &'a ModelConfig,
    buckets: &'a [usize],
    seed: u64,
    /// Windows per step.
    batch: usize,
}

impl Objective for MaskedTokens<'_> {
    /// Rows, hidden places and their true tokens.
    type Batch = (Rows, Vec<u32>, Vec<u32>);

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
        let first = step * self.batch as u64;
        let windows = first + rows.start as u64..first + rows.end as u64;
        Ok(self.sampler.batch(windows, &self.masking, self.buckets, self.seed))
    }

    fn loss(
        &self,
        params: &Params,
        (rows, places, targets): &Self::Batch,
        context: &Context<'_>,
    ) -> ModelResult<Loss> {
        let logits = MlmHead::new(self.config, params).forward(rows, places, context)?;
        let tokens = (rows.rows * rows.tokens) as u64;
        Ok(Loss::new(cross_entropy(&logits, targets)?, targets.len() as f64, tokens))
    }

    fn validate(&self, _: &Params) -> Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }
}

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A missing dataset, another reference, or a step that diverges.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.pretrain;
    let (dataset, _) = stage.dataset("pretrain")?;
    if stage.done_before(Link::Pretrain)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Pretrain)?;
    let tokenizer = dataset.tokenizer()?;
    let config = stage.config(&dataset)?;
    let mut figures = BTreeMap::from([("steps".to_owned(), 0.0)]);
    let params = if plan.steps > 0 {
        let files = stage.sources();
        let reference = ReferencePack::open(&files.fasta, &files.gff3)?;
        let objective = MaskedTokens {
            sampler: &WindowSampler::new(&reference, &dataset, plan.track_dropout)?,
            masking: Masking {
                share: plan.mask_share,
                span: plan.span.into(),
                vocab_size: config.vocab_size as u32,
            },
            config: &config,
            buckets: &stage.recipe.window.buckets,
            seed: stage.recipe.seed,
            batch: plan.train.batch,
        };
        let trainer = Trainer {
            stage: "pretrain",
            run: &stage.run,
            inputs: &made_from,
            config: &config,
            seed: stage.recipe.seed,
            plan: &plan.train,
            batch: plan.train.batch,
            steps: plan.steps,
            validate_every: 0,
            checkpoint_every: CHECKPOINT_EVERY,
            metric: Metric::lower("loss"),
        };
        let trained = trainer.train(&objective, || Ok(Params::new(&config, stage.recipe.seed)?))?;
        figures.extend(trained.figures());
        trained.weights.last
    } else {
        Params::new(&config, stage.recipe.seed)?
    };
    write_model(stage, "pretrained", &config, &params, &tokenizer)?;
    stage.finish(Link::Pretrain, made_from, figures)
}
