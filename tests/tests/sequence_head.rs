//! The sequence head: candle, ONNX Runtime and tract give the same logits; the frame that a sequence begins in
//! changes nothing of the pooled frames; every parameter moves.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use locus_calibration::{CalibrationTable, MinMax, max_abs_error};
use locus_engine::{EngineKind, Graphs, Inputs, LoadOptions, Precision, Row, logits_of, open_graphs, ort};
use locus_export::{SafetensorsWeights, build_fp32, build_int8, to_bytes};
use locus_firmware_config::profile::DeviceProfile;
use locus_host::{
    model::{Context, ModelConfig, Observer, Params, Rows, SequenceHead},
    nn::{ClassLoss, class_loss},
    train::{AdamW, AdamWOptions, Schedule},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// FP32 kernels differ in the order of their sums only.
const FP32: f64 = 1e-4;
/// Part of the logits' spread that 8-bit steps through two random layers may move one.
const INT8: f64 = 0.03;
const BUCKETS: [u32; 2] = [32, 64];

/// Kinds of token of the n-grams, beside none.
const KINDS: usize = 6;
/// Stands for no reading frames and a linear model of n-grams.
const GRAMS: usize = 2;

/// 3 reading frames with a wide path of counts; none (1), and n-grams ([`GRAMS`]); or marks, of which there are 20, with
/// substitutions (20).
fn config(frames: usize) -> ModelConfig {
    let wide = match frames {
        GRAMS => serde_json::json!({ "of": "grams", "n": 3, "kinds": KINDS }),
        20 => serde_json::json!({ "of": "substitutions" }),
        _ => serde_json::Value::Null,
    };
    let (frames, marks) = if frames == GRAMS { (1, 1) } else { (frames, frames) };
    serde_json::from_value(serde_json::json!({
        "wide": wide,
        "counted": if frames == 3 { 7 } else { 0 },
        "model_type": "bert", "vocab_size": 69, "type_vocab_size": if frames == 3 { 4 } else { marks }, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu",
        "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2, "norm_position": "pre",
        "head": "sequence", "frames": if frames == 20 { 1 } else { frames }, "labels": ["a", "b", "c"], "n_features": 0, "track_codes": [],
    }))
    .unwrap()
}

struct Owned {
    ids: Vec<i64>,
    track: Vec<i64>,
}

impl Owned {
    fn random(rng: &mut ChaCha8Rng, tokens: usize, frames: usize) -> Self {
        let mut ids: Vec<i64> = (0..tokens).map(|_| rng.random_range(5..69)).collect();
        (ids[0], ids[tokens - 1]) = (2, 3);
        let code = |i| match frames {
            _ if i == 0 || i == tokens - 1 => 0,
            1 | GRAMS => 0,
            3 => 1 + (i - 1) % 3,
            _ => {
                if i == tokens / 2 {
                    7
                } else {
                    0
                }
            }
        };
        Self { ids, track: (0..tokens).map(|i| code(i) as i64).collect() }
    }

    /// Padded to `tokens`.
    fn rows(&self, tokens: usize) -> Rows {
        let pad = |v: &[i64]| v.iter().map(|&i| i as u32).chain(std::iter::repeat(0)).take(tokens).collect();
        let mask = (0..tokens).map(|i| f32::from(u8::from(i < self.ids.len()))).collect();
        Rows { rows: 1, tokens, ids: pad(&self.ids), track: pad(&self.track), mask }
    }
}

#[derive(Default)]
struct Ranges(BTreeMap<String, MinMax>);

impl Observer for Ranges {
    fn observe(&mut self, name: &str, values: &candle_core::Tensor) -> candle_core::Result<()> {
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        self.0.entry(name.to_owned()).or_default().observe(&values).map_err(candle_core::Error::wrap)
    }
}

/// Gives every token a kind, most of them none, and runs with none no weight.
fn set_grams(params: &Params) {
    let set = |name: &str, change: &dyn Fn(usize, f32) -> f32| {
        let old = params.get(name).unwrap();
        let values = old.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values: Vec<f32> = values.into_iter().enumerate().map(|(i, v)| change(i, v)).collect();
        params.set(name, &candle_core::Tensor::from_vec(values, old.shape(), old.device()).unwrap()).unwrap();
    };
    set("head.linear.kinds", &|id, _| {
        if id < 5 { 0.0 } else { (id % (2 * KINDS)) as f32 % (KINDS + 1) as f32 }
    });
    for length in 1..=3 {
        let kind = |row: usize, n| row / (KINDS + 1).pow(n);
        let known = |row: usize| (0..length).all(|n| !kind(row, n).is_multiple_of(KINDS + 1));
        let weight = |i: usize, v| if known(i / 3) { v } else { 0.0 };
        set(&format!("head.linear.grams.{length}"), &weight);
    }
}

fn logits(config: &ModelConfig, params: &Params, rows: &Rows, context: &Context<'_>) -> Vec<f32> {
    let logits = SequenceHead::new(config, params).forward(rows, context).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// A random model, its graphs, and candle's logits of random rows of both buckets.
fn case(frames: usize, seed: u64, count: usize) -> (Vec<Owned>, Vec<f32>, Graphs) {
    let config = config(frames);
    let params = Params::new(&config, seed).unwrap();
    if frames == GRAMS {
        set_grams(&params);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<Owned> = (0..count)
        .map(|i| {
            let tokens = if i % 2 == 0 { rng.random_range(3..=32) } else { rng.random_range(33..=64) };
            Owned::random(&mut rng, tokens, frames)
        })
        .collect();
    let mut ranges = Ranges::default();
    let expected = rows
        .iter()
        .flat_map(|r| logits(&config, &params, &r.rows(r.ids.len()), &Context::observe(&mut ranges)))
        .collect();
    let ranges = ranges.0.into_iter().map(|(n, m)| (n, m.range().unwrap())).collect();
    let table =
        CalibrationTable { method: "min-max".into(), samples: count as u64, ranges, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    params.write(&file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let weights = SafetensorsWeights::parse(&bytes).unwrap();
    let fp32 = to_bytes(&build_fp32(&config, &weights).unwrap());
    let int8 = to_bytes(&build_int8(&config, &weights, &table).unwrap());
    let graphs = Graphs::from_onnx(Some(fp32), Some(int8), &BUCKETS, 8, 3, 0).reading(Inputs::Sequence);
    (rows, expected, graphs)
}

/// Largest difference from candle, and the spread of its logits.
fn difference(frames: usize, seed: u64, engine: EngineKind, precision: Precision) -> (f64, f64) {
    let (rows, expected, graphs) = case(frames, seed, 60);
    let options = LoadOptions { order: vec![engine], precision, ..LoadOptions::default() };
    let mut opened = open_graphs(&graphs, &DeviceProfile::named("base").unwrap(), &options).unwrap();
    let rows: Vec<Row<'_>> = rows.iter().map(|r| Row::sequence(&r.ids, &r.track)).collect();
    let got = logits_of(&mut *opened.session, &rows).unwrap().concat();
    let (least, most) = expected.iter().fold((f32::MAX, f32::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
    assert!(most - least > 0.1, "the model says the same of everything");
    (max_abs_error(&got, &expected), f64::from(most - least))
}

#[test]
fn onnx_runtime_equals_candle() {
    if ort::library_path(None).map_err(|why| println!("skipped: {why}")).is_err() {
        return;
    }
    for frames in [1, GRAMS, 3, 20] {
        let (d, _) = difference(frames, 1, EngineKind::OrtCpu, Precision::Fp32);
        assert!(d <= FP32, "{frames} frames: {d}");
        let (d, spread) = difference(frames, 2, EngineKind::OrtCpu, Precision::Int8);
        assert!(d / spread <= INT8 && d > FP32, "{frames} frames: {d} of {spread}");
    }
}

#[test]
fn tract_equals_candle() {
    for frames in [1, GRAMS, 3, 20] {
        let (d, _) = difference(frames, 3, EngineKind::Tract, Precision::Fp32);
        assert!(d <= FP32, "{frames} frames: {d}");
    }
}

#[test]
fn a_linear_model_of_n_grams_or_substitutions_is_read_and_padding_is_none_of_it() {
    for frames in [GRAMS, 20] {
        let config = config(frames);
        let params = Params::new(&config, 9).unwrap();
        if frames == GRAMS {
            set_grams(&params);
        }
        let row = Owned::random(&mut ChaCha8Rng::seed_from_u64(9), 30, frames);
        let run = |tokens| logits(&config, &params, &row.rows(tokens), &Context::eval());
        let plain = run(30);
        assert!(max_abs_error(&plain, &run(64)) < 1e-5, "{frames}");
        let deep = SequenceHead::new(&config, &params).deep(&row.rows(30), &Context::eval()).unwrap();
        let deep: Vec<f32> = deep.flatten_all().unwrap().to_vec1().unwrap();
        assert!(max_abs_error(&plain, &deep) > 1e-2, "{frames}: the linear model says nothing");
    }
}

#[test]
fn neither_padding_nor_the_number_of_a_frame_changes_a_logit() {
    let config = config(3);
    let params = Params::new(&config, 5).unwrap();
    // Without the embeddings of the frames, which tell them apart on purpose.
    let (_, frames) = params.iter().find(|(n, _)| n.contains("token_type")).unwrap();
    frames.set(&frames.zeros_like().unwrap()).unwrap();
    let row = Owned::random(&mut ChaCha8Rng::seed_from_u64(5), 30, 3);
    let run = |rows: &Rows| logits(&config, &params, rows, &Context::eval());
    let plain = run(&row.rows(30));
    let mut turned = row.rows(30);
    turned.track.iter_mut().filter(|t| **t > 0).for_each(|t| *t = 1 + *t % 3);
    for other in [run(&row.rows(64)), run(&turned)] {
        assert!(max_abs_error(&plain, &other) < 1e-5, "{plain:?} {other:?}");
    }
    let mut scrambled = row.rows(30);
    scrambled
        .track
        .iter_mut()
        .enumerate()
        .filter(|(_, t)| **t > 0)
        .for_each(|(i, t)| *t = 1 + (i as u32 / 5) % 3);
    assert!(max_abs_error(&plain, &run(&scrambled)) > 1e-3, "the frames are not read");
}

#[test]
fn every_parameter_of_the_sequence_model_moves() {
    let config = config(3);
    let params = Params::new(&config, 7).unwrap();
    let before = params.snapshot().unwrap();
    let schedule = Schedule { peak: 1e-2, warmup_steps: 1, total_steps: 100 };
    let mut optimizer = AdamW::new(AdamWOptions::default(), schedule);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let rows: Vec<Rows> = (0..6).map(|_| Owned::random(&mut rng, 64, 3).rows(64)).collect();
    let batch = Rows {
        rows: 6,
        tokens: 64,
        ids: rows.iter().flat_map(|r| r.ids.clone()).collect(),
        track: rows.iter().flat_map(|r| r.track.clone()).collect(),
        mask: rows.iter().flat_map(|r| r.mask.clone()).collect(),
    };
    for seed in 0..2 {
        let logits = SequenceHead::new(&config, &params).forward(&batch, &Context::train(0.1, seed)).unwrap();
        let loss = class_loss(&logits, &[0, 1, 2, 2, 1, 0], &ClassLoss::default()).unwrap();
        let all = loss.backward().unwrap();
        let of = |(n, v): (&str, &candle_core::Var)| Some((n.to_owned(), all.get(v.as_tensor())?.clone()));
        let gradients = params.iter().filter_map(of).collect();
        optimizer.update(&params, &gradients).unwrap();
    }
    let flat = |v: &candle_core::Var| v.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for ((name, now), (_, was)) in
        params.iter().zip(before.iter()).filter(|((n, _), _)| !n.starts_with("cls."))
    {
        assert!(flat(now).iter().all(|v| v.is_finite()), "{name}");
        let fixed = name.starts_with("head.counted.");
        assert_eq!(flat(now) == flat(was), fixed, "{name}: only what was counted stays");
    }
}
