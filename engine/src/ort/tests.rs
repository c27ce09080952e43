//! Against the real library, where there is one.

use std::path::PathBuf;

use super::*;
use crate::select::open_graphs;
use crate::session::Precision;
use crate::testing::{self, BUCKETS, Numbers, OwnedRow, SCALE};

fn engine(kind: EngineKind) -> OrtEngine {
    OrtEngine::new(kind, EngineSettings::default()).unwrap()
}

fn run(session: &mut dyn Session, rows: &[OwnedRow], bucket: usize) -> Vec<f32> {
    let views: Vec<_> = rows.iter().map(OwnedRow::row).collect();
    let mut logits = Logits::default();
    session.run(&TokenBatch::pack_rows(&views, bucket).unwrap(), &mut logits).unwrap();
    logits.values
}

fn rows(seed: u64, feature_size: f32) -> Vec<OwnedRow> {
    let mut numbers = Numbers::new(seed);
    [5, 17, 30, 32, 9, 21].map(|tokens| OwnedRow::new(&mut numbers, tokens, feature_size)).into()
}

#[test]
fn fp32_agrees_with_tract() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let options = LoadOptions { precision: Precision::Fp32, ..LoadOptions::default() };
    let mut ort = engine(EngineKind::OrtCpu).load_graphs(&testing::graphs(3), &options).unwrap();
    let mut tract = crate::TractEngine.load_graphs(&testing::graphs(3), &options).unwrap();
    assert_eq!(ort.spec().provider, "CPUExecutionProvider");
    assert_eq!(ort.spec().precision, ActivePrecision::Fp32);
    assert!(ort.spec().runtime.starts_with("onnxruntime"));
    for bucket in BUCKETS {
        let (a, b) = (
            run(&mut *ort, &rows(8, 1.0), bucket as usize),
            run(&mut *tract, &rows(8, 1.0), bucket as usize),
        );
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

/// The rewritten graph holds the same integers, so its logits may differ from the signed graph's only by the
/// order of float additions: far less than one quantisation step (0.1 and 1/127 here).
const FLOAT_ORDER: f32 = 1e-5;

#[test]
fn the_rewrite_gives_the_same_numbers_as_the_signed_graph() {
    let Some(path) = testing::onnxruntime() else { return };
    if Cpu::here() != Cpu::X86Vnni {
        println!("skipped: this processor has no VNNI, the rewrite is not used");
        return;
    }
    let signed_bytes = testing::pair_model(3, true);
    let rewritten = crate::rewrite::unsigned_activations(&signed_bytes).unwrap();
    assert_eq!(rewritten.activations, 2);
    let n = locus_genome::feature_names().len() as u32;
    let library = library::load(Some(&path)).unwrap();
    let open = |onnx: &[u8]| {
        let session = build_session(&library, &[], 1, onnx).unwrap();
        let graphs = Graphs::from_onnx(None, None, &BUCKETS, 8, 1, n);
        let spec = graphs.spec(EngineKind::OrtCpu, "CPU", "test", ActivePrecision::Int8S8, None);
        OrtRunner { session, spec }
    };
    let (mut signed, mut unsigned) = (open(&signed_bytes), open(&rewritten.onnx));
    // A feature of ±12 is near code ±120; 40 is far beyond the clamp at ±127.
    for (size, seed) in [(1.0, 4), (12.0, 5), (12.6, 6), (40.0, 7)] {
        let (a, b) = (run(&mut signed, &rows(seed, size), 32), run(&mut unsigned, &rows(seed, size), 32));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= FLOAT_ORDER, "size {size}: signed {a}, unsigned {b}");
        }
    }
}

#[test]
fn full_range_products_are_exact_where_the_rewrite_is_used() {
    let Some(path) = testing::onnxruntime() else { return };
    let exact = probe::unsigned_kernels_are_exact(&library::load(Some(&path)).unwrap());
    match Cpu::here() {
        Cpu::X86Vnni => assert_eq!(exact, Ok(())),
        other => println!("not asserted on {other:?}: {exact:?}"),
    }
}

#[test]
fn auto_runs_int8_on_a_processor_that_has_the_kernels_and_says_so() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let mut session =
        engine(EngineKind::OrtCpu).load_graphs(&testing::graphs(3), &LoadOptions::default()).unwrap();
    let expected = match Cpu::here() {
        Cpu::X86Vnni => ActivePrecision::Int8U8,
        Cpu::X86 => ActivePrecision::Fp32,
        Cpu::Other => ActivePrecision::Int8S8,
    };
    assert_eq!(session.spec().precision, expected);
    let fp32 = LoadOptions { precision: Precision::Fp32, ..LoadOptions::default() };
    let mut reference = engine(EngineKind::OrtCpu).load_graphs(&testing::graphs(3), &fp32).unwrap();
    let (a, b) = (run(&mut *session, &rows(8, 1.0), 32), run(&mut *reference, &rows(8, 1.0), 32));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 2.0 * SCALE, "INT8 {a}, FP32 {b}");
    }
}

#[test]
fn a_missing_library_makes_tract_serve_and_is_reported() {
    let options = LoadOptions {
        onnxruntime: Some(PathBuf::from("/nonexistent/libonnxruntime.so.1.99.0")),
        order: vec![EngineKind::OrtTensorrt, EngineKind::OrtCpu, EngineKind::Tract],
        ..LoadOptions::default()
    };
    let opened = open_graphs(&testing::graphs(3), &testing::profile(), &options).unwrap();
    assert_eq!(opened.session.spec().engine, EngineKind::Tract);
    let skipped: Vec<EngineKind> = opened.skipped.iter().map(|skipped| skipped.engine).collect();
    assert_eq!(skipped, [EngineKind::OrtTensorrt, EngineKind::OrtCpu]);
    assert!(
        opened.skipped.iter().all(|skipped| skipped.reason.contains("/nonexistent/")),
        "{:?}",
        opened.skipped
    );
}

#[test]
fn a_gpu_that_is_not_there_is_skipped_loudly() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let order = vec![EngineKind::OrtTensorrt, EngineKind::OrtCuda, EngineKind::OrtCpu];
    let options = LoadOptions { order, ..LoadOptions::default() };
    let opened = open_graphs(&testing::graphs(3), &testing::profile(), &options).unwrap();
    if opened.session.spec().engine != EngineKind::OrtCpu {
        println!("skipped: this machine has a GPU provider ({})", opened.session.spec().provider);
        return;
    }
    assert_eq!(opened.skipped.len(), 2, "{:?}", opened.skipped);
    assert_eq!(opened.session.spec().provider, "CPUExecutionProvider");
}

#[test]
fn graphs_that_break_the_contract_do_not_open() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let poisoned = testing::pair_model_with_output(3, false, Some(f32::INFINITY));
    let n = locus_genome::feature_names().len() as u32;
    let load = |onnx: Vec<u8>, n| {
        let graphs = Graphs::from_onnx(Some(onnx), None, &BUCKETS, 2, 1, n);
        engine(EngineKind::OrtCpu).load_graphs(&graphs, &LoadOptions::default()).err().unwrap()
    };
    assert!(matches!(load(poisoned, n), Error::Session(SessionError::NotFinite { .. })));
    assert!(matches!(load(testing::pair_model(3, false), n + 1), Error::Session(SessionError::Run { .. })));
    assert!(matches!(load(b"not onnx".to_vec(), n), Error::Session(SessionError::Unavailable { .. })));
    let unknown_operator = {
        let mut draft = testing::Draft::default();
        draft.node("NoSuchOperator", &["features"], "logits");
        let features = testing::value_info("features", testing::FLOAT, &["batch", "1"]);
        draft.finish(vec![features], vec![testing::value_info("logits", testing::FLOAT, &["batch", "1"])])
    };
    assert!(matches!(load(unknown_operator, 1), Error::Session(SessionError::Load { .. })));
}
