//! The loop of every stage that trains.

use std::{collections::BTreeMap, ops::Range, thread, time::Instant};

use sha2::{Digest, Sha256};

use super::{
    AdamW, AdamWOptions, Collective, Gradients, LossScale, Metric, Objective, Precision, Schedule, TrainPlan,
    collective,
    loader::{Batches, load},
    records::Records,
};
use crate::{
    Error, Result, device,
    model::{Context, ModelConfig, Params},
    nn,
    stage::{Run, TrainState, Weights, read_checkpoint, write_checkpoint},
};

/// Trains a model for one stage: checkpoints in `STAGE.last`, a log in `STAGE.jsonl`, event files in
/// `tensorboard/STAGE`. Of several ranks the first one alone validates and writes.
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
            None => self.weights.shown(),
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
pub(super) struct Step {
    pub(super) loss: f32,
    pub(super) norm: f64,
    pub(super) tokens: u64,
    pub(super) figures: BTreeMap<String, f64>,
}

impl Trainer<'_> {
    /// Trains from the last checkpoint, or from `start`.
    ///
    /// # Errors
    /// A recipe that does not fit the model, [`Error::Diverged`], [`Error::Peer`], or files that cannot be read or
    /// written.
    pub fn train<O: Objective>(
        &self,
        objective: &O,
        start: impl FnOnce() -> Result<Params>,
    ) -> Result<Trained> {
        let table = format!("{}.train", self.stage);
        self.check_precision(&table)?;
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
            None => {
                let weights = Weights { last: start()?, average: None, best: None };
                (weights, TrainState::new(self.inputs.clone()))
            }
        };
        weights.last = weights.last.to_device(self.run.device())?;
        weights.average = weights.average.map(|mean| mean.to_device(self.run.device())).transpose()?;
        weights.best = weights.best.map(|best| best.to_device(self.run.device())).transpose()?;
        if self.plan.precision == Precision::Fp16 {
            state.scale.get_or_insert_default();
        }
        let layers = self.config.num_hidden_layers;
        self.plan.check_freeze(&table, &weights.last, layers)?;
        weights.last = weights.last.freeze(|name| self.plan.freezes(name));
        optimizer.set_rates(weights.last.iter().map(|(name, _)| (name, self.plan.rate_of(name, layers))));
        let ranks = self.run.ranks();
        if self.batch < ranks.world {
            return Err(Error::Ranks {
                got: format!("{} ranks for steps of {} rows", ranks.world, self.batch),
                expected: "a row for each rank".into(),
            });
        }
        let digest = || self.digest(&weights.last, state.step);
        let mut collective = collective::join(ranks, digest, self.run.device())?;
        let mut trained = Trained { weights, state };
        match self.take_steps(objective, &mut trained, &mut optimizer, collective.as_mut()) {
            Ok(()) => Ok(trained),
            Err(error) => {
                collective.abort(&error);
                Err(error)
            }
        }
    }

    /// Steps until the end, or until it is enough.
    fn take_steps<O: Objective>(
        &self,
        objective: &O,
        Trained { weights, state }: &mut Trained,
        optimizer: &mut AdamW,
        collective: &mut dyn Collective,
    ) -> Result<()> {
        let last = self.run.at(&format!("{}.last", self.stage));
        let first = collective.rank() == 0;
        let mut records = first.then(|| Records::open(self, state.step)).transpose()?;
        let parts = self.parts(collective);
        let order = (state.step..self.steps).flat_map({
            let parts = parts.clone();
            move |step| parts.clone().into_iter().map(move |(_, rows)| (step, rows))
        });
        thread::scope(|scope| {
            let batches = load(scope, objective, order);
            while state.step < self.steps && !state.stopped {
                let began = Instant::now();
                let step = self.step(objective, &batches, &parts, weights, state, optimizer, collective)?;
                self.follow(weights, optimizer.steps())?;
                let rate = optimizer.last_rate();
                let seconds = began.elapsed().as_secs_f64();
                let mean = state.took(step.loss, seconds);
                if let Some(records) = &mut records {
                    records.step(state.step, &step, mean, rate, seconds)?;
                }
                let at = state.step;
                let due = |every: u64| every > 0 && (at == self.steps || at.is_multiple_of(every));
                let validated = due(self.validate_every);
                if validated {
                    if let Some(records) = &mut records {
                        let figures = objective.validate(&weights.shown().frozen())?;
                        self.judge(weights, state, &figures, records)?;
                    }
                    state.stopped = collective.share_first(state.stopped)?;
                }
                if first && (validated || due(self.checkpoint_every)) {
                    write_checkpoint(&last, weights, optimizer, state)?;
                }
            }
            Ok(())
        })
    }

    /// Takes the weights of a step into their running mean.
    fn follow(&self, weights: &mut Weights, steps: u64) -> Result<()> {
        if self.plan.average == 0.0 {
            return Ok(());
        }
        match &weights.average {
            Some(average) => {
                let keep = self.plan.average.min((1 + steps) as f64 / (10 + steps) as f64);
                average.blend(&weights.last, keep)?;
            }
            None => weights.average = Some(weights.last.snapshot()?),
        }
        Ok(())
    }

    /// This rank's micro-batches: each one's number among those of all ranks, and its rows of a step.
    fn parts(&self, collective: &dyn Collective) -> Vec<(usize, Range<usize>)> {
        let (rank, world) = (collective.rank(), collective.world());
        let each = self.plan.accumulate.clamp(1, self.batch / world);
        let bound = |number: usize| self.batch * number / (each * world);
        (rank * each..(rank + 1) * each).map(|n| (n, bound(n)..bound(n + 1))).collect()
    }

    /// Of all that ranks must agree on.
    fn digest(&self, params: &Params, step: u64) -> Result<String> {
        let mut hash = Sha256::new();
        let said = (self.stage, self.inputs, self.steps, self.batch, step, self.plan.accumulate);
        hash.update(serde_json::to_vec(&said).expect("plain numbers and texts serialise"));
        for (name, var) in params.iter() {
            hash.update(format!("{name} {:?}", var.dims()));
            for value in var.as_tensor().flatten_all()?.to_vec1::<f32>()? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(hex::encode(hash.finalize()))
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
            complain!(
                "{}: {warmup_steps} steps of warm-up, a quarter of the run, instead of {}",
                self.stage,
                plan.warmup
            );
        }
        Ok(Schedule { peak: plan.learning_rate, warmup_steps, total_steps: self.steps })
    }

    /// Refuses half precision where nothing computes in it fast.
    fn check_precision(&self, table: &str) -> Result<()> {
        let here = self.run.device();
        if self.plan.precision == Precision::Fp32 || !here.is_cpu() || nn::refused() {
            return Ok(());
        }
        Err(Error::Recipe {
            key: format!("{table}.precision"),
            got: format!("{} on {}", self.plan.precision.name(), device::name(here)),
            expected: "fp32 there; bf16 and fp16 need a GPU (--device cuda)".into(),
        })
    }

    /// Runs this rank's micro-batches of one step, adds up the gradients of all ranks and moves the parameters. In
    /// FP16 a gradient that is not finite makes the loss scale smaller instead.
    #[allow(clippy::too_many_arguments, reason = "all that a step reads and moves")]
    fn step<O: Objective>(
        &self,
        objective: &O,
        batches: &Batches<O::Batch>,
        parts: &[(usize, Range<usize>)],
        weights: &Weights,
        state: &mut TrainState,
        optimizer: &mut AdamW,
        collective: &mut dyn Collective,
    ) -> Result<Step> {
        let (step, params) = (state.step, &weights.last);
        let scale = state.scale.as_ref().map_or(1.0, LossScale::factor);
        let all = (parts.len() * collective.world()) as u64;
        let mut gradients = Gradients::default();
        let (mut loss, mut tokens) = (0.0, 0);
        let mut figures = BTreeMap::new();
        for (number, _) in parts {
            let batch = batches.next()?;
            let seed = self.seed.wrapping_add(1 + (step * all + *number as u64).wrapping_mul(0x9e37_79b9));
            let context = Context::train(self.config.hidden_dropout_prob, seed)
                .checkpointing(self.plan.checkpoint_activations)
                .precision(self.plan.precision.dtype());
            let part = objective.loss(params, &batch, &context)?;
            tokens += part.tokens;
            if part.weight == 0.0 {
                continue;
            }
            let value = f64::from(part.mean.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(self.diverged(step, format!("loss {value}"), objective.records(&batch)));
            }
            let scaled = if scale == 1.0 { part.mean } else { part.mean.affine(scale, 0.0)? };
            gradients.add(params, &scaled.backward()?, part.weight)?;
            loss += value * part.weight;
            for (name, value) in part.figures {
                *figures.entry(name).or_insert(0.0) += value * part.weight;
            }
        }
        // Further figures are the first rank's own.
        figures.values_mut().for_each(|v| *v /= gradients.weight());
        let mut sums = [loss as f32, tokens as f32];
        gradients.reduce(collective, &mut sums)?;
        if gradients.weight() == 0.0 {
            return Err(Error::Data {
                what: format!("{} step {}", self.stage, step + 1),
                got: "no row or token with a target".into(),
                expected: "one or more in every step".into(),
            });
        }
        let loss = f64::from(sums[0]) / gradients.weight();
        let norm = optimizer.update(params, &gradients.mean_of_scaled(scale)?)?;
        if let Some(scale) = &mut state.scale {
            figures.insert("loss_scale".to_owned(), scale.factor());
            if norm.is_finite() {
                scale.good();
            } else if scale.overflowed() {
                figures.insert("skipped".to_owned(), 1.0);
                return Ok(Step { loss: loss as f32, norm, tokens: sums[1] as u64, figures });
            }
        }
        if !norm.is_finite() {
            return Err(self.diverged(step, format!("gradient norm {norm}"), Vec::new()));
        }
        Ok(Step { loss: loss as f32, norm, tokens: sums[1] as u64, figures })
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
        records: &mut Records,
    ) -> Result<()> {
        let metric = self.plan.metric.as_ref().unwrap_or(&self.metric);
        let Some(&score) = figures.get(&metric.name) else {
            return Err(Error::Recipe {
                key: format!("{}.train.metric", self.stage),
                got: metric.name.clone(),
                expected: format!("one of {}", figures.keys().cloned().collect::<Vec<_>>().join(", ")),
            });
        };
        records.validation(state.step, metric, score, figures)?;
        if metric.improves(score, state.best.map(|(best, _)| best)) {
            state.best = Some((score, state.step));
            state.worse = 0;
            weights.best = Some(weights.shown().snapshot()?);
        } else {
            state.worse += 1;
            state.stopped = self.plan.patience > 0 && state.worse >= self.plan.patience;
        }
        if state.stopped {
            complain!(
                "{}: stopped at step {}: {} was not better in {} validations",
                self.stage,
                state.step,
                metric.name,
                state.worse
            );
        }
        Ok(())
    }
}
