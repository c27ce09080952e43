//! The loop that trains: micro-batches, freezing, activation checkpointing, choice and early stop, what it does where
//! a loss is no number, and its event files before Python's reader.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, fs, ops::Range, path::Path, process::Command};

use candle_core::Result as ModelResult;
use locus_host::{
    Error, Result,
    model::{Context, ModelConfig, PairBatch, Params, Rows},
    stage::Run,
    train::{Gradients, Loss, Metric, Objective, TrainPlan, Trained, Trainer, pair_loss},
};
use locus_tests::python;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const ROWS: usize = 8;
const TOKENS: usize = 12;
const FEATURES: usize = 10;

fn config(dropout: f64) -> ModelConfig {
    ModelConfig {
        model_type: "bert".into(),
        vocab_size: 69,
        type_vocab_size: 9,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        hidden_act: "gelu".into(),
        max_position_embeddings: TOKENS,
        layer_norm_eps: 1e-12,
        hidden_dropout_prob: dropout,
        attention_probs_dropout_prob: 0.0,
        initializer_range: 0.1,
        norm_position: "pre".into(),
        head: Default::default(),
        frames: 1,
        counted: 0,
        wide: None,
        layer_sizes: Vec::new(),
        labels: vec!["pathogenic".into()],
        n_features: FEATURES,
        track_codes: Vec::new(),
    }
}

/// Pairs whose label is a matter of the first feature.
struct Toy {
    config: ModelConfig,
    /// A step whose loss is no number.
    poisoned: Option<u64>,
    /// What every validation gives; else how far a bias has come.
    score: Option<f64>,
}

impl Toy {
    fn new(dropout: f64) -> Self {
        Self { config: config(dropout), poisoned: None, score: None }
    }
}

impl Objective for Toy {
    type Batch = (PairBatch, Vec<f32>, Vec<String>);

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
        let numbers: Vec<u64> = rows.map(|row| step * ROWS as u64 + row as u64).collect();
        let (mut reference, mut alternate, mut features, mut labels) = (vec![], vec![], vec![], vec![]);
        for &n in &numbers {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(n);
            let ids: Vec<u32> = (0..TOKENS).map(|_| rng.random_range(5..69)).collect();
            alternate
                .extend(ids.iter().enumerate().map(|(t, &id)| if t == 6 { 5 + (id + 9) % 64 } else { id }));
            reference.extend(ids);
            let values: Vec<f32> = (0..FEATURES).map(|_| rng.random_range(-1.0..1.0)).collect();
            let poison = if self.poisoned == Some(step) { f32::NAN } else { 1.0 };
            labels.push(f32::from(u8::from(values[0] > 0.0)) * poison);
            features.extend(values);
        }
        let n = 2 * numbers.len() * TOKENS;
        let ids = [reference, alternate].concat();
        let rows =
            Rows { rows: 2 * numbers.len(), tokens: TOKENS, ids, track: vec![0; n], mask: vec![1.0; n] };
        let names = numbers.iter().map(|n| format!("pair-{n}")).collect();
        Ok((PairBatch { rows, features }, labels, names))
    }

    fn loss(&self, params: &Params, batch: &Self::Batch, context: &Context<'_>) -> ModelResult<Loss> {
        let mean = pair_loss(&self.config, params, &batch.0, &batch.1, context)?;
        Ok(Loss::new(mean, batch.1.len() as f64, batch.0.rows.ids.len() as u64))
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        let moved = f64::from(params.get("head.out.bias")?.to_vec1::<f32>()?[0]);
        Ok(BTreeMap::from([("score".into(), self.score.unwrap_or(moved))]))
    }

    fn records(&self, batch: &Self::Batch) -> Vec<String> {
        batch.2.clone()
    }
}

fn plan(more: &str) -> TrainPlan {
    let text =
        format!("batch = {ROWS}\nlearning_rate = 1e-2\nwarmup = 0\nweight_decay = 0.02\nclip = 1.0\n{more}");
    toml::from_str(&text).unwrap()
}

fn train(folder: &Path, toy: &impl Objective, plan: &TrainPlan, steps: u64, dropout: f64) -> Result<Trained> {
    let run = Run::open(folder)?;
    let config = config(dropout);
    let trainer = Trainer {
        stage: "finetune",
        run: &run,
        inputs: &BTreeMap::from([("recipe".into(), "this".into())]),
        config: &config,
        seed: 3,
        plan,
        batch: ROWS,
        steps,
        validate_every: if toy_validates(plan) { 2 } else { 0 },
        checkpoint_every: 3,
        metric: Metric::higher("score"),
    };
    trainer.train(toy, || Ok(Params::new(&config, 5)?))
}

fn toy_validates(plan: &TrainPlan) -> bool {
    plan.patience > 0 || plan.metric.is_some()
}

fn flat(params: &Params) -> BTreeMap<String, Vec<f32>> {
    let values = |t: &candle_core::Var| t.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.iter().map(|(name, var)| (name.to_owned(), values(var))).collect()
}

fn losses(folder: &Path) -> Vec<f64> {
    let text = fs::read_to_string(folder.join("finetune.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn micro_batches_have_the_gradient_of_one_batch() {
    let toy = Toy::new(0.0);
    let params = Params::new(&toy.config, 1).unwrap();
    let gradient = |parts: &[Range<usize>]| {
        let mut all = Gradients::default();
        for rows in parts {
            let loss = toy.loss(&params, &toy.batch(0, rows.clone()).unwrap(), &Context::eval()).unwrap();
            all.add(&params, &loss.mean.backward().unwrap(), loss.weight).unwrap();
        }
        all.mean().unwrap()
    };
    let (one, several) = (gradient(std::slice::from_ref(&(0..ROWS))), gradient(&[0..3, 3..4, 4..ROWS]));
    assert!(one.len() > 30 && one.len() == several.len());
    for (name, g) in &one {
        let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in flat(g).iter().zip(flat(&several[name])) {
            assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{name}: {a} and {b}");
        }
    }
    let folders = [1, 4].map(|n| {
        let folder = tempfile::tempdir().unwrap();
        train(folder.path(), &toy, &plan(&format!("accumulate = {n}")), 20, 0.0).unwrap();
        losses(folder.path())
    });
    assert_eq!(folders[0].len(), 20);
    assert!(folders[0].iter().zip(&folders[1]).all(|(a, b)| (a - b).abs() < 1e-3), "{folders:?}");
    assert!(folders[0][19] < folders[0][0], "it learns: {:?}", folders[0]);
}

#[test]
fn activation_checkpointing_changes_no_bit() {
    let toy = Toy::new(0.1);
    let [kept, run_again] = ["", "checkpoint_activations = true"].map(|more| {
        let folder = tempfile::tempdir().unwrap();
        flat(&train(folder.path(), &toy, &plan(more), 5, 0.1).unwrap().weights.last)
    });
    assert!(kept == run_again);
}

#[test]
fn what_is_frozen_stays_and_the_rest_moves() {
    let toy = Toy::new(0.1);
    let before = flat(&Params::new(&toy.config, 5).unwrap());
    for (more, still) in [
        ("freeze_layers = 1", &["bert.embeddings.", "bert.encoder.layer.0."][..]),
        (
            "freeze = [\"head.features\", \"bert.encoder.layer.1\"]",
            &["head.features.", "bert.encoder.layer.1."],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let after = flat(&train(folder.path(), &toy, &plan(more), 2, 0.1).unwrap().weights.last);
        for (name, values) in &after {
            let frozen = still.iter().any(|s| name.starts_with(s)) || name.starts_with("cls.");
            assert_eq!(*values == before[name], frozen, "{more}: {name}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (more, word) in [
        ("freeze = [\"bert.encoder.layer.7\"]", "bert.encoder.layer.7"),
        ("freeze_layers = 3", "2 layers"),
        ("freeze = [\"bert\", \"head\", \"cls\"]", "some to train"),
    ] {
        let error = train(folder.path(), &toy, &plan(more), 2, 0.1).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn lower_layers_move_less_under_layer_wise_decay() {
    let toy = Toy::new(0.0);
    let before = flat(&Params::new(&toy.config, 5).unwrap());
    let moved = |more: &str, name: &str| -> f32 {
        let folder = tempfile::tempdir().unwrap();
        let after = flat(&train(folder.path(), &toy, &plan(more), 1, 0.0).unwrap().weights.last);
        after[name].iter().zip(&before[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    for (name, share) in [
        ("head.dense.weight", 1.0),
        ("bert.encoder.layer.1.output.dense.weight", 0.5),
        ("bert.embeddings.word_embeddings.weight", 0.125),
    ] {
        let (all, less) = (moved("", name), moved("layer_decay = 0.5", name));
        assert!((less / all - share).abs() < 0.02, "{name}: {less} of {all}");
    }
}

#[test]
fn training_stops_where_no_validation_is_better_and_keeps_the_best() {
    // The score never changes: the first one is the best.
    let toy = Toy { score: Some(0.5), ..Toy::new(0.0) };
    let folder = tempfile::tempdir().unwrap();
    let trained = train(folder.path(), &toy, &plan("patience = 2"), 40, 0.0).unwrap();
    assert_eq!((trained.state.step, trained.state.best), (6, Some((0.5, 2))));
    assert!(flat(trained.best()) != flat(&trained.weights.last));
    // Once stopped it stays so.
    let again = train(folder.path(), &toy, &plan("patience = 2"), 40, 0.0).unwrap();
    assert_eq!((again.state.step, flat(again.best())), (6, flat(trained.best())));

    let other = tempfile::tempdir().unwrap();
    let named = plan("metric = { name = \"auroc\", better = \"higher\" }");
    let error = train(other.path(), &toy, &named, 4, 0.0).err().unwrap().to_string();
    assert!(error.contains("auroc") && error.contains("score"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_the_checkpoint_before_it_goes_on() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = train(whole.path(), &Toy::new(0.1), &plan(""), 10, 0.1).unwrap();
    let poisoned = Toy { poisoned: Some(7), ..Toy::new(0.1) };
    let error = train(broken.path(), &poisoned, &plan(""), 10, 0.1).err().unwrap();
    assert!(matches!(&error, Error::Diverged { step: 8, records, .. } if records.len() == ROWS), "{error}");
    assert!(error.to_string().contains("pair-56"), "{error}");
    let resumed = train(broken.path(), &Toy::new(0.1), &plan(""), 10, 0.1).unwrap();
    assert!(flat(&resumed.weights.last) == flat(&expected.weights.last));
    assert_eq!(losses(broken.path()), losses(whole.path()));
}

#[test]
fn a_running_mean_is_that_of_the_weights_and_resumes_exactly() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let averaged = plan("average = 0.5");
    let mut expected = flat(&train(whole.path(), &Toy::new(0.1), &averaged, 1, 0.1).unwrap().weights.last);
    for steps in 2..=7 {
        // The plain weights of each number of steps, by going on.
        let trained = train(whole.path(), &Toy::new(0.1), &averaged, steps, 0.1).unwrap();
        let keep = 0.5f64.min((1 + steps) as f64 / (10 + steps) as f64) as f32;
        for (name, value) in flat(&trained.weights.last) {
            let mean = expected.get_mut(&name).unwrap();
            mean.iter_mut().zip(value).for_each(|(m, v)| *m = keep * *m + (1.0 - keep) * v);
        }
        for (name, value) in flat(trained.best()) {
            assert!(
                value.iter().zip(&expected[&name]).all(|(a, b)| (a - b).abs() < 1e-5),
                "{name} at {steps}"
            );
        }
    }
    let poisoned = Toy { poisoned: Some(5), ..Toy::new(0.1) };
    assert!(train(broken.path(), &poisoned, &averaged, 7, 0.1).is_err());
    let schedule = |folder: &Path| flat(train(folder, &Toy::new(0.1), &averaged, 7, 0.1).unwrap().best());
    let straight = tempfile::tempdir().unwrap();
    assert!(schedule(broken.path()) == schedule(straight.path()));
}

#[test]
fn checkpoints_of_another_model_or_cut_ones_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let config = config(0.0);
    Params::new(&config, 1).unwrap().write(&path).unwrap();
    for (other, word) in [
        (ModelConfig { vocab_size: 70, ..config.clone() }, "vocabulary"),
        (ModelConfig { num_hidden_layers: 3, ..config.clone() }, "layer.2."),
        (ModelConfig { num_hidden_layers: 1, ..config.clone() }, "layer.1."),
        (ModelConfig { hidden_size: 32, ..config.clone() }, "shape"),
    ] {
        let error = Params::read(&path, &other, 1).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains(word), "{error}");
    }
    let bytes = fs::read(&path).unwrap();
    for cut in [0, 4, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = Params::read(&path, &config, 1).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains("checkpoint"), "{error}");
    }
    let mut huge = bytes;
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, huge).unwrap();
    assert!(Params::read(&path, &config, 1).is_err());
}

const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"#;

#[test]
fn pythons_tensorboard_reads_every_step_once_after_a_resume() {
    let packages = ["tensorboard==2.20.0", "setuptools==80.9.0"];
    let import = "import tensorboard.backend.event_processing.event_accumulator";
    let Some(python) = python("tensorboard", &packages, import) else { return };
    let folder = tempfile::tempdir().unwrap();
    let plan = plan("tensorboard = true\nmetric = { name = \"score\", better = \"higher\" }");
    let poisoned = Toy { poisoned: Some(7), ..Toy::new(0.1) };
    train(folder.path(), &poisoned, &plan, 10, 0.1).err().unwrap();
    train(folder.path(), &Toy::new(0.1), &plan, 10, 0.1).unwrap();
    let output = Command::new(python)
        .args(["-c", READER])
        .arg(folder.path().join("tensorboard/finetune"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_slice(&output.stdout).unwrap();
    let (steps, values): (Vec<u64>, Vec<f64>) = read["loss"].iter().copied().unzip();
    assert_eq!(steps, (1..=10).collect::<Vec<_>>());
    for (read, logged) in values.iter().zip(losses(folder.path())) {
        assert!((read - logged).abs() < 1e-6, "{read} and {logged}");
    }
    for tag in ["learning_rate", "gradient_norm", "tokens_per_second", "validation/score"] {
        assert!(!read[tag].is_empty(), "{tag}");
    }
}
