//! `locus finetune`: labelled reference/alternate pairs; the best checkpoint by `val_select`.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Result as ModelResult, Tensor};
use locus_genome::KmerTokenizer;

use super::{Link, Stage, write_model};
use crate::{
    Error, Result,
    data::{Augmentation, BatchPlan, Dataset, Pair, Split, View, augment::training_batch},
    distill::Teachers,
    infer, metrics,
    model::{Context, ModelConfig, PairBatch, Params},
    train::{Loss, Metric, Objective, Trainer, pair_loss},
};

/// Steps between checkpoints.
pub(super) const CHECKPOINT_EVERY: u64 = 50;

/// What checkpoints are chosen by: with transcript, the mean of all and missense.
pub(super) const METRIC: &str = "transcript.mean_auroc";

/// The fine-tuned model, in a recipe that prunes it.
pub(super) const UNPRUNED: &str = "unpruned";

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

    /// AUROC per mode, over all records and over missense, and the mean of both.
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
            let all = pick(&|_| true);
            let missense = pick(&|i| self.missense[i]);
            let mean = all.map(|all| f64::midpoint(all, missense.unwrap_or(all)));
            for (name, value) in [("auroc", all), ("missense_auroc", missense), ("mean_auroc", mean)] {
                figures.extend(value.map(|v| (format!("{mode}.{name}"), v)));
            }
        }
        Ok(figures)
    }
}

/// Labelled pairs of the training records, drawn by epochs.
pub(super) struct LabelledPairs<'a> {
    dataset: &'a Dataset,
    tokenizer: KmerTokenizer,
    config: &'a ModelConfig,
    buckets: &'a [usize],
    train: Vec<usize>,
    batch: usize,
    augment: Augmentation,
    seed: u64,
    steps_per_epoch: u64,
    teachers: Option<&'a Teachers>,
    /// Hides weights that stay zero.
    masks: BTreeMap<String, Tensor>,
    /// The epoch that was asked for last.
    epoch: Mutex<Option<(u64, Arc<BatchPlan>)>>,
    validation: Validation,
}

impl<'a> LabelledPairs<'a> {
    /// For a model of `config`, in steps of `batch` rows or of all records where these are fewer.
    pub(super) fn new(
        stage: &'a Stage,
        dataset: &'a Dataset,
        config: &'a ModelConfig,
        batch: usize,
        teachers: Option<&'a Teachers>,
    ) -> Result<Self> {
        let train = dataset.of_split(Split::Train);
        if train.is_empty() {
            return Err(Error::Data {
                what: "train".into(),
                got: "no record".into(),
                expected: "labelled records".into(),
            });
        }
        let tokenizer = dataset.tokenizer()?;
        let batch = batch.min(train.len());
        Ok(Self {
            steps_per_epoch: (train.len() / batch) as u64,
            dataset,
            tokenizer,
            config,
            buckets: &stage.recipe.window.buckets,
            train,
            batch,
            augment: stage.recipe.finetune.augment,
            seed: stage.recipe.seed,
            teachers,
            masks: BTreeMap::new(),
            epoch: Mutex::default(),
            validation: Validation::new(dataset, &tokenizer)?,
        })
    }

    /// The same in another order, for weights of which some stay zero.
    pub(super) fn of_step(self, seed: u64, masks: BTreeMap<String, Tensor>) -> Self {
        Self { seed, masks, ..self }
    }

    /// Rows of a step.
    pub(super) const fn batch_size(&self) -> usize {
        self.batch
    }

    /// Steps of an epoch.
    pub(super) const fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    fn epoch(&self, epoch: u64) -> Arc<BatchPlan> {
        let mut last = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((number, plan)) if *number == epoch => plan.clone(),
            _ => {
                let plan = BatchPlan::new(&self.train, self.batch, self.augment, self.seed, epoch);
                last.insert((epoch, Arc::new(plan))).1.clone()
            }
        }
    }
}

/// Pairs with their labels, and which records they are.
pub(super) struct Labelled {
    pairs: PairBatch,
    labels: Vec<f32>,
    records: Vec<usize>,
}

impl Objective for LabelledPairs<'_> {
    type Batch = Labelled;

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Labelled> {
        let (plan, n) = (self.epoch(step / self.steps_per_epoch), (step % self.steps_per_epoch) as usize);
        let items = plan.batch(n);
        let items = &items[rows.clone()];
        let (mut pairs, labels) = training_batch(self.dataset, &self.tokenizer, items, self.buckets);
        plan.drop_features(n, rows.start, &mut pairs);
        Ok(Labelled { pairs, labels, records: items.iter().map(|(record, _)| *record).collect() })
    }

    fn loss(&self, params: &Params, batch: &Labelled, context: &Context<'_>) -> ModelResult<Loss> {
        let targets = self.teachers.map(|t| t.targets(&batch.pairs, &batch.labels)).transpose()?;
        let targets = targets.as_deref().unwrap_or(&batch.labels);
        let masked = if self.masks.is_empty() { None } else { Some(params.masked(&self.masks)?) };
        let params = masked.as_ref().unwrap_or(params);
        let mean = pair_loss(self.config, params, &batch.pairs, targets, context)?;
        let tokens = (batch.pairs.rows.rows * batch.pairs.rows.tokens) as u64;
        Ok(Loss::new(mean, batch.labels.len() as f64, tokens))
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        self.validation.run(self.config, params, self.buckets)
    }

    fn records(&self, batch: &Labelled) -> Vec<String> {
        batch.records.iter().map(|&i| self.dataset.records[i].name()).collect()
    }
}

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A stage before it that is not done, or a step that diverges.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.finetune;
    let (dataset, _) = stage.dataset("finetune")?;
    if stage.done_before(Link::Finetune)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Finetune)?;
    let tokenizer = dataset.tokenizer()?;
    let config = stage.config(&dataset)?;
    let teachers = plan.distill.as_ref().map(|plan| Teachers::open(plan, &config)).transpose()?;
    let objective = LabelledPairs::new(stage, &dataset, &config, plan.train.batch, teachers.as_ref())?;
    let (batch, steps_per_epoch) = (objective.batch_size(), objective.steps_per_epoch());
    let trainer = Trainer {
        stage: "finetune",
        run: &stage.run,
        inputs: &made_from,
        config: &config,
        seed: stage.recipe.seed,
        plan: &plan.train,
        batch,
        steps: steps_per_epoch * plan.epochs,
        validate_every: steps_per_epoch.div_ceil(plan.validations),
        checkpoint_every: CHECKPOINT_EVERY,
        metric: Metric::higher(METRIC),
    };
    let pretrained = stage.run.at("pretrained/model.safetensors");
    let start = || Ok(Params::start_from(&pretrained, &config, stage.recipe.seed)?);
    let trained = trainer.train(&objective, start)?;
    let name = if stage.recipe.prune.is_some() { UNPRUNED } else { "best" };
    write_model(stage, name, &config, trained.best(), &tokenizer)?;
    stage.finish(Link::Finetune, made_from, trained.figures())
}
