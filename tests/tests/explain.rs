//! `locus explain` on the shipped model and a generated panel: complete, faithful, drawn, and about the answer that
//! `locus score` gives.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use locus_host::{commands::SourceFiles, panel, report::Picture};
use locus_tests::{program, root};
use serde_json::Value;

/// Writes a panel and gives the arguments that name it.
fn panel(folder: &Path) -> (SourceFiles, Vec<String>) {
    let at = |n: &str| folder.join(n);
    let files = SourceFiles { fasta: at("p.fa"), gff3: at("p.gff3"), vcf: at("p.vcf"), floors: None };
    panel::generate(10, 3).write(&files).unwrap();
    let text = |p: &Path| p.display().to_string();
    let bundle = root().join("models/variant-effect.locus");
    let arguments = ["--bundle", &text(&bundle), "--fasta", &text(&files.fasta), "--gff", &text(&files.gff3)];
    (files.clone(), arguments.map(str::to_owned).to_vec())
}

fn locus(arguments: &[&str], source: &[String]) -> Result<String, String> {
    let output = program("locus").args(arguments).args(source).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn attributions_of_the_shipped_model_are_complete_and_faithful() {
    let folder = tempfile::tempdir().unwrap();
    let (files, source) = panel(folder.path());
    let report = folder.path().join("report.json");
    let (vcf, out) = (files.vcf.display().to_string(), report.display().to_string());
    locus(&["explain", "test", "--records", "24", "--vcf", &vcf, "--json", &out], &source).unwrap();
    let report = json(&report);
    for mode in ["transcript", "sequence_only"] {
        let mode = &report["modes"][mode];
        println!("{mode}");
        assert_eq!(mode["records"], 24);
        assert!(mode["completeness_error_median"].as_f64().unwrap() <= 0.01, "{mode}");
        let area = |name: &str| mode["areas"][name]["value"].as_f64().unwrap();
        assert!(area("top") > area("random") && area("random") > area("least"), "{mode}");
    }
}

#[test]
fn an_explained_variant_has_the_logit_that_is_served_and_a_picture_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (files, source) = panel(folder.path());
    let table = folder.path().join("t.tsv").display().to_string();
    let (vcf, inputs) = (files.vcf.display().to_string(), folder.path().join("inputs.jsonl"));
    let arguments = [
        "score",
        "--precision",
        "fp32",
        "--vcf",
        &vcf,
        "--out",
        &table,
        "--inputs",
        inputs.to_str().unwrap(),
    ];
    locus(&arguments, &source).unwrap();
    let served: Vec<Value> =
        fs::read_to_string(&inputs).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let picked: Vec<&Value> = served.iter().step_by(served.len() / 3).take(3).collect();
    let name = |v: &Value| {
        let text = |key: &str| v[key].as_str().unwrap().to_owned();
        format!("{}-{}-{}-{}", text("chrom"), v["pos"], text("ref"), text("alt"))
    };
    let names: Vec<String> = picked.iter().map(|v| name(v)).collect();
    let out = folder.path().join("out");
    let mut arguments = vec!["explain", "variants", "--out", out.to_str().unwrap()];
    arguments.extend(names.iter().map(String::as_str));
    locus(&arguments, &source).unwrap();
    for (variant, served) in names.iter().zip(picked) {
        let at = |ending: &str| -> PathBuf { out.join(format!("{variant}.{ending}")) };
        let explained = json(&at("json"));
        let (ours, theirs) = (explained["logit"].as_f64().unwrap(), served["logits"][0].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-3, "{variant}: {ours} explained, {theirs} served");
        let svg = fs::read_to_string(at("svg")).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains(variant));
        // Labelled anew.
        let svg = format!("<svg {}", &svg[svg.find("width=").unwrap()..]);
        assert!(Picture::new("read back", "", &svg).png(1.0).unwrap().len() > 10_000);
        assert!(fs::read(at("png")).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
        let maps = candle_core::safetensors::load(at("attention.safetensors"), &candle_core::Device::Cpu);
        let rows =
            maps.unwrap()["alternate"].sum(3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(rows.iter().all(|sum| (sum - 1.0).abs() < 1e-4));
    }
}

#[test]
fn what_cannot_be_explained_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (files, source) = panel(folder.path());
    let out = folder.path().join("out").display().to_string();
    let refused =
        |variant: &str| locus(&["explain", "variants", "--out", &out, variant], &source).unwrap_err();
    let text = fs::read_to_string(&files.vcf).unwrap();
    let row: Vec<&str> = text.lines().find(|l| !l.starts_with('#')).unwrap().split('\t').collect();
    let insertion = refused(&format!("{}-{}-{}-{}A", row[0], row[1], row[3], row[3]));
    assert!(insertion.contains("not a single-base variant"), "{insertion}");
    assert!(refused("chr9-1100-A-C").contains("chr9"), "{}", refused("chr9-1100-A-C"));
    assert!(refused("nonsense").contains("nonsense"), "{}", refused("nonsense"));
}
