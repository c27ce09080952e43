//! One model, every engine: candle, ONNX Runtime and tract give the same logits in every bucket. An
//! engine that is not here is a reported skip, never a pass.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use locus_calibration::{CalibrationTable, Observed, max_abs_error};
use locus_engine::{EngineKind, Graphs, LoadOptions, Precision, Row, logits_of, open_graphs, ort};
use locus_export::{
    ModelConfig as ExportConfig, SafetensorsWeights, build_fp32, build_int8, build_int8_fp16,
    build_int8_fp16_rounding_in_fp32, layers, smoothed, to_bytes,
};
use locus_firmware_config::profile::DeviceProfile;
use locus_host::model::{Context, LayerSize, ModelConfig, Observer, PairBatch, PairHead, Params, Rows};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// FP32 kernels differ in the order of their sums only.
const FP32: f64 = 1e-4;
/// Part of the logits' spread that 8-bit steps through two random layers may move one.
const INT8: f64 = 0.03;
const BUCKETS: [u32; 2] = [32, 64];
const FEATURES: usize = 20;

fn config(norm_position: &str) -> ModelConfig {
    serde_json::from_value(serde_json::json!({
        "model_type": "bert", "vocab_size": 69, "type_vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu", "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2, "norm_position": norm_position, "labels": ["pathogenic"], "n_features": FEATURES,
        "track_codes": [],
    }))
    .unwrap()
}

struct Owned {
    ref_ids: Vec<i64>,
    alt_ids: Vec<i64>,
    track: Vec<i64>,
    features: Vec<f32>,
}

impl Owned {
    fn random(rng: &mut ChaCha8Rng, tokens: usize) -> Self {
        let mut ref_ids: Vec<i64> = (0..tokens).map(|_| rng.random_range(5..69)).collect();
        (ref_ids[0], ref_ids[tokens - 1]) = (2, 3);
        let mut alt_ids = ref_ids.clone();
        for id in &mut alt_ids[tokens / 2 - 1..tokens / 2 + 2] {
            *id = 5 + (*id + 7) % 64;
        }
        let track = (0..tokens).map(|_| rng.random_range(0..9)).collect();
        Self {
            ref_ids,
            alt_ids,
            track,
            features: (0..FEATURES).map(|_| rng.random_range(-1.0..1.0)).collect(),
        }
    }

    fn row(&self) -> Row<'_> {
        Row {
            ref_ids: &self.ref_ids,
            alt_ids: &self.alt_ids,
            ref_track: &self.track,
            alt_track: &self.track,
            features: &self.features,
        }
    }

    fn batch(&self) -> PairBatch {
        let ids = self.ref_ids.iter().chain(&self.alt_ids).map(|&i| i as u32).collect();
        let track = self.track.iter().chain(&self.track).map(|&i| i as u32).collect();
        let tokens = self.ref_ids.len();
        PairBatch {
            rows: Rows { rows: 2, tokens, ids, track, mask: vec![1.0; 2 * tokens] },
            features: self.features.clone(),
        }
    }
}

#[derive(Default)]
struct Ranges(BTreeMap<String, Observed>);

impl Observer for Ranges {
    fn observe(&mut self, name: &str, values: &candle_core::Tensor) -> candle_core::Result<()> {
        let channels = values.dim(candle_core::D::Minus1)?;
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        self.0
            .entry(name.to_owned())
            .or_default()
            .observe(&values, channels)
            .map_err(candle_core::Error::wrap)
    }
}

struct Case {
    rows: Vec<Owned>,
    expected: Vec<f32>,
    graphs: Graphs,
    export: ExportConfig,
    checkpoint: Vec<u8>,
    table: CalibrationTable,
    /// Largest absolute value of each channel of each activation.
    channels: BTreeMap<String, Vec<f32>>,
}

impl Case {
    /// The same rows for other graphs.
    fn with(self, fp32: Option<Vec<u8>>, int8: Option<Vec<u8>>) -> Self {
        Self { graphs: Graphs::from_onnx(fp32, int8, &BUCKETS, 8, 1, FEATURES as u32), ..self }
    }
}

/// A random model of a seed, its graphs, and candle's logits of random rows of both buckets.
fn case(norm_position: &str, seed: u64, count: usize) -> Case {
    case_of(&config(norm_position), seed, count)
}

/// The same of which the layers have fewer heads and columns, each another number.
fn pruned(norm_position: &str, seed: u64, count: usize) -> Case {
    let layer_sizes = [(3, 40), (1, 17)].map(|(heads, ffn)| LayerSize { heads, ffn }).into();
    case_of(&ModelConfig { layer_sizes, ..config(norm_position) }, seed, count)
}

fn case_of(config: &ModelConfig, seed: u64, count: usize) -> Case {
    let params = Params::new(config, seed).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let lengths: Vec<usize> = (0..count)
        .map(|i| if i % 2 == 0 { rng.random_range(6..=32) } else { rng.random_range(33..=63) })
        .collect();
    let rows: Vec<Owned> = lengths.into_iter().map(|n| Owned::random(&mut rng, n)).collect();
    let mut ranges = Ranges::default();
    let expected = rows
        .iter()
        .map(|r| {
            let logits =
                PairHead::new(config, &params).forward(&r.batch(), &Context::observe(&mut ranges)).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
        })
        .collect();
    let channels = ranges.0.iter().map(|(n, seen)| (n.clone(), seen.channels().to_vec())).collect();
    let ranges = ranges.0.into_iter().map(|(n, seen)| (n, seen.min_max().range().unwrap())).collect();
    let table =
        CalibrationTable { method: "min-max".into(), samples: count as u64, ranges, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    params.write(&file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let weights = SafetensorsWeights::parse(&bytes).unwrap();
    let export: ExportConfig = serde_json::from_value(serde_json::to_value(config).unwrap()).unwrap();
    let fp32 = to_bytes(&build_fp32(&export, &weights).unwrap());
    let int8 = to_bytes(&build_int8(&export, &weights, &table).unwrap());
    Case {
        rows,
        expected,
        graphs: Graphs::from_onnx(Some(fp32), Some(int8), &BUCKETS, 8, 1, FEATURES as u32),
        export,
        checkpoint: bytes,
        table,
        channels,
    }
}

/// Largest difference from candle. An engine that does not load here fails the test.
fn difference(case: &Case, engine: EngineKind, precision: Precision) -> f64 {
    let options = LoadOptions { order: vec![engine], precision, ..LoadOptions::default() };
    let mut opened = open_graphs(&case.graphs, &DeviceProfile::named("base").unwrap(), &options).unwrap();
    let rows: Vec<Row<'_>> = case.rows.iter().map(Owned::row).collect();
    let logits = logits_of(&mut *opened.session, &rows).unwrap();
    max_abs_error(&logits.concat(), &case.expected)
}

/// Whether there is a library at all; a test without it is skipped, and says so.
fn onnx_runtime_is_here() -> bool {
    ort::library_path(None).map_err(|why| println!("skipped: {why}")).is_ok()
}

fn spread(values: &[f32]) -> f64 {
    assert!(values.iter().all(|v| v.is_finite()));
    let (least, most) = values.iter().fold((f32::MAX, f32::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
    f64::from(most - least)
}

#[test]
fn onnx_runtime_in_fp32_equals_candle() {
    if !onnx_runtime_is_here() {
        return;
    }
    for norm in ["pre", "post"] {
        let case = case(norm, 1, 200);
        assert!(spread(&case.expected) > 0.1, "the model says the same of everything");
        let d = difference(&case, EngineKind::OrtCpu, Precision::Fp32);
        assert!(d <= FP32, "{norm}: {d}");
    }
}

#[test]
fn graphs_of_pruned_layers_equal_candle_on_every_engine_and_are_smaller() {
    for norm in ["pre", "post"] {
        let (whole, case) = (case(norm, 7, 2), pruned(norm, 7, 60));
        let bytes = |c: &Case| [&c.graphs.fp32, &c.graphs.int8].map(|g| g.as_ref().unwrap().len());
        let ([fp32, int8], [less, least]) = (bytes(&whole), bytes(&case));
        assert!(less + 20_000 < fp32 && least + 4_000 < int8, "{norm}: {fp32} {int8} {less} {least}");
        assert!(spread(&case.expected) > 0.1, "the model says the same of everything");
        let d = difference(&case, EngineKind::Tract, Precision::Fp32);
        assert!(d <= FP32, "{norm}: tract {d}");
        let migrated = smoothed(&case.export, &case.checkpoint, &case.channels, 0.5).unwrap();
        assert!(migrated != case.checkpoint, "{norm}: nothing moved");
        let fp32 =
            to_bytes(&build_fp32(&case.export, &SafetensorsWeights::parse(&migrated).unwrap()).unwrap());
        if onnx_runtime_is_here() {
            let d = difference(&case, EngineKind::OrtCpu, Precision::Fp32);
            assert!(d <= FP32, "{norm}: ONNX Runtime {d}");
            let d = difference(&case, EngineKind::OrtCpu, Precision::Int8);
            let share = d / spread(&case.expected);
            assert!(share <= INT8 && d > FP32, "{norm}: INT8 {d} is {share} of the spread");
        }
        let d = difference(&case.with(Some(fp32), None), EngineKind::Tract, Precision::Fp32);
        assert!(d <= FP32, "{norm}: migrated {d}");
    }
}

#[test]
fn tract_equals_candle() {
    let d = difference(&case("pre", 2, 40), EngineKind::Tract, Precision::Fp32);
    assert!(d <= FP32, "{d}");
}

#[test]
fn onnx_runtime_in_int8_is_close_to_candle() {
    if !onnx_runtime_is_here() {
        return;
    }
    let case = case("pre", 3, 100);
    let d = difference(&case, EngineKind::OrtCpu, Precision::Int8);
    let share = d / spread(&case.expected);
    assert!(share <= INT8 && d > FP32, "{d} is {share} of the spread");
}

#[test]
fn a_migrated_checkpoint_is_the_same_function() {
    for norm in ["pre", "post"] {
        let case = case(norm, 5, 60);
        let migrated = smoothed(&case.export, &case.checkpoint, &case.channels, 0.5).unwrap();
        assert!(migrated != case.checkpoint, "{norm}: nothing moved");
        let weights = SafetensorsWeights::parse(&migrated).unwrap();
        let fp32 = to_bytes(&build_fp32(&case.export, &weights).unwrap());
        let d = difference(&case.with(Some(fp32), None), EngineKind::Tract, Precision::Fp32);
        assert!(d <= FP32, "{norm}: {d}");
    }
}

#[test]
fn a_graph_whose_layers_all_stay_in_float_is_the_float_graph() {
    let mut case = case("pre", 6, 4);
    case.table.float = layers(&case.export).unwrap().into_iter().map(|l| l.name).collect();
    let weights = SafetensorsWeights::parse(&case.checkpoint).unwrap();
    let bytes = to_bytes(&build_int8(&case.export, &weights, &case.table).unwrap());
    assert_eq!(case.graphs.fp32.as_deref(), Some(&bytes[..]));
    case.table.float.pop_first();
    assert!(to_bytes(&build_int8(&case.export, &weights, &case.table).unwrap()) != bytes);
}

#[test]
fn half_precision_around_int8_is_close_to_candle() {
    if !onnx_runtime_is_here() {
        return;
    }
    let case = case("pre", 3, 100);
    let weights = SafetensorsWeights::parse(&case.checkpoint).unwrap();
    let half = to_bytes(&build_int8_fp16(&case.export, &weights, &case.table).unwrap());
    let checked = build_int8_fp16_rounding_in_fp32(&case.export, &weights, &case.table).unwrap();
    assert!(half.len() < case.graphs.int8.as_ref().unwrap().len(), "it is not smaller");
    let case = case.with(None, Some(to_bytes(&checked)));
    let d = difference(&case, EngineKind::OrtCpu, Precision::Int8);
    let share = d / spread(&case.expected);
    assert!(share <= INT8, "{d} is {share} of the spread");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let (a, b) = (case("pre", 4, 4), case("pre", 4, 4));
    assert_eq!((a.graphs.fp32, a.graphs.int8), (b.graphs.fp32, b.graphs.int8));
}
