//! From a recipe to the bedside on a generated panel; and a training run that is killed gives the same model.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use locus_export::BundleBuilder;
use locus_firmware_config::{
    manifest::Manifest,
    message::{Outcome, Request},
};
use locus_genome::{ReferencePack, vcf};
use locus_tests::{Rig, onnxruntime, program, root};
use serde_json::Value;

fn chain(folder: &Path) -> Command {
    let mut command = program("locus");
    command
        .arg("run")
        .arg(root().join("recipes/smoke.toml"))
        .arg("--out")
        .arg(folder)
        .args(["--date", "2026-11-24"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The chain proves its INT8 graph on ONNX Runtime; where there is none, says that the test is skipped.
fn able(test: &str) -> bool {
    let there = onnxruntime().is_some();
    if !there {
        println!(
            "skipped: {test} needs ONNX Runtime, which is not there; `cargo xtask onnxruntime` fetches it"
        );
    }
    there
}

fn bundle(folder: &Path) -> PathBuf {
    folder.join("smoke.locus")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_becomes_a_model_that_answers_at_the_bedside() {
    if !able("a recipe to the bedside") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = chain(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("recipes/smoke.toml in {:.1} s", started.elapsed().as_secs_f64());
    let own: Value = serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((&own["split"], &own["test_reads"]), (&"val".into(), &Value::Null), "{own:.300}");
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("report.html").contains("<svg"), "{:.300}", read("report.html"));
    assert!(read("card.md").starts_with("# "), "{:.300}", read("card.md"));
    let panel = folder.path().join("panel");
    let evaluated = program("locus")
        .args(["evaluate", "--split", "test", "--bundle"])
        .arg(bundle(folder.path()))
        .arg("--fasta")
        .arg(panel.join("panel.fa"))
        .arg("--gff")
        .arg(panel.join("panel.gff3"))
        .arg("--vcf")
        .arg(panel.join("panel.vcf"))
        .arg("--json")
        .arg(folder.path().join("report.json"))
        .output()
        .unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let report: Value =
        serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    let auroc = report["modes"]["transcript"]["overall"]["figures"]["auroc"]["value"].as_f64().unwrap_or(0.0);
    assert!(auroc > 0.9, "the rule of a generated panel is easy: {report}");

    bundle_of_another_recipe_is_refused(folder.path());

    let rig = Rig::new(&format!(
        "[reference]\nfasta = {:?}\ngff = {:?}\n",
        panel.join("panel.fa"),
        panel.join("panel.gff3")
    ))
    .unwrap();
    rig.sign(&bundle(folder.path()), &rig.path("smoke.locus")).unwrap();
    the_contract_comes_out_again_or_is_refused(&rig, folder.path());
    rig.ctl(&["init"]).unwrap();
    rig.ctl(&["flash", &rig.path("smoke.locus").display().to_string()]).unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("panel.vcf")).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(ReferencePack::open(&panel.join("panel.fa"), &panel.join("panel.gff3")).is_ok());
    let (mut right, mut decided) = (0, 0);
    for row in rows.iter().filter(|row| row.info("SPLIT") == Some("test")).take(100) {
        let variant = Some(row.variant.as_ref().unwrap().to_string());
        let outcome =
            http.ask(&Request { variant, ..Request::default() }, Duration::from_secs(20)).await.unwrap();
        let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!(answer.model.name, "smoke");
        if let Some(label) = answer.predicted_label {
            decided += 1;
            right += u32::from(Some(label.to_string().as_str()) == row.info("LABEL"));
        }
    }
    assert!(decided >= 50 && right * 10 >= decided * 9, "{right} of {decided} right");
}

/// What the folder holds was not made by this recipe, so it is not bundled under its name.
fn bundle_of_another_recipe_is_refused(folder: &Path) {
    let recipe = fs::read_to_string(root().join("recipes/smoke.toml")).unwrap();
    let changed = folder.join("changed.toml");
    fs::write(&changed, recipe.replace("epochs = 3", "epochs = 4")).unwrap();
    let other = folder.join("other.locus");
    let output = program("locus")
        .args(["bundle", "create", "--date", "2026-11-24"])
        .arg(&changed)
        .arg("--out")
        .arg(folder)
        .arg("--bundle")
        .arg(&other)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("run locus finetune"), "{error}");
    assert!(!other.exists());
}

/// An auditor with the recipe and its data measures what the bundle promises.
fn the_contract_comes_out_again_or_is_refused(rig: &Rig, folder: &Path) {
    let verified = |recipe: &Path, bundle: &Path| {
        let mut command = program("locus");
        command.args(["bundle", "verify", "--key"]).arg(rig.path("publisher.pub"));
        let output = command.arg("--data").arg(recipe).arg(bundle).output().unwrap();
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned()).concat();
        (output.status.success(), text)
    };
    let recipe = root().join("recipes/smoke.toml");
    let (good, text) = verified(&recipe, &rig.path("smoke.locus"));
    assert!(good && text.contains("decisions that INT8 changes"), "{text}");
    let (good, text) = verified(&folder.join("changed.toml"), &rig.path("smoke.locus"));
    assert!(!good && text.contains("that the bundle was made by"), "{text}");
    let mut parts = locus_export::split(&fs::read(bundle(folder)).unwrap()).unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&parts.remove(0).1).unwrap();
    // Both alike, so that the contract still says that INT8 costs nothing.
    for figures in [&mut manifest.contract.fp32, &mut manifest.contract.int8] {
        figures.entry("auroc".into()).and_modify(|value| *value -= 0.01);
    }
    let builder = parts
        .into_iter()
        .filter(|(name, _)| name != "signatures.json")
        .fold(BundleBuilder::new(manifest), |builder, (name, bytes)| builder.part(&name, bytes).unwrap());
    fs::write(folder.join("boasting.locus"), builder.build().unwrap()).unwrap();
    rig.sign(&folder.join("boasting.locus"), &rig.path("boasting.locus")).unwrap();
    let (good, text) = verified(&recipe, &rig.path("boasting.locus"));
    assert!(!good && text.contains("as its contract says"), "{text}");
}

/// Where the chain is killed: a line that it writes in the midst of each stage, and at the end of some.
const KILLED_AT: [&str; 8] = [
    "prepare 2000/",
    "pretrain 20/",
    "pretrain 40/40",
    "finetune 33/",
    "finetune 57/",
    "finetune 81/81",
    "calibrate transcript",
    "export: parity",
];

/// Runs the chain until it writes a line that begins with `event`, and kills it there; false where it came to its
/// end instead.
fn killed_at(folder: &Path, event: &str) -> bool {
    let mut child = chain(folder).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.starts_with(event) {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        said.push(line);
    }
    assert!(child.wait().unwrap().success(), "before {event:?}: {said:#?}");
    false
}

#[test]
fn a_chain_that_is_killed_in_every_stage_ends_with_the_same_bytes() {
    if !able("a chain that is killed") {
        return;
    }
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(chain(whole.path()).stderr(Stdio::null()).status().unwrap().success());
    let kills = KILLED_AT.iter().filter(|event| killed_at(killed.path(), event)).count();
    let last = chain(killed.path()).output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    // A line may come before the kill does; the chain then goes on a little.
    assert!(kills * 2 > KILLED_AT.len(), "killed {kills} times");
    assert!(fs::read(bundle(whole.path())).unwrap() == fs::read(bundle(killed.path())).unwrap());
    for log in ["pretrain.jsonl", "finetune.jsonl"] {
        let steps = |folder: &Path| -> Vec<(u64, Value)> {
            let text = fs::read_to_string(folder.join(log)).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.map(|line| (line["step"].as_u64().unwrap(), line["loss"].clone())).collect()
        };
        assert_eq!(steps(whole.path()), steps(killed.path()), "{log}: every step once");
    }
}

#[test]
fn a_chain_that_cannot_end_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        chain(folder.path()).args(["--onnxruntime", "/nonexistent/libonnxruntime.so"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("/nonexistent/libonnxruntime.so"), "{error}");
    assert!(error.contains("--onnxruntime"), "{error}");
    assert!(!folder.path().join("dataset.bin").exists());
}

#[test]
fn two_chains_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let held = fs::File::create(folder.path().join("lock")).unwrap();
    held.lock().unwrap();
    let output = chain(folder.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another locus works in this folder"), "{error}");
}

#[test]
fn a_disk_that_fills_while_saving_leaves_the_checkpoint_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = |name: &str| {
        let mut command = program("locus");
        command.arg(name).arg(root().join("recipes/smoke.toml")).arg("--out").arg(folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    for name in ["prepare", "pretrain"] {
        assert!(stage(name).stderr(Stdio::null()).status().unwrap().success());
    }
    let mut child = stage("finetune").spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.starts_with("finetune 33/")));
    child.kill().unwrap();
    child.wait().unwrap();
    let state = || fs::read(folder.path().join("finetune.last/state.json")).unwrap();
    let before = state();
    // No file may be larger than 64 blocks: what a full disk says, for the large files only.
    let program = stage("finetune");
    let full = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&full.stderr);
    assert!(!full.status.success() && error.contains("finetune.part"), "{error}");
    assert!(state() == before && !folder.path().join("finetune.part").exists());
    assert!(stage("finetune").stderr(Stdio::null()).status().unwrap().success());
    assert!(folder.path().join("best/model.safetensors").is_file());
}
