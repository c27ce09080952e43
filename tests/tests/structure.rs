//! RMSD, TM-score and GDT before the values of the program TMscore.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use locus_tests::{data, program};
use serde_json::Value;

/// The golden values have so many digits.
const DIGITS: f64 = 1e-3;

#[test]
fn scores_by_residue_number_are_those_of_the_program_tmscore() {
    let Some(data) = data("structures") else { return };
    let folder = data.join("structures");
    let table = fs::read_to_string(folder.join("golden_tmscore.tsv")).unwrap();
    let mut lines = table.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let heads = lines.next().unwrap();
    let mut rows = 0;
    for row in lines {
        let of = |name: &str| row[heads.iter().position(|h| *h == name).unwrap()];
        let number = |name: &str| of(name).parse::<f64>().unwrap();
        let (model, reference) = (folder.join(of("model")), folder.join(of("reference")));
        let output =
            program("locus").args(["structure", "--json"]).args([model, reference]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let got: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{} {}: {got}", of("model"), of("reference"));
        for (name, golden) in [
            ("pairs", "n_common"),
            ("rmsd", "rmsd_TMscore"),
            ("tm_score", "tm_score_norm_ref"),
            ("gdt_ts", "gdt_ts"),
            ("gdt_ha", "gdt_ha"),
        ] {
            let (got, golden) = (got[name].as_f64().unwrap(), number(golden));
            assert!((got - golden).abs() < DIGITS, "{name}: got {got}, expected {golden}");
        }
        rows += 1;
    }
    assert!(rows >= 4, "{rows} golden rows");
}

#[test]
fn alignments_by_shape_are_those_of_the_program_tmalign() {
    let Some(data) = data("structural alignments") else { return };
    let folder = data.join("structures");
    let table = fs::read_to_string(folder.join("golden_tmalign.tsv")).unwrap();
    let mut lines = table.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let heads = lines.next().unwrap();
    let mut rows = 0;
    for row in lines {
        let of = |name: &str| row[heads.iter().position(|h| *h == name).unwrap()];
        let (one, two) = (folder.join(of("chain1")), folder.join(of("chain2")));
        let output = program("locus")
            .args(["structure", "--json", "--pairs", "shape"])
            .args([one, two])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let got: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{} {}: {got}", of("chain1"), of("chain2"));
        // The table gives RMSD with two digits.
        for (name, golden, digits) in [
            ("pairs", "aligned", 0.5),
            ("rmsd", "rmsd", 0.005),
            ("identity", "seq_id", DIGITS),
            ("tm_score_first", "tm_norm_chain1", DIGITS),
            ("tm_score_second", "tm_norm_chain2", DIGITS),
        ] {
            let (got, golden) = (got[name].as_f64().unwrap(), of(golden).parse::<f64>().unwrap());
            assert!((got - golden).abs() <= digits, "{name}: got {got}, expected {golden}");
        }
        rows += 1;
    }
    assert!(rows >= 2, "{rows} golden rows");
}

#[test]
fn what_is_no_structure_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.pdb");
    fs::write(&path, "REMARK nothing here\n").unwrap();
    let output = program("locus").arg("structure").args([&path, &path]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("expected a PDB file"), "{error}");
}
