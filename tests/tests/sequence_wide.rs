//! Sequence models with a linear part, from a recipe to a bundle that scores, with the real programs: n-grams of
//! molecules, and substitutions in a protein of known wild type.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fmt::Write as _, fs, path::Path, process::Output};

use locus_genome::amino;
use locus_tests::{onnxruntime, program};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WILD: &str = "MKVHWARDLAEGSTQPNFYICMKVHW";

const RECIPE: &str = r#"
task = "sequence"
name = "toy"
version = "0.1.0"
security_counter = 1
seed = 5
[data]
root = "ROOT"
files = [{ path = "toy.csv" }]
DATA
[tokens]
buckets = [32]
WIDE
[model]
hidden = 16
layers = 1
heads = 2
ffn = 16
dropout = 0.1
[finetune]
epochs = 2
validations = 1
train = { batch = 32, learning_rate = 1e-4, warmup = 2, weight_decay = 0.02, clip = 1.0 }
[calibrate]
range_records = 64
[export]
parity_windows = 50
parity_tolerance = 1e-4
int8_budget = 0.02
golden = 16
"#;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a table and its recipe and runs the whole chain.
fn run(folder: &Path, table: &str, data: &str, wide: &str) -> Output {
    fs::write(folder.join("toy.csv"), table).unwrap();
    let recipe = RECIPE.replace("ROOT", folder.to_str().unwrap()).replace("DATA", data).replace("WIDE", wide);
    fs::write(folder.join("toy.toml"), recipe).unwrap();
    program("locus")
        .env_remove("LOCUS_DATA")
        .arg("run")
        .arg(folder.join("toy.toml"))
        .arg("--out")
        .arg(folder.join("run"))
        .args(["--date", "2026-11-26"])
        .output()
        .unwrap()
}

/// The figure that the chain reports of its bundle on validation.
fn figure(folder: &Path, name: &str) -> f64 {
    let report = fs::read(folder.join("run/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    report["figures"][name]["value"].as_f64().unwrap()
}

/// Lines of the table that the bundle makes of a FASTA file, without the first.
fn scored(folder: &Path, fasta: &str) -> Vec<Vec<String>> {
    let (input, table) = (folder.join("asked.fa"), folder.join("asked.tsv"));
    fs::write(&input, fasta).unwrap();
    let output = program("locus")
        .args(["score", "--bundle"])
        .arg(folder.join("run/toy.locus"))
        .arg("--fasta")
        .arg(&input)
        .arg("--out")
        .arg(&table)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(&table).unwrap();
    text.lines().skip(1).map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

/// A scan of every place of the wild type: how alike the two residues are.
fn scan() -> String {
    let mut table = "mutant,fitness\n".to_owned();
    for (at, from) in WILD.bytes().enumerate() {
        for to in amino::RESIDUES[..20].iter().filter(|to| **to != from) {
            let index = |r| amino::residue_index(r).unwrap();
            let score = amino::blosum62(index(from), index(*to));
            writeln!(table, "{}{}{},{score}", char::from(from), at + 1, char::from(*to)).unwrap();
        }
    }
    table
}

fn of_scan() -> String {
    format!(
        "alphabet = \"amino_acid\"\nsequence = \"mutant\"\nwild_type = \"{WILD}\"\n\
         target = {{ field = \"fitness\", kind = \"value\" }}\n\
         split = {{ by = \"group\", shares = [0.7, 0.15, 0.15], halve_validation = false }}"
    )
}

#[test]
fn molecules_are_told_apart_by_their_n_grams() {
    if onnxruntime().is_none() {
        println!("skipped: a sequence model needs ONNX Runtime, which is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut table = "smiles,name,class\n".to_owned();
    let mut molecule = |class: usize| {
        let mut chain = || "C".repeat(rng.random_range(1..8));
        let link = ["ON", "NO"][class];
        format!("{}{link}{}{link}{}F", chain(), chain(), chain())
    };
    for i in 0..400 {
        writeln!(table, "{},m{i},{}", molecule(i % 2), i % 2).unwrap();
    }
    let data = "alphabet = \"smiles\"\nsequence = \"smiles\"\nname = \"name\"\n\
                target = { field = \"class\", classes = [\"0\", \"1\"] }\n\
                split = { by = \"random\", shares = [0.7, 0.2, 0.1], halve_validation = false }";
    let wide = "wide = { of = \"grams\", n = 3, kinds = 8, penalty = 0.01 }";
    let output = run(folder.path(), &table, data, wide);
    assert!(output.status.success(), "{}", said(&output));
    assert!(figure(folder.path(), "auroc") > 0.99);
    // Fragments that the training records lack, and one that is no molecule.
    let rows =
        scored(folder.path(), ">a\nCCCONCCONCF\n>b\nCCCNOCCNOCF\n>odd\n[Pt]CONCCCONCF\n>broken\nC(C\n");
    let answers: Vec<&str> = rows.iter().map(|r| r[1].as_str()).collect();
    assert_eq!(answers, ["0", "1", "0", "."], "{rows:?}");
}

#[test]
fn substitutions_are_told_apart_at_places_that_nobody_trained_on() {
    if onnxruntime().is_none() {
        println!("skipped: a sequence model needs ONNX Runtime, which is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let wide = "wide = { of = \"substitutions\", penalty = 0.05 }";
    let output = run(folder.path(), &scan(), &of_scan(), wide);
    assert!(output.status.success(), "{}", said(&output));
    assert!(figure(folder.path(), "spearman") > 0.9);
    let (alike, unlike) = (WILD.replacen('K', "R", 1), WILD.replacen('K', "C", 1));
    let rows =
        scored(folder.path(), &format!(">alike\n{alike}\n>unlike\n{unlike}\n>short\n{}\n", &WILD[1..]));
    let value = |row: usize| rows[row].iter().find_map(|cell| cell.parse::<f64>().ok()).unwrap();
    assert!(value(0) > value(1), "{rows:?}");
    assert!(
        rows[2].iter().any(|cell| cell.contains("25 letters") || cell.contains("another length")),
        "{rows:?}"
    );
}

#[test]
fn a_wild_type_that_no_row_holds_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let wide = "wide = { of = \"substitutions\", penalty = 0.05 }";
    let data = of_scan().replace(WILD, &WILD.repeat(2));
    let output = run(folder.path(), &scan(), &data, wide);
    let said = said(&output);
    assert!(!output.status.success() && said.contains("a wild type of 54 tokens"), "{said}");
    assert!(said.contains("tokens.wide") && said.contains("at most the 32"), "{said}");
}
