//! A sequence model from a recipe to a scored FASTA file, with the real programs: what it answers, where it abstains,
//! and that a box for variants refuses it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use locus_engine::{Bundle, BundleError, LoadOptions, ScoreError, Scorer, SequenceScorer, Trust};
use locus_export::{BundleBuilder, split};
use locus_firmware_config::{
    manifest::{Manifest, SequenceCalibration},
    profile::DeviceProfile,
};
use locus_tests::{Rig, onnxruntime, program, root};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bases of a class: "coding" repeats codons of one kind in one of three frames, the other has the same bases in any
/// order.
fn sequence(coding: bool, rng: &mut ChaCha8Rng) -> String {
    let length = rng.random_range(45..100);
    let codons = ["GCT", "GAA", "CTG", "AAG"];
    let text: String = (0..40).map(|_| codons[rng.random_range(0..4)]).collect();
    let from = rng.random_range(0..3);
    let mut bases: Vec<char> = text[from..from + length].chars().collect();
    if !coding {
        for i in (1..bases.len()).rev() {
            bases.swap(i, rng.random_range(0..=i));
        }
    }
    bases.into_iter().collect()
}

fn fasta(count: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).fold(String::new(), |mut text, i| {
        let coding = i % 2 == 0;
        let class = if coding { "coding" } else { "noncoding" };
        writeln!(text, ">{class}_{i}\n{}", sequence(coding, &mut rng)).unwrap();
        text
    })
}

const RECIPE: &str = r#"
task = "sequence"
name = "toy"
version = "0.1.0"
security_counter = 1
seed = 5
[data]
root = "ROOT"
alphabet = "dna"
files = [
    { path = "train.fa", split = "train" }, { path = "val.fa", split = "val" }, { path = "test.fa", split = "test" },
]
target = { field = "name", until = "_", classes = ["noncoding", "coding"] }
filter = { min_length = 40, max_length = 100, max_unknown = 0.1, max_ambiguous = 0.1 }
split = { halve_validation = false }
[tokens]
k = 3
frames = 3
buckets = [64, 128]
[model]
hidden = 32
layers = 1
heads = 2
ffn = 32
dropout = 0.1
[pretrain]
epochs = 1
mask_share = 0.2
span = [3, 5]
train = { batch = 32, learning_rate = 1e-3, warmup = 2, weight_decay = 0.02, clip = 1.0 }
[finetune]
epochs = 8
validations = 1
smoothing = 0.05
train = { batch = 32, learning_rate = 3e-3, warmup = 10, weight_decay = 0.02, clip = 1.0 }
augment = { crop_share = 0.3, crop_least = 0.7 }
[calibrate]
range_records = 128
[export]
parity_windows = 50
parity_tolerance = 1e-4
int8_budget = 0.02
golden = 16
"#;

/// Trains the toy model; `None`, with a line that says so, where INT8 cannot be proved.
fn trained(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    if onnxruntime().is_none() {
        println!(
            "skipped: a sequence model needs ONNX Runtime, which is not there; `cargo xtask onnxruntime` fetches it"
        );
        return None;
    }
    for (name, count, seed) in [("train.fa", 600, 1), ("val.fa", 120, 2), ("test.fa", 120, 3)] {
        fs::write(folder.join(name), fasta(count, seed)).unwrap();
    }
    let recipe = folder.join("toy.toml");
    fs::write(&recipe, RECIPE.replace("ROOT", folder.to_str().unwrap())).unwrap();
    let out = folder.join("run");
    let output = program("locus")
        .env_remove("LOCUS_DATA")
        .arg("run")
        .arg(&recipe)
        .arg("--out")
        .arg(&out)
        .args(["--date", "2026-11-25"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((recipe, out.join("toy.locus")))
}

fn changed(bundle: &Path, change: impl FnOnce(&mut Manifest)) -> Result<Bundle, BundleError> {
    let entries = split(&fs::read(bundle).unwrap()).unwrap();
    let mut manifest = Manifest::from_json(&entries[0].1).unwrap();
    change(&mut manifest);
    let builder = entries
        .into_iter()
        .skip(1)
        .fold(BundleBuilder::new(manifest), |builder, (name, bytes)| builder.part(&name, bytes).unwrap());
    let bytes = builder.build().unwrap();
    Bundle::read(bytes.as_slice(), bytes.len() as u64, &Trust::AllowUnsigned, &Default::default())
}

#[test]
fn a_recipe_becomes_a_model_that_scores_fasta_and_abstains_outside_its_scope() {
    let folder = tempfile::tempdir().unwrap();
    let Some((recipe, bundle)) = trained(folder.path()) else { return };

    reported_on_validation(&folder.path().join("run"));
    let report = folder.path().join("report.json");
    let evaluated = program("locus")
        .env_remove("LOCUS_DATA")
        .arg("evaluate")
        .arg("--recipe")
        .arg(&recipe)
        .arg("--bundle")
        .arg(&bundle)
        .args(["--split", "test", "--json"])
        .arg(&report)
        .output()
        .unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let auroc = report["figures"]["auroc"]["value"].as_f64().unwrap();
    assert!(auroc > 0.9, "the frames were not learnt: AUROC {auroc}");
    assert!(report["floors"].as_object().unwrap().len() == 1, "{report}");
    assert_eq!(report["test_reads"], 1);

    let known = fasta(40, 9);
    let long = "GCT".repeat(60);
    let odd = format!(
        "{known}>short\nGCTGAA\n>long\n{long}\n>unknown\n{}{}\n>broken\nGCT-GAA{}\n>chromosome\n{}>empty\n",
        "N".repeat(30),
        "GCT".repeat(10),
        "GCT".repeat(12),
        "ACGTACGTAC\n".repeat(200_000),
    );
    let (input, table) = (folder.path().join("odd.fa"), folder.path().join("odd.tsv"));
    fs::write(&input, odd).unwrap();
    let scored = program("locus")
        .args(["score", "--bundle"])
        .arg(&bundle)
        .arg("--fasta")
        .arg(&input)
        .arg("--out")
        .arg(&table)
        .output()
        .unwrap();
    assert!(scored.status.success(), "{}", String::from_utf8_lossy(&scored.stderr));
    let text = fs::read_to_string(&table).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), "id\tlabel\tprobability\tstatus");
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows.len(), 46, "a row a record");
    let right = rows[..40].iter().filter(|r| r[0].starts_with(r[1]) && r[3] == "ok").count();
    assert!(right >= 32, "{right} of 40 right");
    assert!(rows[..40].iter().all(|r| (0.5..=1.0).contains(&r[2].parse::<f64>().unwrap())), "{text}");
    let status: BTreeMap<&str, &str> = rows[40..].iter().map(|r| (r[0], r[3])).collect();
    assert!(rows[40..].iter().all(|r| r[1] == "." && r[2] == "."), "{status:?}");
    for (id, reason) in [
        ("short", "6 letters"),
        ("long", "180 letters"),
        ("unknown", "30 of 60 letters are ambiguous"),
        ("broken", "unreadable: got '-' at offset 3"),
        ("chromosome", "2000000 letters, expected at most 1048576"),
        ("empty", "0 letters"),
    ] {
        assert!(status[id].contains(reason), "{id}: {}", status[id]);
    }

    refusals(&bundle);
    a_box_serves(&bundle);
}

/// The chain ends with a page and a card about validation; no test split was looked at for them.
fn reported_on_validation(run: &Path) {
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    let (page, card) = (read("report.html"), read("card.md"));
    for part in ["toy 0.1.0: val split", "ROC", "Precision and recall", "Reliability", "Confusion"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("Loss, finetune") && page.contains("Validation auroc, finetune"));
    assert!(page.contains("logistic regression on token 1-grams"));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert_eq!(["http:", "https:", "<script", "url("].iter().find(|a| outside.contains(**a)), None);
    for part in [
        "# Model card: toy 0.1.0",
        "no look at its test split",
        "| auroc |",
        "logistic regression on token 1-grams |",
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
    assert!(!run.join("test-reads.jsonl").exists());
    assert!(run.join("dataset.packed").exists());
}

/// What a changed manifest says is believed only where it can be.
fn refusals(bundle: &Path) {
    let profile = DeviceProfile::named("base").unwrap();
    let opened = changed(bundle, |_| {}).unwrap();
    let mut scorer = SequenceScorer::open(&opened, &profile, &LoadOptions::default()).unwrap();
    assert!(scorer.golden_self_test().unwrap().vectors == 16);
    let error = Scorer::open(&opened, &profile, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, locus_engine::Error::Score(ScoreError::Task { .. })), "{error}");
    let variants = Bundle::open(root().join("models/variant-effect.locus"), &Trust::AllowUnsigned).unwrap();
    assert!(SequenceScorer::check(&variants).is_err());

    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 8] = [
        ("labels", |m| m.labels = vec!["coding".into(), "coding".into()]),
        ("labels", |m| m.labels.truncate(1)),
        ("probability", |m| m.probability.sequence = None),
        ("probability", |m| {
            m.probability.sequence = Some(SequenceCalibration::Value { mean: 0.0, deviation: 1.0 });
        }),
        ("probability", |m| {
            let (offsets, prior) = (vec![0.0; 3], vec![0.5; 2]);
            m.probability.sequence = Some(SequenceCalibration::Classes { temperature: 1.0, offsets, prior });
        }),
        ("probability", |m| m.tokenizer.frames = Some(1_000)),
        ("graph.features", |m| m.graph.features.push("phylop".into())),
        ("the alphabet", |m| m.scope.kinds = vec!["smiles".into()]),
    ];
    for (named, change) in cases {
        let error = changed(bundle, change).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// A signed sequence bundle is served by a box, and answers as the workbench scores.
fn a_box_serves(bundle: &Path) {
    let rig = Rig::new("").unwrap();
    let signed = rig.path("toy.locus");
    rig.sign(bundle, &signed).unwrap();
    rig.ctl(&["init"]).unwrap();
    rig.ctl(&["flash", &signed.display().to_string()]).unwrap();
    let daemon = rig.start().unwrap();
    let asked = rig.ctl(&["ask", "--json", "--sequence", &"ACGTTGCAAC".repeat(8)]).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(
        (&answer["input_mode"], &answer["abstained"]),
        (&"sequence".into(), &false.into()),
        "{answer}"
    );
    let parts = answer["prediction"]["probabilities"].as_array().unwrap();
    let sum: f64 = parts.iter().map(|part| part["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{answer}");
    drop(daemon);
}

#[test]
fn recipes_that_cannot_be_are_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, named) in [
        ("task = \"sequence\"", "task = \"sequences\"", "task"),
        ("k = 3", "k = 9", "k = 9"),
        ("frames = 3", "frames = 7", "tokens.frames"),
        ("buckets = [64, 128]", "buckets = [128, 64]", "tokens.buckets"),
        ("heads = 2", "heads = 5", "model.heads"),
        ("golden = 16", "golden = 3", "export.golden"),
        ("smoothing = 0.05", "smoothing = 1.0", "finetune.smoothing"),
        ("smoothing = 0.05", "softening = 0.05", "softening"),
        ("crop_share = 0.3", "synonymous = 0.3", "augment.cds_class"),
        ("crop_share = 0.3", "indel = 0.3", "augment.max_indel"),
        ("smoothing = 0.05", "balance = { method = \"over\", neighbours = 3 }", "balance.neighbours"),
        ("smoothing = 0.05", "balance = { method = \"half\" }", "smote"),
    ] {
        let recipe = folder.path().join("bad.toml");
        fs::write(&recipe, RECIPE.replace("ROOT", ".").replace(from, to)).unwrap();
        let output = program("locus")
            .args(["prepare", "--out"])
            .arg(folder.path().join("o"))
            .arg(&recipe)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(named), "{to}: {text}");
    }
}
