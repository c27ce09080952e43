//! Gradients: every op and the whole encoder against finite differences, every parameter of the whole model,
//! and that a step moves each of them.
#![allow(clippy::unwrap_used, reason = "a test")]

use candle_core::{Device, Result, Tensor, Var};
use locus_host::{
    model::{
        Context, Encoder, HeadKind, MlmHead, ModelConfig, PairBatch, Params, Rows, SegmentHead,
        SegmentQuestion,
    },
    nn::{
        Attention, ClassLoss, Dropout, attention, bce_with_logits, bias_add, bias_dropout_residual,
        bias_gelu, class_loss, cross_entropy, dropout, embed, huber, layer_norm,
    },
    train::{AdamW, AdamWOptions, Schedule, mlm_step, pair_loss, pair_step},
};
use rand::{RngExt, SeedableRng};

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Compares the gradient of Σ weight·f(x) with central differences at every element of every input.
fn check(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let output = f(&tensors).unwrap();
    let weight = random(output.dims(), 99);
    let gradients = (&output * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    let value = |changed: &[Tensor]| -> f64 {
        let y = (f(changed).unwrap() * &weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        y.into_iter().map(f64::from).sum()
    };
    // Central differences in f32: a step of 1e-2 leaves an error of 1e-4 from curvature and rounding.
    const STEP: f32 = 1e-2;
    for (i, input) in inputs.iter().enumerate() {
        let analytic =
            gradients.get(vars[i].as_tensor()).unwrap_or_else(|| panic!("{name}: input {i} has no gradient"));
        let analytic = analytic.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let flat = input.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (j, &a) in analytic.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = flat.clone();
                values[j] += by;
                let mut all = inputs.to_vec();
                all[i] = Tensor::from_vec(values, input.dims(), &Device::Cpu).unwrap();
                value(&all)
            };
            let numeric = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let difference = (f64::from(a) - numeric).abs();
            assert!(
                difference < 5e-3 * (1.0 + numeric.abs()),
                "{name}: input {i}[{j}]: {a} against {numeric}"
            );
        }
    }
}

#[test]
fn every_op_agrees_with_finite_differences() {
    let x = random(&[6, 16], 1);
    let (w, b) = (random(&[16], 2), random(&[16], 3));
    check("layer norm", &[x.clone(), w.clone(), b.clone()], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5));
    check("bias", &[x.clone(), b.clone()], |t| bias_add(&t[0], &t[1]));
    check("bias gelu", &[x.clone(), b.clone()], |t| bias_gelu(&t[0], &t[1]));
    check("dropout", std::slice::from_ref(&x), |t| dropout(&t[0], Dropout::new(0.4, 5)));
    check("residual", &[x.clone(), b.clone(), random(&[6, 16], 4)], |t| {
        bias_dropout_residual(&t[0], &t[1], &t[2], Dropout::new(0.4, 6))
    });
    let shape = Attention { batch: 2, tokens: 5, heads: 2, head_width: 4 };
    let mask =
        Tensor::from_vec(vec![1.0f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], (2, 5), &Device::Cpu)
            .unwrap();
    check("attention", &[random(&[10, 24], 7), random(&[24], 8)], |t| attention(&t[0], &t[1], &mask, shape));
    // Ids and codes that come several times, and some that never do.
    let (ids, track) = ([1, 4, 1, 0, 4, 1], [0, 1, 1, 2, 0, 2]);
    check("embedding", &[random(&[6, 4], 11), random(&[4, 4], 12), random(&[3, 4], 13)], |t| {
        embed(&t[0], &t[1], &t[2], &ids, &track, 3)
    });
    check("cross entropy", &[random(&[4, 7], 9)], |t| cross_entropy(&t[0], &[0, 6, 3, 3]));
    for (name, how) in [
        ("smoothed", ClassLoss { smoothing: 0.1, ..ClassLoss::default() }),
        ("focal", ClassLoss { focal: 2.0, ..ClassLoss::default() }),
        ("all", ClassLoss { smoothing: 0.1, focal: 1.5, weights: vec![0.5, 2.0, 1.0] }),
    ] {
        check(name, &[random(&[4, 3], 9)], |t| class_loss(&t[0], &[0, 2, 1, 1], &how));
    }
    check("huber", &[random(&[4, 1], 10)], |t| huber(&t[0], &[0.2, 3.0, -0.4, -2.5]));
    check("bce", &[random(&[4, 1], 10)], |t| {
        bce_with_logits(&t[0], &[0.0, 1.0, 0.5, 1.0], &[1.0, 2.0, 1.0, 0.5])
    });
}

fn config() -> ModelConfig {
    ModelConfig {
        model_type: "bert".into(),
        vocab_size: 69,
        type_vocab_size: 9,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        hidden_act: "gelu".into(),
        max_position_embeddings: 12,
        layer_norm_eps: 1e-12,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.0,
        initializer_range: 0.1,
        norm_position: "pre".into(),
        head: Default::default(),
        frames: 1,
        counted: 0,
        wide: None,
        layer_sizes: Vec::new(),
        labels: vec!["pathogenic".into()],
        n_features: 10,
        track_codes: Vec::new(),
    }
}

/// Central differences of Σ weight·hidden at every number of the encoder: embeddings, both layers with their
/// residuals, norms and dropout, and the last norm, with padding in a row.
fn encoder_agrees_with_finite_differences(norm_position: &str) {
    const STEP: f32 = 1e-2;
    let config = ModelConfig {
        vocab_size: 9,
        type_vocab_size: 3,
        hidden_size: 8,
        intermediate_size: 12,
        max_position_embeddings: 5,
        layer_norm_eps: 1e-5,
        norm_position: norm_position.into(),
        ..config()
    };
    let params = Params::new(&config, 1).unwrap();
    for (seed, (name, var)) in params.iter().enumerate() {
        let values = random(var.dims(), 100 + seed as u64);
        // Wide enough for the step to be small beside them; norms around one, as in use.
        let values = if name.ends_with("LayerNorm.weight") { values.affine(0.5, 1.0) } else { Ok(values) };
        var.set(&values.unwrap()).unwrap();
    }
    let rows = Rows {
        rows: 2,
        tokens: 5,
        ids: vec![2, 5, 6, 7, 3, 2, 8, 5, 3, 0],
        track: vec![0, 1, 1, 2, 0, 0, 2, 2, 0, 0],
        mask: vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    };
    let weight = random(&[10, 8], 99);
    // The seed places what dropout drops: the same at every evaluation.
    let weighted = || {
        let hidden = Encoder::new(&config, &params).forward(&rows, &Context::train(0.2, 7)).unwrap();
        (hidden * &weight).unwrap()
    };
    let value = || -> f64 {
        weighted().flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).sum()
    };
    let gradients = weighted().sum_all().unwrap().backward().unwrap();
    let mut checked = 0;
    for (name, var) in params.iter().filter(|(name, _)| name.starts_with("bert.")) {
        let analytic = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let analytic = analytic.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let flat = var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let set = |values: &[f32]| {
            var.set(&Tensor::from_slice(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
        };
        for (j, &a) in analytic.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = flat.clone();
                values[j] += by;
                set(&values);
                value()
            };
            let numeric = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let difference = (f64::from(a) - numeric).abs();
            assert!(
                difference < 2e-2 * (1.0 + numeric.abs()),
                "{norm_position} {name}[{j}]: {a} against {numeric}"
            );
            checked += 1;
        }
        set(&flat);
    }
    assert!(checked > 900, "{checked}");
}

#[test]
fn the_encoder_with_norms_before_agrees_with_finite_differences() {
    encoder_agrees_with_finite_differences("pre");
}

#[test]
fn the_encoder_with_norms_after_agrees_with_finite_differences() {
    encoder_agrees_with_finite_differences("post");
}

/// Central differences of a weighted sum of both answers of the segment head at every number of its own tensors and
/// of the first token's way through the encoder's last norm.
#[test]
fn the_segment_head_agrees_with_finite_differences() {
    const STEP: f32 = 1e-2;
    let config = ModelConfig {
        vocab_size: 9,
        type_vocab_size: 1,
        hidden_size: 8,
        intermediate_size: 12,
        max_position_embeddings: 6,
        head: HeadKind::Pretraining,
        ..config()
    };
    let params = Params::new(&config, 1).unwrap();
    for (seed, (name, var)) in params.iter().enumerate() {
        let values = random(var.dims(), 100 + seed as u64);
        let values = if name.ends_with("LayerNorm.weight") { values.affine(0.5, 1.0) } else { Ok(values) };
        var.set(&values.unwrap()).unwrap();
    }
    let rows = Rows {
        rows: 2,
        tokens: 6,
        ids: vec![2, 5, 6, 3, 7, 3, 2, 8, 3, 5, 3, 0],
        track: vec![0; 12],
        mask: vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    };
    let weighted = || {
        let head = SegmentHead::new(&config, &params);
        let answers = |question, columns: usize| {
            let logits = head.forward(&rows, question, &Context::eval()).unwrap();
            (logits * random(&[2, columns], 99)).unwrap().sum_all().unwrap()
        };
        (answers(SegmentQuestion::Follows, 2) + answers(SegmentQuestion::Order, 6)).unwrap()
    };
    let gradients = weighted().backward().unwrap();
    let own = ["bert.pooler.", "cls.seq_relationship.", "cls.segment_order.", "bert.encoder.LayerNorm."];
    let mut checked = 0;
    for (name, var) in params.iter().filter(|(name, _)| own.iter().any(|o| name.starts_with(o))) {
        let analytic = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let analytic = analytic.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let flat = var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let set = |values: &[f32]| {
            var.set(&Tensor::from_slice(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
        };
        for (j, &a) in analytic.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = flat.clone();
                values[j] += by;
                set(&values);
                f64::from(weighted().to_scalar::<f32>().unwrap())
            };
            let numeric = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let difference = (f64::from(a) - numeric).abs();
            assert!(difference < 2e-2 * (1.0 + numeric.abs()), "{name}[{j}]: {a} against {numeric}");
            checked += 1;
        }
        set(&flat);
    }
    assert!(checked > 150, "{checked}");
}

#[test]
fn every_parameter_of_the_pretraining_model_has_a_finite_non_zero_gradient() {
    let config = ModelConfig { head: HeadKind::Pretraining, ..config() };
    let params = Params::new(&config, 5).unwrap();
    let rows = batch(3).0.rows;
    let context = Context::train(0.1, 1);
    let hidden = MlmHead::new(&config, &params).forward(&rows, &[1, 5, 9], &context).unwrap();
    let segments = |question, classes: u32| {
        let logits = SegmentHead::new(&config, &params).forward(&rows, question, &context).unwrap();
        cross_entropy(&logits, &(0..16).map(|n| n % classes).collect::<Vec<_>>()).unwrap()
    };
    let loss = [
        cross_entropy(&hidden, &[7, 8, 9]).unwrap(),
        segments(SegmentQuestion::Follows, 2),
        segments(SegmentQuestion::Order, 6),
    ];
    let gradients = Tensor::stack(&loss, 0).unwrap().sum_all().unwrap().backward().unwrap();
    for (name, var) in params.iter() {
        let g = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let g = g.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(g.iter().all(|v| v.is_finite()), "{name}");
        if !name.ends_with("self.key.bias") {
            assert!(g.iter().any(|v| v.abs() > 1e-9), "{name} has a gradient of zero");
        }
    }
}

fn batch(seed: u64) -> (PairBatch, Vec<f32>) {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (pairs, tokens) = (8, 12);
    let n = pairs * tokens;
    let reference: Vec<u32> =
        (0..n).map(|i| if i % tokens == 0 { 2 } else { rng.random_range(5..69) }).collect();
    let mut ids = reference.clone();
    ids.extend(
        reference
            .iter()
            .enumerate()
            .map(|(i, &id)| if (5..8).contains(&(i % tokens)) { 5 + (id + 9) % 64 } else { id }),
    );
    let track: Vec<u32> = (0..2 * n).map(|i| (i % 9) as u32).collect();
    let features: Vec<f32> = (0..pairs * 10).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels = (0..pairs).map(|i| (i % 2) as f32).collect();
    let rows = Rows { rows: 2 * pairs, tokens, ids, track, mask: vec![1.0; 2 * n] };
    (PairBatch { rows, features }, labels)
}

fn optimizer() -> AdamW {
    AdamW::new(AdamWOptions::default(), Schedule { peak: 1e-2, warmup_steps: 1, total_steps: 100 })
}

/// Parameters whose gradient must be there for a head; keys' biases are exempt from "non-zero", because
/// softmax does not see a constant added to every score.
fn every_parameter_moves(
    for_head: &str,
    other_head: &str,
    step: impl Fn(&ModelConfig, &Params, &mut AdamW) -> f32,
) {
    let config = config();
    let params = Params::new(&config, 3).unwrap();
    let before = params.snapshot().unwrap();
    let mut optimizer = optimizer();
    for _ in 0..2 {
        assert!(step(&config, &params, &mut optimizer).is_finite());
    }
    let mut checked = 0;
    for ((name, now), (_, was)) in params.iter().zip(before.iter()) {
        if name.starts_with(other_head) {
            continue;
        }
        let flat = |v: &Var| v.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (now, was) = (flat(now), flat(was));
        assert!(now.iter().all(|v| v.is_finite()), "{name} is not finite");
        let moved = now.iter().zip(&was).filter(|(a, b)| a != b).count();
        assert!(moved > 0, "{name} did not move while training {for_head}");
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn every_parameter_of_the_pair_model_moves() {
    every_parameter_moves("the pair head", "cls.", |config, params, optimizer| {
        let (batch, labels) = batch(1);
        pair_step(config, params, optimizer, &batch, &labels, 4).unwrap()
    });
}

#[test]
fn every_parameter_of_the_masked_model_moves() {
    every_parameter_moves("the masked head", "head.", |config, params, optimizer| {
        let (batch, _) = batch(2);
        let positions: Vec<u32> = (0..40).map(|i| i * 4 + 1).collect();
        let targets: Vec<u32> = positions.iter().map(|&p| batch.rows.ids[p as usize]).collect();
        mlm_step(config, params, optimizer, &batch.rows, &positions, &targets, 4).unwrap()
    });
}

#[test]
fn every_parameter_has_a_finite_non_zero_gradient() {
    let config = config();
    let params = Params::new(&config, 5).unwrap();
    let (batch, labels) = batch(3);
    let loss = pair_loss(&config, &params, &batch, &labels, &Context::train(0.1, 1)).unwrap();
    let logits = MlmHead::new(&config, &params).forward(&batch.rows, &[1, 5, 9], &Context::eval()).unwrap();
    let gradients = (loss + cross_entropy(&logits, &[7, 8, 9]).unwrap()).unwrap().backward().unwrap();
    for (name, var) in params.iter() {
        let g = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let g = g.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(g.iter().all(|v| v.is_finite()), "{name}");
        // A constant added to every key changes no softmax: only rounding is left of that gradient.
        if !name.ends_with("self.key.bias") {
            assert!(g.iter().any(|v| v.abs() > 1e-9), "{name} has a gradient of zero");
        }
    }
}

#[test]
fn a_resumed_run_repeats_the_uninterrupted_one() {
    let config = config();
    let folder = tempfile::tempdir().unwrap();
    let (weights, state) =
        (folder.path().join("model.safetensors"), folder.path().join("optimizer.safetensors"));
    let run = |params: &Params, optimizer: &mut AdamW, steps: std::ops::Range<u64>| -> Vec<f32> {
        steps
            .map(|i| {
                let (b, l) = batch(i);
                pair_step(&config, params, optimizer, &b, &l, i).unwrap()
            })
            .collect()
    };
    let params = Params::new(&config, 7).unwrap();
    let mut whole = optimizer();
    run(&params, &mut whole, 0..5);
    params.write(&weights).unwrap();
    whole.write(&state).unwrap();
    let expected = run(&params, &mut whole, 5..10);
    let params = Params::read(&weights, &config, 0).unwrap();
    let mut resumed = optimizer();
    resumed.read(&state).unwrap();
    assert_eq!((resumed.steps(), run(&params, &mut resumed, 5..10)), (5, expected));
}

#[test]
fn padding_does_not_change_a_hidden_state() {
    let config = config();
    let params = Params::new(&config, 11).unwrap();
    let (batch, _) = batch(5);
    let short: Rows = Rows {
        rows: 1,
        tokens: 8,
        ids: batch.rows.ids[..8].to_vec(),
        track: batch.rows.track[..8].to_vec(),
        mask: vec![1.0; 8],
    };
    let mut long = short.clone();
    long.tokens = 12;
    long.ids.extend([0; 4]);
    long.track.extend([0; 4]);
    long.mask.extend([0.0; 4]);
    let encode = |rows: &Rows| {
        Encoder::new(&config, &params).forward(rows, &Context::eval()).unwrap().to_vec2::<f32>().unwrap()
    };
    for (a, b) in encode(&short).iter().flatten().zip(encode(&long)[..8].iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}
