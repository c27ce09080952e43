//! Pruning over small random models.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::*;
use crate::{
    data::{Pair, pack},
    infer,
    model::{Context, LayerSize, ModelConfig, PairBatch, Params},
    recipe::Shares,
    train::pair_loss,
};

fn config() -> ModelConfig {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
    ModelConfig { initializer_range: 0.3, ..crate::Recipe::read(&recipe).unwrap().model_config(69, 3) }
}

fn pairs() -> Vec<Pair> {
    let pair = |shift: u16| Pair {
        ref_ids: vec![2, 9, 20, 33, 3],
        alt_ids: vec![2, 11 + shift, 20, 41, 3],
        track: vec![0, 6, 6, 7, 0],
        ..Pair::default()
    };
    (0..4).map(pair).collect()
}

fn batch(pair: usize) -> PairBatch {
    pack(&pairs()[pair..=pair], config().n_features, &[8])
}

fn logits(config: &ModelConfig, params: &Params) -> Vec<f32> {
    infer::logits(config, params, &pairs(), &[8]).unwrap()
}

fn reader(layer: usize, part: &str) -> String {
    format!("bert.encoder.layer.{layer}.{part}output.dense.weight")
}

/// Multiplies columns of a matrix.
fn scale(params: &Params, name: &str, columns: std::ops::Range<usize>, by: f32) {
    let tensor = params.get(name).unwrap().detach();
    let factors: Vec<f32> =
        (0..tensor.dim(1).unwrap()).map(|i| if columns.contains(&i) { by } else { 1.0 }).collect();
    let factors = Tensor::new(factors, &Device::Cpu).unwrap();
    params.set(name, &tensor.broadcast_mul(&factors).unwrap()).unwrap();
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn what_reaches_nothing_is_taken_out_and_no_logit_moves() {
    for norm in ["pre", "post"] {
        let config = ModelConfig { norm_position: norm.into(), ..config() };
        let params = Params::new(&config, 7).unwrap();
        let (width, ffn) = (config.head_width(), config.intermediate_size);
        scale(&params, &reader(0, "attention."), 0..width, 0.0);
        scale(&params, &reader(1, ""), 3..20, 0.0);
        let kept = [
            Kept { heads: vec![1], columns: all(ffn) },
            Kept { heads: all(2), columns: (0..3).chain(20..ffn).collect() },
        ];
        let (smaller, after) = shrink(&config, &params, &kept).unwrap();
        let sizes = [LayerSize { heads: 1, ffn }, LayerSize { heads: 2, ffn: ffn - 17 }];
        assert_eq!(smaller.layer_sizes, sizes);
        let (before, after) = (logits(&config, &params), logits(&smaller, &after));
        let largest = locus_calibration::max_abs_error(&before, &after);
        assert!(largest < 1e-5, "{norm}: {largest}: {before:?} {after:?}");
        // What does reach something is missed.
        let wrong = [kept[1].clone(), kept[1].clone()].map(|k| Kept { heads: vec![0], ..k });
        let (other, without) = shrink(&config, &params, &wrong).unwrap();
        assert!(locus_calibration::max_abs_error(&before, &logits(&other, &without)) > 1e-3, "{norm}");
    }
}

#[test]
fn a_pruned_model_is_pruned_again_and_written_and_read() {
    let config = config();
    let params = Params::new(&config, 7).unwrap();
    let first = Kept { heads: vec![1], columns: (10..40).collect() };
    let (smaller, after) = shrink(&config, &params, &[first.clone(), first]).unwrap();
    let second = Kept { heads: vec![0], columns: vec![0, 29] };
    let (smallest, last) = shrink(&smaller, &after, &[second.clone(), second]).unwrap();
    let direct = Kept { heads: vec![1], columns: vec![10, 39] };
    let (same, at_once) = shrink(&config, &params, &[direct.clone(), direct]).unwrap();
    assert_eq!((smallest.clone(), logits(&smallest, &last)), (same.clone(), logits(&same, &at_once)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    last.write(&file).unwrap();
    assert_eq!(logits(&smallest, &Params::read(&file, &smallest, 0).unwrap()), logits(&smallest, &last));
    assert!(Params::read(&file, &config, 0).is_err());
    let whole = Kept { heads: all(2), columns: all(64) };
    assert_eq!(shrink(&config, &params, &[whole.clone(), whole]).unwrap().0, config);
    let none = Kept { heads: vec![], columns: vec![0] };
    assert!(shrink(&config, &params, &[none.clone(), none]).is_err());
}

#[test]
fn importance_is_what_the_loss_feels_of_a_gate() {
    const STEP: f32 = 1e-2;
    let config = config();
    let params = Params::new(&config, 3).unwrap();
    let loss = |pair: usize, label: f32| {
        let loss = pair_loss(&config, &params, &batch(pair), &[label], &Context::eval()).unwrap();
        f64::from(loss.to_scalar::<f32>().unwrap())
    };
    let records = [(0, 1.0), (1, 0.0), (3, 1.0)];
    let mut importance = Importance::new(&config);
    for (pair, label) in records {
        importance.add(&config, &params, &batch(pair), label).unwrap();
    }
    let width = config.head_width();
    let felt = |name: &str, columns: std::ops::Range<usize>| -> f64 {
        let before = params.get(name).unwrap().detach().copy().unwrap();
        let mut sum = 0.0;
        for (pair, label) in records {
            let gated = |by: f32| {
                scale(&params, name, columns.clone(), by);
                let value = loss(pair, label);
                params.set(name, &before).unwrap();
                value
            };
            sum += ((gated(1.0 + STEP) - gated(1.0 - STEP)) / f64::from(2.0 * STEP)).abs();
        }
        sum
    };
    let largest = importance.heads.iter().flatten().copied().fold(0.0, f64::max);
    assert!(largest > 1e-3, "{importance:?}");
    for layer in 0..2 {
        for head in 0..2 {
            let numeric = felt(&reader(layer, "attention."), head * width..(head + 1) * width);
            let got = importance.heads[layer][head];
            assert!((got - numeric).abs() < 2e-2 * (largest + numeric), "{layer} {head}: {got} {numeric}");
        }
        for column in [0, 17, 63] {
            let numeric = felt(&reader(layer, ""), column..column + 1);
            let got = importance.columns[layer][column];
            assert!((got - numeric).abs() < 2e-2 * (1e-2 + numeric), "{layer} {column}: {got} {numeric}");
        }
    }
}

#[test]
fn masked_weights_are_zero_and_have_no_gradient() {
    let config = config();
    let params = Params::new(&config, 3).unwrap();
    for scope in [Scope::Global, Scope::Layer] {
        let params = params.snapshot().unwrap();
        let masks = masks(&params, 0.75, scope).unwrap();
        apply(&params, &masks).unwrap();
        let zeros = |name: &str| {
            let values = params.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (values.iter().filter(|v| **v == 0.0).count(), values.len())
        };
        let (zero, count) =
            masks.keys().map(|n| zeros(n)).fold((0, 0), |(a, b), (zero, n)| (a + zero, b + n));
        assert!((zero as f64 / count as f64 - 0.75).abs() < 1e-3, "{scope:?}: {zero} of {count}");
        let each = masks.keys().all(|n| zeros(n).0.abs_diff(3 * zeros(n).1 / 4) <= 1);
        assert_eq!(each, scope == Scope::Layer);
        assert!(zeros("bert.embeddings.word_embeddings.weight").0 == 0 && masks.len() == 2 * 6 + 4);
        let masked = params.masked(&masks).unwrap();
        let loss = pair_loss(&config, &masked, &batch(0), &[1.0], &Context::eval()).unwrap();
        let gradients = loss.backward().unwrap();
        let mut free = 0;
        for (name, mask) in &masks {
            let g = gradients.get(params.get(name).unwrap()).unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let both = flat(g).into_iter().zip(flat(mask));
            free += both
                .filter(|(g, m)| {
                    if *m == 0.0 {
                        assert_eq!(*g, 0.0);
                        false
                    } else {
                        *g != 0.0
                    }
                })
                .count();
        }
        assert!(free > 100, "{free}");
    }
    assert!(
        masks(&params, 0.0, Scope::Global).unwrap().values().all(|m| m
            .min_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
            == 1.0)
    );
}

fn step(name: &str, kind: Kind, auroc: f64, ratio: f64) -> Step {
    let figures = Figures { auroc, missense_auroc: Some(auroc - 0.1) };
    let spread = |v: f64| Spread::of(vec![v; 3]).unwrap();
    Step {
        name: name.into(),
        kind,
        layers: vec![LayerSize { heads: 1, ffn: 16 }; 2],
        parameters: [10, 5],
        bytes: [40, 20],
        untuned: None,
        val_select: figures,
        validation: figures,
        parity: 0.0,
        latency: spread(1000.0 * ratio),
        ratio: spread(ratio),
    }
}

#[test]
fn the_fastest_step_within_the_budget_is_kept_and_zeros_never_are() {
    let structured = Kind::Structured(Shares { heads: 0.5, ffn: 0.5 });
    let zeros = Kind::Magnitude { share: 0.9, scope: Scope::Global };
    let steps = [
        step("unpruned", Kind::Unpruned, 0.95, 1.0),
        step("a", structured, 0.949, 0.7),
        step("b", structured, 0.946, 0.5),
        step("c", structured, 0.94, 0.3),
        step("zeros", zeros, 0.96, 0.2),
    ];
    let chosen = |budget, missense_auroc| {
        Budgets { auroc: budget, missense_auroc }.choose(&steps).unwrap().name.clone()
    };
    assert_eq!(chosen(0.005, None), "b");
    assert_eq!(chosen(0.005, Some(0.002)), "a");
    assert_eq!((chosen(0.0, None), chosen(0.5, None)), ("unpruned".into(), "c".into()));
    let report = Report {
        records: 8,
        validation: [10, 20],
        provider: "cpu".into(),
        timed: [64, 9],
        budget: Budgets { auroc: 0.005, missense_auroc: None },
        steps: steps.to_vec(),
        kept: "b".into(),
    };
    let html = page("smoke", &report).unwrap().html();
    assert!(html.contains("b (kept)") && html.matches("<svg").count() == 2, "{html:.300}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let quartiles = Spread::of(vec![4.0, 1.0, 2.0, 3.0, 5.0]).unwrap();
    assert_eq!(quartiles, Spread { low: 2.0, median: 3.0, high: 4.0 });
}
