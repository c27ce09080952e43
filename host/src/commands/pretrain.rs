//! `locus pretrain`: span-masked tokens on regions without validation or test records.

use std::{collections::BTreeMap, time::Instant};

use locus_genome::ReferencePack;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{Link, Stage, write_model};
use crate::{
    Result,
    data::{masking::Masking, regions::WindowSampler},
    model::Params,
    progress::{JsonLines, Progress},
    stage::{TrainState, Weights, read_checkpoint, write_checkpoint},
    train::{AdamW, AdamWOptions, Schedule, mlm_step},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

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
    let schedule = Schedule { peak: plan.learning_rate, warmup_steps: plan.warmup, total_steps: plan.steps };
    let mut optimizer = AdamW::new(
        AdamWOptions { weight_decay: plan.weight_decay, clip: plan.clip, ..AdamWOptions::default() },
        schedule,
    );
    let last = stage.run.at("pretrain.last");
    let (weights, mut state) = match read_checkpoint(&last, &config, &mut optimizer, &made_from)? {
        Some(found) => found,
        None => (
            Weights { last: Params::new(&config, stage.recipe.seed)?, best: None },
            TrainState::new(made_from.clone()),
        ),
    };
    let params = &weights.last;
    let mut figures = BTreeMap::new();
    if plan.steps > 0 {
        let files = stage.sources();
        let reference = ReferencePack::open(&files.fasta, &files.gff3)?;
        let sampler = WindowSampler::new(&reference, &dataset, plan.track_dropout)?;
        let masking =
            Masking { share: plan.mask_share, span: plan.span.into(), vocab_size: config.vocab_size as u32 };
        let mut log = JsonLines::resume(&stage.run.at("pretrain.jsonl"), state.step)?;
        let mut progress = Progress::new("pretrain", state.step, plan.steps);
        while state.step < plan.steps {
            let began = Instant::now();
            let seed = stage.recipe.seed.wrapping_add(state.step.wrapping_mul(0x9e37_79b9));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (rows, places, targets) =
                sampler.batch(plan.batch, &masking, &stage.recipe.window.buckets, &mut rng);
            let tokens = (rows.rows * rows.tokens) as u64;
            let loss = mlm_step(&config, params, &mut optimizer, &rows, &places, &targets, seed)?;
            let (rate, seconds) = (schedule.rate(state.step), began.elapsed().as_secs_f64());
            let mean = state.took(loss, seconds);
            log.write(&json!({ "stage": "pretrain", "step": state.step, "loss": loss, "learning_rate": rate, "tokens": tokens, "seconds": seconds }))?;
            progress.step(state.step, tokens, &format!("loss {mean:.4}"));
            if state.step.is_multiple_of(CHECKPOINT_EVERY) || state.step == plan.steps {
                write_checkpoint(&last, &weights, &optimizer, &state)?;
            }
        }
    }
    write_model(stage, "pretrained", &config, params, &tokenizer)?;
    figures.extend(state.loss.map(|loss| ("loss".to_owned(), loss)));
    figures.insert("steps".into(), state.step as f64);
    figures.insert("seconds".into(), state.seconds);
    stage.finish(Link::Pretrain, made_from, figures)
}
