//! A model that is trained, pruned and shipped on a generated panel.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path, process::Output};

use locus_tests::{onnxruntime, program, root};
use serde_json::Value;

const PRUNE: &str = r#"
[prune]
records = 24
steps = [{ heads = 0.25, ffn = 0.5 }, { heads = 0.5, ffn = 0.75 }]
magnitude = { shares = [0.6] }
budget = 1.0
epochs = 1
validations = 1
timed = 20
distill = { share = 0.5 }

[prune.train]
batch = 64
learning_rate = 1e-3
warmup = 2
weight_decay = 0.02
clip = 1.0
average = 0.9

[calibrate]"#;

/// The chain up to a command, over a recipe.
fn locus(command: &str, recipe: &Path, folder: &Path) -> Output {
    let mut locus = program("locus");
    locus.arg(command).arg(recipe).arg("--out").arg(folder);
    if command == "run" {
        locus.args(["--date", "2026-11-24"]);
    }
    locus.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_recipe_prunes_its_model_and_ships_the_fastest_step_within_its_budget() {
    if onnxruntime().is_none() {
        println!(
            "skipped: pruning times graphs on ONNX Runtime, which is not there; `cargo xtask onnxruntime` fetches it"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = root().join("recipes/smoke.toml");
    let output = locus("prune", &plain, folder.path());
    assert!(!output.status.success() && said(&output).contains("no such table"), "{}", said(&output));
    // Wide enough for columns to go, and quick.
    let text = fs::read_to_string(&plain).unwrap().replacen("[calibrate]", PRUNE, 1);
    let text = text.replacen("generated_genes = 60", "generated_genes = 30", 1);
    let recipe = folder.path().join("pruned.toml");
    fs::write(&recipe, text).unwrap();
    let out = folder.path().join("out");
    let output = locus("run", &recipe, &out);
    assert!(output.status.success(), "{}", said(&output));

    let report = json(&out.join("prune.json"));
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["unpruned", "structured-1", "structured-2", "magnitude-1"]);
    let whole = &steps[0];
    let sums = |s: &Value, what: &str| -> u64 {
        s["layers"].as_array().unwrap().iter().map(|l| l[what].as_u64().unwrap()).sum()
    };
    let of = |what: &str| [0, 1, 2].map(|n| sums(&steps[n], what));
    assert_eq!((of("heads"), of("ffn")), ([4, 3, 2], [128, 64, 32]));
    for n in 1..3 {
        let bytes = |s: &Value| s["bytes"][0].as_u64().unwrap();
        assert!(bytes(&steps[n]) < bytes(&steps[n - 1]) && steps[n]["parity"].as_f64().unwrap() < 1e-4);
    }
    // Zeros leave the graph as long as it is, and its compressed file shorter.
    let (dense, zeros) = (&whole["bytes"], &steps[3]["bytes"]);
    assert!(dense[0] == zeros[0] && zeros[1].as_u64() < dense[1].as_u64(), "{dense} {zeros}");
    let [all, left] = [0, 1].map(|i| steps[3]["parameters"][i].as_f64().unwrap());
    assert!(left < 0.8 * all && steps[0]["ratio"]["median"] == 1.0, "{left} of {all}");
    let html = fs::read_to_string(out.join("prune.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("(kept)"), "{html:.300}");

    // The kept step is what was calibrated, exported and bundled.
    let kept = report["kept"].as_str().unwrap();
    let [best, step] = [out.join("best"), out.join("prune").join(kept)].map(|f| f.join("model.safetensors"));
    assert_eq!(fs::read(&best).unwrap(), fs::read(step).unwrap(), "{kept}");
    let sizes = json(&out.join("best/config.json"))["layer_sizes"].clone();
    assert_eq!(sizes.is_null(), kept == "unpruned", "{sizes}");
    assert!(out.join("smoke.locus").exists());
    let explained = program("locus")
        .args(["explain", "test", "--records", "4", "--vcf"])
        .arg(out.join("panel/panel.vcf"))
        .arg("--bundle")
        .arg(out.join("smoke.locus"))
        .args(["--fasta"])
        .arg(out.join("panel/panel.fa"))
        .arg("--gff")
        .arg(out.join("panel/panel.gff3"))
        .arg("--json")
        .arg(folder.path().join("explained.json"))
        .output()
        .unwrap();
    assert!(explained.status.success(), "{}", said(&explained));

    // A second call has nothing to do, and one after a lost report trains no step again.
    let again = locus("prune", &recipe, &out);
    assert!(again.status.success() && said(&again).contains("prune: done before"), "{}", said(&again));
    fs::remove_file(out.join("prune.stage.json")).unwrap();
    let again = locus("prune", &recipe, &out);
    assert!(again.status.success() && said(&again).contains("structured-2: done before"), "{}", said(&again));
    assert!(!said(&again).contains("before training"), "{}", said(&again));
}
