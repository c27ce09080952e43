//! The exported graphs before Python's `onnx` checker and `onnxruntime`: independent of this project's own reader.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use locus_export::split;
use locus_tests::{peer, root};

/// Versions that results were compared with.
const PACKAGES: [&str; 3] = ["onnx==1.20.1", "onnxruntime==1.24.4", "numpy<3"];

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
        got = session.run(["logits"], feed)[0][0]
        largest = max(largest, float(np.abs(got - np.array(vector[key], np.float32)).max()))
    print(json.dumps({"file": name, "vectors": len(golden), "largest": largest, "nodes": len(model.graph.node)}))
"#;

/// A virtual environment in the project's folder; `None`, with a line that says so, where it cannot be made.
fn python() -> Option<PathBuf> {
    let test = "the Python reference";
    let system = peer(test, "python3")?;
    let folder = root().join(".locus/python");
    let program = folder.join("bin/python");
    let works = || {
        let check = Command::new(&program).args(["-c", "import onnx, onnxruntime"]).output();
        check.is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(program);
    }
    let mut environment = Command::new(system);
    environment.args(["-m", "venv"]).arg(&folder);
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    for step in [&mut environment, &mut install] {
        match step.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                println!("skipped: {test}: {}", String::from_utf8_lossy(&output.stderr).trim());
                return None;
            }
            Err(error) => {
                println!("skipped: {test}: {error}");
                return None;
            }
        }
    }
    works().then_some(program)
}

fn unpack(into: &Path) {
    let bundle = fs::read(root().join("models/variant-effect.locus")).unwrap();
    for (name, bytes) in split(&bundle).unwrap() {
        fs::write(into.join(name), bytes).unwrap();
    }
}

#[test]
fn pythons_checker_and_runtime_accept_and_reproduce_the_shipped_graphs() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let output = Command::new(python).args(["-c", SCRIPT]).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let reports: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    for (report, tolerance) in reports.iter().zip([1e-4, 0.25]) {
        println!("{report}");
        assert!(report["vectors"].as_u64().unwrap() >= 16);
        // INT8: other kernels, other rounding (quantisation noise).
        assert!(report["largest"].as_f64().unwrap() <= tolerance, "{report}");
    }
}
