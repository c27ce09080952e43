//! The exported graphs before Python's `onnx` checker and `onnxruntime`: independent of this project's own reader.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path, process::Command};

use locus_export::split;
use locus_firmware_config::manifest::Manifest;
use locus_tests::{python, root};

/// Versions that results were compared with.
const PACKAGES: [&str; 3] = ["onnx==1.20.1", "onnxruntime==1.24.4", "numpy==2.3.5"];
const SCRIPT: &str = r#"
import json, sys
import numpy as np, onnx, onnxruntime as ort
folder = sys.argv[1]
golden = json.load(open(folder + "/golden.json"))
options = ort.SessionOptions()
options.log_severity_level = 3
for name, key in (("fp32.onnx", "logits_fp32"), ("int8.onnx", "logits_int8")):
    model = onnx.load(f"{folder}/{name}")
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(f"{folder}/{name}", options, providers=["CPUExecutionProvider"])
    inputs = {i.name: i for i in session.get_inputs()}
    largest = 0.0
    for vector in golden:
        n = len(vector["ref_ids"])
        row = lambda key: np.array([vector[key]], dtype=np.int64)
        feed = {"ref_ids": row("ref_ids"), "alt_ids": row("alt_ids"), "ref_track": row("track"), "alt_track": row("track"),
                "ref_mask": np.ones((1, n), np.int64), "alt_mask": np.ones((1, n), np.int64),
                "features": np.array([vector["features"]], dtype=np.float32)}
        assert set(feed) == set(inputs), (set(feed), set(inputs))
        got, expected = session.run(["logits"], feed)[0][0], np.array(vector[key], np.float32)
        assert got.shape == expected.shape, (got.shape, expected.shape)
        assert np.isfinite(got).all() and np.isfinite(expected).all(), (name, got, expected)
        largest = max(largest, float(np.abs(got - expected).max()))
    print(json.dumps({"file": name, "vectors": len(golden), "largest": largest, "nodes": len(model.graph.node)}))
"#;

fn unpack(into: &Path) -> Manifest {
    let bundle = fs::read(root().join("models/variant-effect.locus")).unwrap();
    let entries = split(&bundle).unwrap();
    for (name, bytes) in &entries {
        fs::write(into.join(name), bytes).unwrap();
    }
    Manifest::from_json(&entries[0].1).unwrap()
}

#[test]
fn pythons_checker_and_runtime_accept_and_reproduce_the_shipped_graphs() {
    let Some(python) = python("onnx", &PACKAGES, "import numpy, onnx, onnxruntime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let golden = unpack(folder.path()).golden;
    let output = Command::new(python).args(["-c", SCRIPT]).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let reports: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    for (report, tolerance) in reports.iter().zip([golden.tolerance_fp32, golden.tolerance_int8]) {
        println!("{report}");
        assert_eq!(report["vectors"], golden.count);
        assert!(report["largest"].as_f64().unwrap() <= tolerance, "{report}, expected at most {tolerance}");
    }
}
