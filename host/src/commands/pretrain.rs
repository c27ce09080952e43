//! `locus pretrain`: span-masked tokens on regions without validation or test records.

use std::{collections::BTreeMap, time::Instant};

use locus_genome::ReferencePack;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{Stage, inputs, write_model};
use crate::{
    Result,
    data::{masking::Masking, regions::WindowSampler},
    model::Params,
    progress::{JsonLines, Progress},
    stage::{TrainState, read_checkpoint, write_checkpoint},
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
    let (dataset, digest) = stage.dataset("pretrain")?;
    let made_from =
        inputs([("recipe", stage.recipe.digest_of(&(plan, &stage.recipe.model))), ("dataset", digest)]);
    if stage.run.done("pretrain", &made_from).is_some() {
        eprintln!("pretrain: done before");
        return Ok(());
    }
    let tokenizer = dataset.tokenizer()?;
    let config = stage.config(&dataset)?;
    let schedule = Schedule { peak: plan.learning_rate, warmup_steps: plan.warmup, total_steps: plan.steps };
    let mut optimizer = AdamW::new(
        AdamWOptions { weight_decay: plan.weight_decay, clip: plan.clip, ..AdamWOptions::default() },
        schedule,
    );
    let last = stage.run.at("pretrain.last");
    let (params, mut state) = match read_checkpoint(&last, &config, &mut optimizer, &made_from)? {
        Some(found) => found,
        None => (
            Params::new(&config, stage.recipe.seed)?,
            TrainState { inputs: made_from.clone(), ..TrainState::default() },
        ),
    };
    let mut figures = BTreeMap::new();
    if plan.steps > 0 {
        let files = stage.sources();
        let reference = ReferencePack::open(&files.fasta, &files.gff3)?;
        let sampler = WindowSampler::new(&reference, &dataset, plan.track_dropout)?;
        let masking =
            Masking { share: plan.mask_share, span: plan.span.into(), vocab_size: config.vocab_size as u32 };
        let mut log = JsonLines::open(&stage.run.at("pretrain.jsonl"))?;
        let mut progress = Progress::new("pretrain", state.step, plan.steps);
        let mut smooth = None;
        while state.step < plan.steps {
            let began = Instant::now();
            let seed = stage.recipe.seed.wrapping_add(state.step.wrapping_mul(0x9e37_79b9));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (rows, places, targets) =
                sampler.batch(plan.batch, &masking, &stage.recipe.window.buckets, &mut rng);
            let tokens = (rows.rows * rows.tokens) as u64;
            let loss = mlm_step(&config, &params, &mut optimizer, &rows, &places, &targets, seed)?;
            let mean = smooth.map_or(f64::from(loss), |s: f64| 0.98 * s + 0.02 * f64::from(loss));
            smooth = Some(mean);
            let rate = schedule.rate(state.step);
            state.step += 1;
            state.seconds += began.elapsed().as_secs_f64();
            log.write(&json!({ "stage": "pretrain", "step": state.step, "loss": loss, "learning_rate": rate, "tokens": tokens, "seconds": began.elapsed().as_secs_f64() }))?;
            progress.step(state.step, tokens, &format!("loss {mean:.4}"));
            if state.step.is_multiple_of(CHECKPOINT_EVERY) || state.step == plan.steps {
                write_checkpoint(&last, &params, &optimizer, &state)?;
            }
        }
        figures.insert("loss".into(), smooth.unwrap_or(f64::NAN));
    }
    write_model(stage, "pretrained", &config, &params, &tokenizer)?;
    figures.insert("steps".into(), state.step as f64);
    figures.insert("seconds".into(), state.seconds);
    figures.retain(|_, v| v.is_finite());
    stage.run.finish("pretrain", made_from, figures)
}
