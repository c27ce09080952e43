//! `locus finetune`: labelled reference/alternate pairs; the best checkpoint by `val_select`.

use std::{collections::BTreeMap, time::Instant};

use locus_genome::KmerTokenizer;
use serde_json::json;

use super::{Link, Stage, write_model};
use crate::{
    Error, Result,
    data::{BatchPlan, Dataset, Pair, Split, View, augment::training_batch},
    infer, metrics,
    model::{ModelConfig, Params},
    progress::{JsonLines, Progress},
    stage::{TrainState, Weights, read_checkpoint, write_checkpoint},
    train::{AdamW, AdamWOptions, Schedule, pair_step},
};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 50;

struct Validation {
    views: Vec<(&'static str, Vec<Pair>)>,
    labels: Vec<bool>,
    missense: Vec<bool>,
}

impl Validation {
    fn new(dataset: &Dataset, tokenizer: &KmerTokenizer) -> Result<Self> {
        let records = dataset.of_split(Split::ValSelect);
        let labels: Vec<bool> = records.iter().map(|&i| dataset.records[i].pathogenic).collect();
        if labels.iter().all(|&l| l) || !labels.iter().any(|&l| l) {
            return Err(Error::Data {
                what: "val_select".into(),
                got: format!("{} records of one class", labels.len()),
                expected: "pathogenic and benign records".into(),
            });
        }
        let views = [("transcript", View::TRANSCRIPT), ("sequence_only", View::SEQUENCE_ONLY)];
        Ok(Self {
            views: views.map(|(n, v)| (n, infer::view_of(dataset, tokenizer, &records, v))).into(),
            missense: records.iter().map(|&i| dataset.records[i].is_missense()).collect(),
            labels,
        })
    }

    /// AUROC per mode, over all records and over missense.
    fn run(&self, config: &ModelConfig, params: &Params, buckets: &[usize]) -> Result<BTreeMap<String, f64>> {
        let mut figures = BTreeMap::new();
        for (mode, pairs) in &self.views {
            let scores: Vec<f64> =
                infer::logits(config, params, pairs, buckets)?.into_iter().map(f64::from).collect();
            let pick = |keep: &dyn Fn(usize) -> bool| {
                let (s, l): (Vec<f64>, Vec<bool>) =
                    (0..scores.len()).filter(|&i| keep(i)).map(|i| (scores[i], self.labels[i])).unzip();
                metrics::auroc(&s, &l)
            };
            figures.extend(pick(&|_| true).map(|v| (format!("{mode}.auroc"), v)));
            figures.extend(pick(&|i| self.missense[i]).map(|v| (format!("{mode}.missense_auroc"), v)));
        }
        Ok(figures)
    }
}

/// What checkpoints are chosen by: with transcript, the mean of all and missense.
fn choice(figures: &BTreeMap<String, f64>) -> f64 {
    let all = figures.get("transcript.auroc").copied().unwrap_or(0.0);
    (all + figures.get("transcript.missense_auroc").copied().unwrap_or(all)) / 2.0
}

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A stage before it that is not done, or a step that diverges.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.finetune;
    let buckets = &stage.recipe.window.buckets;
    let (dataset, _) = stage.dataset("finetune")?;
    if stage.done_before(Link::Finetune)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Finetune)?;
    let tokenizer = dataset.tokenizer()?;
    let config = stage.config(&dataset)?;
    let train = dataset.of_split(Split::Train);
    let epoch_of = |epoch: u64| BatchPlan::new(&train, plan.batch, plan.augment, stage.recipe.seed, epoch);
    let per_epoch = epoch_of(0).len() as u64;
    if per_epoch == 0 {
        return Err(Error::Data {
            what: "train".into(),
            got: "no record".into(),
            expected: "labelled records".into(),
        });
    }
    let total = per_epoch * plan.epochs;
    let validate_every = per_epoch.div_ceil(plan.validations);
    let validation = Validation::new(&dataset, &tokenizer)?;
    if plan.warmup >= total {
        return Err(Error::Recipe {
            key: "finetune.warmup".into(),
            got: plan.warmup.to_string(),
            expected: format!("fewer than the {total} steps that {} epochs are here", plan.epochs),
        });
    }
    let warmup_steps = plan.warmup.min(total / 4);
    if warmup_steps < plan.warmup {
        eprintln!(
            "finetune: {warmup_steps} steps of warm-up, a quarter of the run, instead of {}",
            plan.warmup
        );
    }
    let schedule = Schedule { peak: plan.learning_rate, warmup_steps, total_steps: total };
    let mut optimizer = AdamW::new(
        AdamWOptions { weight_decay: plan.weight_decay, clip: plan.clip, ..AdamWOptions::default() },
        schedule,
    );
    let last = stage.run.at("finetune.last");
    let (mut weights, mut state) = match read_checkpoint(&last, &config, &mut optimizer, &made_from)? {
        Some(found) => found,
        None => {
            let pretrained = stage.run.at("pretrained/model.safetensors");
            let last = Params::read(&pretrained, &config, stage.recipe.seed)?;
            (Weights { last, best: None }, TrainState::new(made_from.clone()))
        }
    };
    let mut log = JsonLines::resume(&stage.run.at("finetune.jsonl"), state.step)?;
    let mut progress = Progress::new("finetune", state.step, total);
    let mut epoch = (u64::MAX, epoch_of(0));
    while state.step < total {
        let began = Instant::now();
        if epoch.0 != state.step / per_epoch {
            epoch = (state.step / per_epoch, epoch_of(state.step / per_epoch));
        }
        let items = epoch.1.batch((state.step % per_epoch) as usize);
        let (batch, labels) = training_batch(&dataset, &tokenizer, &items, buckets);
        let tokens = (batch.rows.rows * batch.rows.tokens) as u64;
        let seed = stage.recipe.seed.wrapping_add(1 + state.step.wrapping_mul(0x9e37_79b9));
        let loss = pair_step(&config, &weights.last, &mut optimizer, &batch, &labels, seed)?;
        let (rate, seconds) = (schedule.rate(state.step), began.elapsed().as_secs_f64());
        let mean = state.took(loss, seconds);
        log.write(&json!({ "stage": "finetune", "step": state.step, "loss": loss, "learning_rate": rate, "tokens": tokens, "seconds": seconds }))?;
        progress.step(state.step, tokens, &format!("loss {mean:.4}"));
        let validated = state.step.is_multiple_of(validate_every) || state.step == total;
        if validated {
            let figures = validation.run(&config, &weights.last, buckets)?;
            let score = choice(&figures);
            eprintln!("finetune {}/{total} validation {score:.4} {figures:.4?}", state.step);
            log.write(
                &json!({ "stage": "finetune", "step": state.step, "validation": score, "figures": figures }),
            )?;
            if state.best.is_none_or(|(best, _)| score > best) {
                state.best = Some((score, state.step));
                weights.best = Some(weights.last.snapshot()?);
            }
        }
        if validated || state.step.is_multiple_of(CHECKPOINT_EVERY) {
            write_checkpoint(&last, &weights, &optimizer, &state)?;
        }
    }
    let (best, at) = state.best.unwrap_or((0.0, 0));
    write_model(stage, "best", &config, weights.best.as_ref().unwrap_or(&weights.last), &tokenizer)?;
    let figures =
        [("validation", best), ("step", at as f64), ("steps", total as f64), ("seconds", state.seconds)];
    stage.finish(Link::Finetune, made_from, figures.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}
