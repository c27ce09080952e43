//! Training with composed ops and in half precision: on a GPU where there is one, and as a GPU does it on the CPU.

use std::{collections::BTreeMap, ops::Range, path::Path};

use candle_core::{DType, Device, Result as ModelResult, Tensor};

use super::*;
use crate::{
    Error, Result, device,
    model::{Context, ModelConfig, PairBatch, Params, Rows},
    nn::without_fused,
    stage::{Run, TrainState, read_json},
};

const ROWS: usize = 16;
const TOKENS: usize = 8;

fn config(norm: &str) -> ModelConfig {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
    let config = crate::Recipe::read(&recipe).unwrap().model_config(69, 4);
    ModelConfig { norm_position: norm.into(), initializer_range: 0.1, ..config }
}

/// Pairs whose label is the sign of a feature.
struct Toy {
    config: ModelConfig,
    /// Steps whose loss is so large that half precision cannot hold its gradients.
    spikes: Range<u64>,
}

impl Objective for Toy {
    type Batch = (PairBatch, Vec<f32>, u64);

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
        let pairs = rows.len();
        let number =
            |i: usize| (step as usize * 7_919 + rows.start * TOKENS + i).wrapping_mul(2_654_435_761) >> 7;
        let ids: Vec<u32> = (0..pairs * TOKENS).map(|i| 5 + (number(i) % 64) as u32).collect();
        let other =
            ids.iter().enumerate().map(|(i, id)| if i % TOKENS == 3 { 5 + (id + 9) % 64 } else { *id });
        let ids: Vec<u32> = ids.iter().copied().chain(other).collect();
        let n = ids.len();
        let features: Vec<f32> = (0..pairs * 4).map(|i| (number(i + 5) % 200) as f32 / 100.0 - 1.0).collect();
        let labels = features.chunks_exact(4).map(|f| f32::from(u8::from(f[0] > 0.0))).collect();
        let mask = (0..n).map(|i| f32::from(u8::from(i % TOKENS < 7))).collect();
        let rows = Rows {
            rows: 2 * pairs,
            tokens: TOKENS,
            ids,
            track: (0..n as u32).map(|i| i % 9).collect(),
            mask,
        };
        Ok((PairBatch { rows, features }, labels, step))
    }

    fn loss(&self, params: &Params, batch: &Self::Batch, context: &Context<'_>) -> ModelResult<Loss> {
        let mut mean = pair_loss(&self.config, params, &batch.0, &batch.1, context)?;
        if self.spikes.contains(&batch.2) {
            mean = mean.affine(1e30, 0.0)?;
        }
        Ok(Loss::new(mean, batch.1.len() as f64, batch.0.rows.ids.len() as u64))
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        let (batch, labels, _) = self.batch(999, 0..ROWS)?;
        let loss = pair_loss(&self.config, params, &batch, &labels, &Context::eval())?;
        Ok(BTreeMap::from([("loss".into(), f64::from(loss.to_scalar::<f32>()?))]))
    }
}

fn plan(more: &str) -> TrainPlan {
    let text =
        format!("batch = {ROWS}\nlearning_rate = 5e-3\nwarmup = 0\nweight_decay = 0.02\nclip = 1.0\n{more}");
    toml::from_str(&text).unwrap()
}

fn train(folder: &Path, toy: &Toy, plan: &TrainPlan, steps: u64, device: &Device) -> Result<Trained> {
    let run = Run::open(folder)?.on(device.clone());
    let trainer = Trainer {
        stage: "finetune",
        run: &run,
        inputs: &BTreeMap::from([("recipe".into(), "this".into())]),
        config: &toy.config,
        seed: 3,
        plan,
        batch: ROWS,
        steps,
        validate_every: 5,
        checkpoint_every: 1,
        metric: Metric::lower("loss"),
    };
    trainer.train(toy, || Ok(Params::new(&toy.config, 5)?))
}

fn flat(params: &Params) -> BTreeMap<String, Vec<f32>> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.iter().map(|(name, var)| (name.to_owned(), values(var))).collect()
}

/// The values of a key in the log, step after step.
fn logged(folder: &Path, key: impl Fn(&serde_json::Value) -> Option<f64>) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("finetune.jsonl")).unwrap();
    text.lines().filter_map(|line| key(&serde_json::from_str(line).unwrap())).collect()
}

fn losses(folder: &Path) -> Vec<f64> {
    logged(folder, |line| line["loss"].as_f64())
}

fn nearest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn composed_training_is_fused_training() {
    for norm in ["pre", "post"] {
        let toy = Toy { config: config(norm), spikes: 0..0 };
        let plan = plan("accumulate = 2\nlayer_decay = 0.8\n");
        let folder = tempfile::tempdir().unwrap();
        train(folder.path(), &toy, &plan, 10, &Device::Cpu).unwrap();
        let fused = losses(folder.path());
        for device in device::all() {
            let folder = tempfile::tempdir().unwrap();
            let trained = without_fused(|| train(folder.path(), &toy, &plan, 10, &device)).unwrap();
            // Rounding grows from step to step.
            let difference = nearest(&fused, &losses(folder.path()));
            assert!(difference < 1e-3, "{norm} on {device:?}: {difference}");
            assert!(trained.best().device().same_device(&device));
            assert!(trained.weights.last.iter().all(|(_, var)| var.device().same_device(&device)));
        }
    }
}

#[test]
fn composed_activation_checkpointing_changes_no_bit() {
    let toy = Toy { config: config("pre"), spikes: 0..0 };
    for more in ["", "precision = \"bf16\"\n"] {
        let [kept, again] = [false, true].map(|checkpoint_activations| {
            let folder = tempfile::tempdir().unwrap();
            let plan = TrainPlan { checkpoint_activations, ..plan(more) };
            flat(&without_fused(|| train(folder.path(), &toy, &plan, 4, &Device::Cpu)).unwrap().weights.last)
        });
        assert!(kept == again, "{more}");
    }
}

#[test]
fn half_precision_learns_as_full_precision_does_over_full_parameters() {
    let toy = Toy { config: config("pre"), spikes: 0..0 };
    for device in device::all() {
        let [full, bf16, fp16] = ["fp32", "bf16", "fp16"].map(|name| {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(&format!("precision = \"{name}\"\n"));
            let trained = without_fused(|| train(folder.path(), &toy, &plan, 40, &device)).unwrap();
            assert!(trained.weights.last.iter().all(|(_, var)| var.dtype() == DType::F32));
            let state: TrainState = read_json(&folder.path().join("finetune.last/state.json")).unwrap();
            assert_eq!(state.scale.is_some(), name == "fp16");
            losses(folder.path())
        });
        let late = |losses: &[f64]| losses[30..].iter().sum::<f64>() / 10.0;
        assert!(late(&full) < 0.8 * full[0], "{full:?}");
        for half in [&bf16, &fp16] {
            assert!(*half != full, "the layers were computed in half precision");
            assert!((half[0] - full[0]).abs() < 0.02, "{} and {}", half[0], full[0]);
            assert!((late(half) - late(&full)).abs() < 0.1 * full[0], "{half:?}");
        }
    }
}

#[test]
fn a_gradient_that_overflows_is_skipped_with_a_smaller_scale_and_training_resumes_exactly() {
    let toy = Toy { config: config("pre"), spikes: 2..4 };
    let plan = plan("precision = \"fp16\"\n");
    let train =
        |folder: &Path, steps| without_fused(|| train(folder, &toy, &plan, steps, &Device::Cpu)).unwrap();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [whole, parts] = folders.each_ref().map(|f| f.path());
    let at_once = flat(&train(whole, 8).weights.last);
    let scales = logged(whole, |line| line["figures"]["loss_scale"].as_f64());
    let first = LossScale::FIRST;
    assert_eq!(
        scales,
        [first, first, first, first / 2.0, first / 4.0, first / 4.0, first / 4.0, first / 4.0]
    );
    let skipped = logged(whole, |line| line["figures"]["skipped"].as_f64().and(line["step"].as_f64()));
    assert_eq!(skipped, [3.0, 4.0]);
    let state: TrainState = read_json(&whole.join("finetune.last/state.json")).unwrap();
    assert_eq!((state.step, state.scale.unwrap().factor()), (8, first / 4.0));

    // A skipped step moves nothing.
    let before = flat(&train(parts, 2).weights.last);
    assert!(before == flat(&train(parts, 4).weights.last));
    let stopped = tempfile::tempdir().unwrap();
    resumed_equals(&toy, &plan, stopped.path(), &at_once);
}

/// A run that is ended twice goes on to the same weights.
fn resumed_equals(toy: &Toy, plan: &TrainPlan, folder: &Path, want: &BTreeMap<String, Vec<f32>>) {
    /// Ends a run with an error at a step, as a kill does.
    struct Killed<'a>(&'a Toy, u64);
    impl Objective for Killed<'_> {
        type Batch = <Toy as Objective>::Batch;
        fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
            self.0.batch(step, rows)
        }
        fn loss(&self, params: &Params, batch: &Self::Batch, context: &Context<'_>) -> ModelResult<Loss> {
            if batch.2 == self.1 { candle_core::bail!("killed") } else { self.0.loss(params, batch, context) }
        }
        fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
            self.0.validate(params)
        }
    }
    let run = Run::open(folder).unwrap();
    let inputs = BTreeMap::from([("recipe".into(), "this".into())]);
    let trainer = Trainer {
        stage: "finetune",
        run: &run,
        inputs: &inputs,
        config: &toy.config,
        seed: 3,
        plan,
        batch: ROWS,
        steps: 8,
        validate_every: 5,
        checkpoint_every: 1,
        metric: Metric::lower("loss"),
    };
    let start = || Ok(Params::new(&toy.config, 5)?);
    // Between the two skipped steps, and after them.
    for at in [3, 6] {
        let stopped = without_fused(|| trainer.train(&Killed(toy, at), start)).err().unwrap();
        assert!(stopped.to_string().contains("killed"), "{stopped}");
    }
    let trained = without_fused(|| trainer.train(toy, start)).unwrap();
    assert!(flat(&trained.weights.last) == *want);
}

#[test]
fn gradients_that_no_scale_helps_end_the_run() {
    let toy = Toy { config: config("pre"), spikes: 0..u64::MAX };
    let folder = tempfile::tempdir().unwrap();
    let plan = plan("precision = \"fp16\"\n");
    let error = without_fused(|| train(folder.path(), &toy, &plan, 40, &Device::Cpu)).err().unwrap();
    // 65,536 can be halved 16 times.
    assert!(matches!(error, Error::Diverged { step: 17, .. }), "{error}");
}

#[test]
fn half_precision_is_refused_on_the_cpu() {
    let toy = Toy { config: config("pre"), spikes: 0..0 };
    for name in ["bf16", "fp16"] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&format!("precision = \"{name}\"\n"));
        let error = train(folder.path(), &toy, &plan, 2, &Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("finetune.train.precision") && error.contains("--device cuda"), "{error}");
    }
    assert!(toml::from_str::<TrainPlan>("precision = \"fp8\"").is_err());
    // A plan of full precision is written as it was before there was another, so that its digest stays.
    assert!(!serde_json::to_string(&plan("")).unwrap().contains("precision"));
}

#[test]
fn adamw_on_one_flat_tensor_is_adamw() {
    let config = config("pre");
    let gradient = |name: &str, n: usize, step: usize| {
        let salt = name.len() * 31 + step * 17;
        let values = (0..n).map(|i| (((i * 37 + salt) % 41) as f32 - 20.0) / 10.0).collect::<Vec<f32>>();
        Tensor::from_vec(values, n, &Device::Cpu).unwrap()
    };
    for device in device::all() {
        let start = || Params::new(&config, 2).unwrap();
        let (own, flat_params) = (start(), start().to_device(&device).unwrap());
        let new = || {
            let schedule = Schedule { peak: 1e-2, warmup_steps: 2, total_steps: 9 };
            let mut optimizer = AdamW::new(AdamWOptions::default(), schedule);
            optimizer.set_rates(own.iter().map(|(n, _)| (n, if n.contains("layer.0") { 0.5 } else { 1.0 })));
            optimizer
        };
        let (mut plain, mut on_gpu) = (new(), new());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("optimizer.safetensors");
        for step in 0..6 {
            // A step of another question leaves some parameters without a gradient.
            let has = |name: &str| step % 3 != 1 || !name.starts_with("head.");
            let gradients = |params: &Params| -> BTreeMap<String, Tensor> {
                let of = |(name, var): (&str, &candle_core::Var)| {
                    let g = gradient(name, var.elem_count(), step).reshape(var.shape()).unwrap();
                    (name.to_owned(), g.to_device(var.device()).unwrap())
                };
                params.iter().filter(|(name, _)| has(name)).map(of).collect()
            };
            let a = plain.update(&own, &gradients(&own)).unwrap();
            let b = without_fused(|| on_gpu.update(&flat_params, &gradients(&flat_params))).unwrap();
            assert!((a - b).abs() < 1e-5 * a, "{a} and {b}");
            // Each goes on from what the other wrote.
            if step == 2 || step == 3 {
                on_gpu.write(&file).unwrap();
                let other = folder.path().join("other.safetensors");
                plain.write(&other).unwrap();
                plain.read(&file).unwrap();
                on_gpu.read(&other).unwrap();
            }
        }
        assert_eq!(plain.steps(), on_gpu.steps());
        let (a, b) = (flat(&own), flat(&flat_params));
        let moved = flat(&start());
        for (name, values) in &a {
            assert!(*values != moved[name], "{name} did not move");
            for (x, y) in values.iter().zip(&b[name]) {
                assert!((x - y).abs() < 1e-5, "{name}: {x} and {y}");
            }
        }
        // A gradient that is no number moves nothing.
        let nan = BTreeMap::from([("head.out.bias".to_owned(), Tensor::new(&[f32::NAN], &device).unwrap())]);
        assert!(!without_fused(|| on_gpu.update(&flat_params, &nan)).unwrap().is_finite());
        assert!(b == flat(&flat_params) && on_gpu.steps() == 6);
    }
}
