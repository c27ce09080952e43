//! The loop of every stage that trains.

use std::{collections::BTreeMap, time::Instant};

use serde_json::json;

use super::{AdamW, AdamWOptions, Gradients, Metric, Objective, Schedule, TrainPlan};
use crate::{
    Error, Result,
    model::{Context, ModelConfig, Params},
    progress::{JsonLines, Progress},
    stage::{Run, TrainState, Weights, read_checkpoint, write_checkpoint},
};

/// Trains a model for one stage: checkpoints in `STAGE.last`, a log in `STAGE.jsonl`.
pub struct Trainer<'a> {
    /// Name of the stage.
    pub stage: &'static str,
    /// The output folder.
    pub run: &'a Run,
    /// Digests of all that the stage is made from: a checkpoint of others is not gone on with.
    pub inputs: &'a BTreeMap<String, String>,
    /// The model.
    pub config: &'a ModelConfig,
    /// Seed of dropout.
    pub seed: u64,
    /// What the recipe says.
    pub plan: &'a TrainPlan,
    /// Rows of a step: the plan's, or all that there are where these are fewer.
    pub batch: usize,
    /// Steps in all.
    pub steps: u64,
    /// Steps between validations; the last step is validated too. 0 = none.
    pub validate_every: u64,
    /// Steps between checkpoints; every validation leaves one too.
    pub checkpoint_every: u64,
    /// What checkpoints are chosen by, where the plan does not say.
    pub metric: Metric,
}

/// What training left.
pub struct Trained {
    /// Last and best parameters.
    pub weights: Weights,
    /// Where it ended.
    pub state: TrainState,
}

impl Trained {
    /// Parameters of the best validation; the last ones where there was none.
    pub const fn best(&self) -> &Params {
        match &self.weights.best {
            Some(best) => best,
            None => &self.weights.last,
        }
    }

    /// Figures for the stage's record.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let mut figures = BTreeMap::from([
            ("steps".to_owned(), self.state.step as f64),
            ("seconds".to_owned(), self.state.seconds),
        ]);
        figures.extend(self.state.loss.map(|loss| ("loss".to_owned(), loss)));
        if let Some((best, step)) = self.state.best {
            figures.extend([("validation".to_owned(), best), ("step".to_owned(), step as f64)]);
        }
        figures
    }
}

/// What one step did.
struct Step {
    loss: f32,
    norm: f64,
    tokens: u64,
    figures: BTreeMap<String, f64>,
}

impl Trainer<'_> {
    /// Trains from the last checkpoint, or from `start`.
    ///
    /// # Errors
    /// A recipe that does not fit the model, [`Error::Diverged`], or files that cannot be read or written.
    pub fn train<O: Objective>(
        &self,
        objective: &O,
        start: impl FnOnce() -> Result<Params>,
    ) -> Result<Trained> {
        let table = format!("{}.train", self.stage);
        let schedule = self.schedule(&table)?;
        let mut optimizer = AdamW::new(
            AdamWOptions {
                weight_decay: self.plan.weight_decay,
                clip: self.plan.clip,
                ..AdamWOptions::default()
            },
            schedule,
        );
        let last = self.run.at(&format!("{}.last", self.stage));
        let (mut weights, mut state) = match read_checkpoint(&last, self.config, &mut optimizer, self.inputs)?
        {
            Some(found) => found,
            None => (Weights { last: start()?, best: None }, TrainState::new(self.inputs.clone())),
        };
        let layers = self.config.num_hidden_layers;
        self.plan.check_freeze(&table, &weights.last, layers)?;
        weights.last = weights.last.freeze(|name| self.plan.freezes(name));
        optimizer.set_rates(weights.last.iter().map(|(name, _)| (name, self.plan.rate_of(name, layers))));
        let mut log = JsonLines::resume(&self.run.at(&format!("{}.jsonl", self.stage)), state.step)?;
        let mut progress = Progress::new(self.stage, state.step, self.steps);
        while state.step < self.steps && !state.stopped {
            let began = Instant::now();
            let rate = schedule.rate(state.step);
            let step = self.step(objective, &weights.last, &mut optimizer, state.step)?;
            let seconds = began.elapsed().as_secs_f64();
            let mean = state.took(step.loss, seconds);
            let mut line = json!({
                "stage": self.stage, "step": state.step, "loss": step.loss, "learning_rate": rate,
                "norm": step.norm, "tokens": step.tokens, "seconds": seconds,
            });
            if !step.figures.is_empty() {
                line["figures"] = json!(step.figures);
            }
            log.write(&line)?;
            progress.step(state.step, step.tokens, &format!("loss {mean:.4}"));
            let at = state.step;
            let due = |every: u64| every > 0 && (at == self.steps || at.is_multiple_of(every));
            let validated = due(self.validate_every);
            if validated {
                let figures = objective.validate(&weights.last.frozen())?;
                self.judge(&mut weights, &mut state, &figures, &mut log)?;
            }
            if validated || due(self.checkpoint_every) {
                write_checkpoint(&last, &weights, &optimizer, &state)?;
            }
        }
        Ok(Trained { weights, state })
    }

    /// The learning rate over the steps.
    fn schedule(&self, table: &str) -> Result<Schedule> {
        let plan = self.plan;
        if self.steps > 0 && plan.warmup >= self.steps {
            return Err(Error::Recipe {
                key: format!("{table}.warmup"),
                got: plan.warmup.to_string(),
                expected: format!("fewer than the {} steps of this run", self.steps),
            });
        }
        let warmup_steps = plan.warmup.min(self.steps / 4);
        if warmup_steps < plan.warmup && self.steps > 0 {
            eprintln!(
                "{}: {warmup_steps} steps of warm-up, a quarter of the run, instead of {}",
                self.stage, plan.warmup
            );
        }
        Ok(Schedule { peak: plan.learning_rate, warmup_steps, total_steps: self.steps })
    }

    /// Runs the micro-batches of one step and moves the parameters.
    fn step<O: Objective>(
        &self,
        objective: &O,
        params: &Params,
        optimizer: &mut AdamW,
        step: u64,
    ) -> Result<Step> {
        let parts = self.plan.accumulate.clamp(1, self.batch.max(1));
        let mut gradients = Gradients::default();
        let (mut loss, mut weight, mut tokens) = (0.0, 0.0, 0);
        let mut figures = BTreeMap::new();
        for part in 0..parts {
            let rows = self.batch * part / parts..self.batch * (part + 1) / parts;
            let batch = objective.batch(step, rows)?;
            let seed =
                self.seed.wrapping_add(1 + (step * parts as u64 + part as u64).wrapping_mul(0x9e37_79b9));
            let context = Context::train(self.config.hidden_dropout_prob, seed);
            let part = objective.loss(params, &batch, &context)?;
            tokens += part.tokens;
            if part.weight == 0.0 {
                continue;
            }
            let value = f64::from(part.mean.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(self.diverged(step, format!("loss {value}"), objective.records(&batch)));
            }
            gradients.add(params, &part.mean.backward()?, part.weight)?;
            loss += value * part.weight;
            weight += part.weight;
            for (name, value) in part.figures {
                *figures.entry(name).or_insert(0.0) += value * part.weight;
            }
        }
        figures.values_mut().for_each(|v| *v /= weight);
        let norm = optimizer.update(params, &gradients.mean()?)?;
        if !norm.is_finite() {
            return Err(self.diverged(step, format!("gradient norm {norm}"), Vec::new()));
        }
        Ok(Step { loss: (loss / weight) as f32, norm, tokens, figures })
    }

    fn diverged(&self, step: u64, what: String, records: Vec<String>) -> Error {
        Error::Diverged { stage: self.stage, step: step + 1, what, records }
    }

    /// Keeps the parameters where they are the best so far, and says whether it is enough.
    fn judge(
        &self,
        weights: &mut Weights,
        state: &mut TrainState,
        figures: &BTreeMap<String, f64>,
        log: &mut JsonLines,
    ) -> Result<()> {
        let metric = self.plan.metric.as_ref().unwrap_or(&self.metric);
        let Some(&score) = figures.get(&metric.name) else {
            return Err(Error::Recipe {
                key: format!("{}.train.metric", self.stage),
                got: metric.name.clone(),
                expected: format!("one of {}", figures.keys().cloned().collect::<Vec<_>>().join(", ")),
            });
        };
        eprintln!(
            "{} {}/{} validation {} {score:.4} {figures:.4?}",
            self.stage, state.step, self.steps, metric.name
        );
        log.write(&json!({
            "stage": self.stage, "step": state.step, "validation": score, "metric": metric.name,
            "figures": figures,
        }))?;
        if metric.improves(score, state.best.map(|(best, _)| best)) {
            state.best = Some((score, state.step));
            state.worse = 0;
            weights.best = Some(weights.last.snapshot()?);
        } else {
            state.worse += 1;
            state.stopped = self.plan.patience > 0 && state.worse >= self.plan.patience;
        }
        if state.stopped {
            eprintln!(
                "{}: stopped at step {}: {} was not better in {} validations",
                self.stage, state.step, metric.name, state.worse
            );
        }
        Ok(())
    }
}
