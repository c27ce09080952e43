//! The shipped models on ONNX Runtime's OpenVINO provider, a suite of its own: a process loads one library.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use locus_engine::{Bundle, EngineKind, LoadOptions, Precision, Scorer, SequenceScorer, Trust};
use locus_firmware_config::profile::DeviceProfile;
use locus_tests::root;

/// The build with OpenVINO; where there is none, says that the test is skipped.
fn library(test: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(root().join(".locus/openvino")).into_iter().flatten().flatten();
    let files = versions.filter_map(|version| fs::read_dir(version.path()).ok()).flatten().flatten();
    let found = files
        .map(|file| file.path())
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so.")));
    if found.is_none() {
        println!(
            "skipped: {test} needs ONNX Runtime with OpenVINO; `cargo xtask onnxruntime --openvino` fetches it"
        );
    }
    found
}

fn options(library: &Path, cache: &Path, precision: Precision) -> LoadOptions {
    LoadOptions {
        order: vec![EngineKind::OrtOpenvino],
        precision,
        intra_threads: 2,
        onnxruntime: Some(library.to_owned()),
        cache_dir: Some(cache.to_owned()),
        ..LoadOptions::default()
    }
}

fn shipped(name: &str) -> Bundle {
    Bundle::open(root().join(format!("models/{name}.locus")), &Trust::AllowUnsigned).unwrap()
}

/// Files below a folder's folders.
fn engines(cache: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(cache).unwrap().map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    folders.flatten().map(|entry| entry.unwrap().path()).filter(|p| !p.ends_with("seal.json")).collect()
}

#[test]
fn shipped_models_prove_themselves_on_openvino_and_its_engines_are_kept() {
    let Some(library) = library("OpenVINO") else { return };
    let (cache, base) = (tempfile::tempdir().unwrap(), DeviceProfile::named("base").unwrap());
    let variant = shipped("variant-effect");
    for precision in [Precision::Fp32, Precision::Int8] {
        let options = options(&library, cache.path(), precision);
        let mut scorer = Scorer::open(&variant, &base, &options).unwrap();
        assert_eq!(scorer.spec().provider, "OpenVINOExecutionProvider");
        let report = scorer.golden_self_test().unwrap();
        println!("variant-effect, {}: {} logits at most", report.precision, report.largest_difference);
        assert!(report.vectors > 0 && report.skipped.is_none(), "{report:?}");
        let mut scorer = SequenceScorer::open(&shipped("coding"), &base, &options).unwrap();
        let report = scorer.golden_self_test().unwrap();
        println!("coding, {}: {} logits at most", report.precision, report.largest_difference);
        assert!(report.vectors > 0 && report.skipped.is_none(), "{report:?}");
    }
    // Four graphs, so four folders; an engine that was changed is built again instead of loaded.
    let before = engines(cache.path());
    assert!(before.len() >= 4, "{before:?}");
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 4);
    let mut bad = Vec::new();
    for path in &before {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, &bytes).unwrap();
        bad.push((path, bytes));
    }
    let options = options(&library, cache.path(), Precision::Int8);
    let mut scorer = Scorer::open(&variant, &base, &options).unwrap();
    assert!(scorer.golden_self_test().unwrap().skipped.is_none());
    let gone = bad.iter().filter(|(path, bytes)| fs::read(path).ok().as_ref() != Some(bytes)).count();
    assert!(gone > 0 && gone < bad.len(), "{gone}: the folder of the opened graph alone is emptied");
}
