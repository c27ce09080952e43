//! `locus prune`: heads and columns out of the fine-tuned model, training after each step, and the fastest step that is
//! still good enough as the best model.

mod measure;

use std::{collections::BTreeMap, fs};

use candle_core::Tensor;
use locus_genome::{KmerTokenizer, VariantEncoder};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::measure::Validated;
use super::{
    Link, Stage,
    finetune::{CHECKPOINT_EVERY, LabelledPairs, METRIC, UNPRUNED},
    write_checkpoint_folder, write_model,
};
use crate::{
    Error, Result,
    data::{BatchPlan, Dataset, Split, augment::training_batch},
    distill::{self, Teachers},
    error::io_at,
    explain::Model,
    files,
    model::{ModelConfig, Params},
    prune::{self, Figures, Importance, Kind, apply, masks, shrink},
    recipe::{PrunePlan, Shares},
    stage::{read_json, write_json},
    train::{Metric, Trainer},
};

/// Folder of the steps.
const STEPS: &str = "prune";
/// What a step says of itself when it is done.
const DONE: &str = "done.json";

/// A model after a step.
struct Pruned {
    name: String,
    kind: Kind,
    config: ModelConfig,
    params: Params,
    /// Before it was trained again.
    untuned: Option<Figures>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    inputs: BTreeMap<String, String>,
    untuned: Figures,
}

/// What a step trains.
struct Cut {
    config: ModelConfig,
    params: Params,
    masks: BTreeMap<String, Tensor>,
}

struct Work<'a> {
    stage: &'a Stage,
    plan: &'a PrunePlan,
    dataset: &'a Dataset,
    tokenizer: KmerTokenizer,
    made_from: BTreeMap<String, String>,
    teachers: Option<Teachers>,
    validated: Validated,
}

impl Work<'_> {
    /// Importance of what a model has, over training records as training shows them.
    fn importance(&self, config: &ModelConfig, params: &Params) -> Result<Importance> {
        let recipe = &self.stage.recipe;
        let train = self.dataset.of_split(Split::Train);
        let records = BatchPlan::new(&train, 1, recipe.finetune.augment, recipe.seed, u64::MAX - 2);
        let mut importance = Importance::new(config);
        for n in 0..records.len().min(self.plan.records) {
            let items = records.batch(n);
            let (pair, labels) =
                training_batch(self.dataset, &self.tokenizer, &items, &recipe.window.buckets);
            for label in labels {
                importance.add(config, params, &pair, label)?;
            }
        }
        Ok(importance)
    }

    /// Heads and columns that matter least, out.
    fn structured(&self, before: &Pruned, shares: Shares) -> Result<Cut> {
        let config = &before.config;
        let left = |each: usize, gone: f64| {
            ((config.num_hidden_layers * each) as f64 * (1.0 - gone)).round() as usize
        };
        let importance = self.importance(config, &before.params)?;
        let heads = left(config.num_attention_heads, shares.heads);
        let kept = importance.choose(heads, left(config.intermediate_size, shares.ffn));
        let (config, params) = shrink(config, &before.params, &kept)?;
        Ok(Cut { config, params, masks: BTreeMap::new() })
    }

    /// What a step rests on: not on budgets, on steps after it, nor on those of the other kind, so that none is trained
    /// again where only these are others.
    fn inputs(&self, name: &str, kind: Kind) -> BTreeMap<String, String> {
        let (plan, recipe) = (self.plan, &self.stage.recipe);
        let before = |gone: &PrunePlan| match kind {
            Kind::Magnitude { share, scope } => {
                let shares = gone.magnitude.iter().flat_map(|m| &m.shares).copied();
                json!([scope, shares.take_while(|s| *s < share).collect::<Vec<_>>()])
            }
            _ => {
                let number = gone.steps.iter().position(|s| Kind::Structured(*s) == kind).unwrap_or(0);
                json!([plan.records, gone.steps[..number]])
            }
        };
        let trained =
            json!([name, kind, before(plan), plan.epochs, plan.validations, plan.distill, plan.train]);
        let mut inputs = self.made_from.clone();
        inputs.insert("recipe".into(), recipe.digest_of(&(trained, recipe.finetune.augment, &recipe.model)));
        inputs
    }

    /// Prunes and trains, or reads what an earlier call left of the same step.
    fn step(
        &self,
        number: usize,
        name: String,
        kind: Kind,
        cut: impl FnOnce() -> Result<Cut>,
    ) -> Result<Pruned> {
        let run = &self.stage.run;
        let inputs = self.inputs(&name, kind);
        let folder = run.at(STEPS).join(&name);
        if let Ok(done) = read_json::<Done>(&folder.join(DONE))
            && done.inputs == inputs
        {
            complain!("prune: {name}: done before");
            let place = folder.join("config.json");
            let config = ModelConfig::read(&place).map_err(io_at(&place))?;
            let params = Params::read(&folder.join("model.safetensors"), &config, 0)?;
            return Ok(Pruned { name, kind, config, params, untuned: Some(done.untuned) });
        }
        let Cut { config, params, masks } = cut()?;
        let untuned = self.validated.select(&config, &params)?;
        complain!("prune: {name}: {:?}; AUROC {:.4} before training", sizes(&config), untuned.auroc);
        let objective = LabelledPairs::new(
            self.stage,
            self.dataset,
            &config,
            self.plan.train.batch,
            self.teachers.as_ref(),
        )?
        .of_step(self.stage.recipe.seed.wrapping_add(1 + number as u64), masks);
        let each = objective.steps_per_epoch();
        let trainer = Trainer {
            stage: "prune",
            run,
            inputs: &inputs,
            config: &config,
            seed: self.stage.recipe.seed.wrapping_add(1 + number as u64),
            plan: &self.plan.train,
            batch: objective.batch_size(),
            steps: each * self.plan.epochs,
            validate_every: each.div_ceil(self.plan.validations),
            checkpoint_every: CHECKPOINT_EVERY,
            metric: Metric::higher(METRIC),
        };
        let trained = trainer.train(&objective, || Ok(params))?;
        let params = trained.best().snapshot()?;
        write_checkpoint_folder(&folder, &config, &params, &self.tokenizer.to_json())?;
        let (log, kept) = (run.at("prune.jsonl"), folder.join("train.jsonl"));
        fs::rename(&log, &kept).map_err(io_at(&log))?;
        write_json(&folder.join(DONE), &Done { inputs, untuned })?;
        Ok(Pruned { name, kind, config, params, untuned: Some(untuned) })
    }

    /// Every step, the unpruned model first.
    fn steps(&self, start: &Model) -> Result<Vec<Pruned>> {
        let unpruned = || -> Result<Pruned> {
            Ok(Pruned {
                name: UNPRUNED.into(),
                kind: Kind::Unpruned,
                config: start.config.clone(),
                params: start.params.snapshot()?,
                untuned: None,
            })
        };
        let mut all = vec![unpruned()?];
        let folder = self.stage.run.at(STEPS).join(UNPRUNED);
        write_checkpoint_folder(&folder, &all[0].config, &all[0].params, &self.tokenizer.to_json())?;
        for (n, &shares) in self.plan.steps.iter().enumerate() {
            let before = &all[n];
            let name = format!("structured-{}", n + 1);
            let next = self.step(n, name, Kind::Structured(shares), || self.structured(before, shares))?;
            all.push(next);
        }
        let Some(magnitude) = &self.plan.magnitude else { return Ok(all) };
        let mut now = unpruned()?;
        for (n, &share) in magnitude.shares.iter().enumerate() {
            let cut = || {
                let masks = masks(&now.params, share, magnitude.scope)?;
                apply(&now.params, &masks)?;
                Ok(Cut { config: now.config.clone(), params: now.params.snapshot()?, masks })
            };
            let kind = Kind::Magnitude { share, scope: magnitude.scope };
            let next = self.step(n, format!("magnitude-{}", n + 1), kind, cut)?;
            now = Pruned { params: next.params.snapshot()?, config: next.config.clone(), ..unpruned()? };
            all.push(next);
        }
        Ok(all)
    }
}

/// Heads and columns of each layer.
fn sizes(config: &ModelConfig) -> Vec<(usize, usize)> {
    let size = |n| config.layer_size(n);
    (0..config.num_hidden_layers).map(|n| (size(n).heads, size(n).ffn)).collect()
}

/// The model that is pruned.
fn start(stage: &Stage, plan: &PrunePlan, config: &ModelConfig, tokenizer: KmerTokenizer) -> Result<Model> {
    let Some(path) = &plan.from else {
        let place = stage.run.at(UNPRUNED).join("model.safetensors");
        return Ok(Model {
            params: Params::read(&place, config, 0)?.frozen(),
            config: config.clone(),
            encoder: VariantEncoder::new(tokenizer, stage.recipe.window.kmers),
            buckets: stage.recipe.window.buckets.clone(),
            probability: Default::default(),
            name: UNPRUNED.into(),
        });
    };
    let model = distill::trained(path)?;
    if (&model.config, &model.buckets) == (config, &stage.recipe.window.buckets) {
        return Ok(model);
    }
    Err(Error::Data {
        what: format!("prune.from = {}", path.display()),
        got: format!("{:?} for rows of {:?}", model.config, model.buckets),
        expected: format!(
            "an unpruned model as the recipe says: {config:?} for {:?}",
            stage.recipe.window.buckets
        ),
    })
}

/// Runs the stage from the step where it stopped, or says that it is done. Leaves `prune.json` and `prune.html`, the
/// models of all steps below `prune`, and the one that is kept as the best.
///
/// # Errors
/// A recipe without `[prune]`, a stage before it that is not done, no ONNX Runtime, a step that diverges, or a graph that
/// differs from its checkpoint.
pub fn run(stage: &Stage) -> Result<()> {
    let Some(plan) = &stage.recipe.prune else {
        let expected = "a table [prune], as in recipes/variant-effect-pruned.toml".into();
        return Err(Error::Recipe { key: "prune".into(), got: "no such table".into(), expected });
    };
    let (dataset, _) = stage.dataset("prune")?;
    if stage.done_before(Link::Prune)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Prune)?;
    let tokenizer = dataset.tokenizer()?;
    let config = stage.config(&dataset)?;
    let start = start(stage, plan, &config, tokenizer)?;
    // What would otherwise be known after hours of training.
    measure::ready(stage, &start)?;
    let teachers = match &plan.distill {
        None => None,
        Some(distill) if distill.teachers.is_empty() => {
            let params = start.params.clone();
            let encoder = VariantEncoder::new(tokenizer, stage.recipe.window.kmers);
            let (buckets, name) = (start.buckets.clone(), start.name.clone());
            let probability = start.probability.clone();
            let model = Model { config: config.clone(), params, encoder, buckets, probability, name };
            Some(Teachers::only(model, distill.share))
        }
        Some(distill) => Some(Teachers::open(distill, &config)?),
    };
    let validated = Validated::new(&dataset, &stage.recipe.window.buckets)?;
    let work = Work { stage, plan, dataset: &dataset, tokenizer, made_from, teachers, validated };
    let all = work.steps(&start)?;
    let report = measure::report(&work, &all)?;
    write_json(&stage.run.at("prune.json"), &report)?;
    let html = prune::page(&stage.recipe.name, &report)?.html();
    files::write_atomically(&stage.run.at("prune.html"), html.as_bytes())?;
    let (mut kept, mut figures) = (&all[0], BTreeMap::new());
    for (pruned, step) in all.iter().zip(&report.steps).filter(|(p, _)| p.name == report.kept) {
        kept = pruned;
        figures.extend([
            ("ratio".to_owned(), step.ratio.median),
            ("auroc".to_owned(), step.val_select.auroc),
            ("loss".to_owned(), step.loss(&report.steps[0])[0]),
            ("parameters".to_owned(), step.parameters[0] as f64),
        ]);
    }
    write_model(stage, "best", &kept.config, &kept.params, &tokenizer)?;
    stage.finish(Link::Prune, work.made_from, figures)
}
