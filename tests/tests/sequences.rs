//! Sets of sequences: the real ones as they are, and scaffolds beside RDKit.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use locus_genome::{Tokenizer, smiles::Molecule, tokenizer::SmilesTokenizer};
use locus_host::{
    data::{Split, describe::SetReport},
    sequence::{SequenceSet, SetPlan, Target, prepare, report::describe, scaffold::scaffold},
};
use locus_tests::{data, python};

const SETS: &str = "sequence sets";

fn plan(keys: &str) -> SetPlan {
    toml::from_str(&format!("root = \".\"\n{keys}")).unwrap()
}

fn read(folder: &Path, keys: &str) -> (SequenceSet, SetReport) {
    let plan = plan(keys);
    let set = prepare(&plan, folder).unwrap();
    let report = describe("real", &set, plan.near_duplicates, |report, _| Ok(report.clone())).unwrap();
    (set, report)
}

fn sizes(set: &SequenceSet) -> [usize; 4] {
    [Split::Train, Split::ValSelect, Split::ValFit, Split::Test].map(|s| set.of_split(s).len())
}

#[test]
fn human_exons_and_transcripts_share_no_chromosome_and_few_near_duplicates() {
    let Some(folder) = data(SETS) else { return };
    for (name, counts) in [
        ("human_exon_vs_noncoding", [12_252, 1_650, 1_926]),
        ("human_cds_vs_noncoding", [14_214, 1_780, 2_406]),
    ] {
        let keys = format!(
            r#"
            alphabet = "dna"
            files = [
                {{ path = "coding/{name}.train.fa.gz", split = "train" }},
                {{ path = "coding/{name}.val.fa.gz", split = "val" }},
                {{ path = "coding/{name}.test.fa.gz", split = "test" }},
            ]
            target = {{ field = "name", until = "_", classes = ["noncoding", "coding"] }}
            group = {{ field = "chr" }}
            "#
        );
        let (set, report) = read(&folder, &keys);
        println!("{name}: {:?}, left out {:?}, {:?}", sizes(&set), set.left_out, report.leakage);
        let [train, select, fit, test] = sizes(&set);
        assert_eq!([select + fit, test], counts[1..], "held-out records stay as they came");
        let out: u64 = set.left_out.values().sum();
        assert_eq!(train + out as usize, counts[0]);
        assert!(report.leakage.iter().all(|l| l.within != "train" || (l.shared_groups, l.exact) == (0, 0)));
        let near = "near_duplicates = 0.8\n".to_owned() + &keys;
        let (set, report) = read(&folder, &near);
        println!("{name}: near duplicates removed: {:?}", set.left_out);
        assert!(report.leakage.iter().all(|l| l.within != "train" || l.near == 0));
    }
}

#[test]
fn other_sets_are_read_by_their_columns() {
    let Some(folder) = data(SETS) else { return };
    let (bacteria, report) = read(
        &folder,
        r#"
        alphabet = "dna"
        files = [
            { path = "coding/bacteria_cds_vs_intergenic.train.fa.gz", split = "train" },
            { path = "coding/bacteria_cds_vs_intergenic.test.fa.gz", split = "test" },
        ]
        target = { field = "name", until = "_", classes = ["noncoding", "coding"] }
        group = { field = "org" }
        split = { by = "random", validation_from_train = 0.1 }
        "#,
    );
    println!("bacteria: {:?}, {:?}, {:?}", sizes(&bacteria), bacteria.left_out, report.leakage);
    assert_eq!(sizes(&bacteria)[3], 5_676);
    let (splice, report) = read(
        &folder,
        r#"
        alphabet = "dna"
        files = [{ path = "splice/uci_splice_junction.tsv.gz" }]
        target = { field = "label" }
        group = { field = "instance", until = "-" }
        split = { by = "group" }
        "#,
    );
    println!("splice: {:?}, {:?}, {:?}", sizes(&splice), splice.left_out, report.leakage);
    assert_eq!(splice.classes, ["EI", "IE", "N"]);
    assert!(report.leakage.iter().all(|l| l.shared_groups == 0 || l.of == "val_fit"));
    let (scan, _) = read(
        &folder,
        r#"
        alphabet = "amino_acid"
        files = [{ path = "protein/blat_ecolx_ranganathan2015_dms.csv.gz" }]
        sequence = "mutant"
        name = "mutant"
        wild_type = "MSIQHFRVALIPFFAAFCLPVFAHPETLVKVKDAEDQLGARVGYIELDLNSGKILESFRPEERFPMMSTFKVLLCGAVLSRVDAGQEQLGRRIHYSQNDLVEYSPVTEKHLTDGMTVRELCSAAITMSDNTAANLLLTTIGGPKELTAFLHNMGDHVTRLDRWEPELNEAIPNDERDTTMPAAMATTLRKLLTGELLTLASRQQLIDWMEADKVAGPLLRSALPAGWFIADKSGAGERGSRGIIAALGPDGKPSRIVVIYTTGSQATMDERNRQIAEIGASLIKHW"
        target = { field = "2500", kind = "value" }
        split = { by = "group" }
        "#,
    );
    println!("TEM-1: {:?}, {:?}", sizes(&scan), scan.left_out);
    assert!(scan.records.iter().all(|r| matches!(r.target, Target::Value(v) if v.is_finite())));
    let (deeploc, report) = read(
        &folder,
        r#"
        alphabet = "amino_acid"
        files = [
            { path = "protein/deeploc1_our_val_set.fasta.gz", split = "train" },
            { path = "protein/deeploc1_setHARD.fasta.gz", split = "test" },
        ]
        target = { field = "word", until = "-" }
        filter = { max_length = 6000 }
        "#,
    );
    println!("DeepLoc: {:?}, {:?}, {:?}", sizes(&deeploc), deeploc.classes, report.leakage);
    assert!(deeploc.classes.iter().any(|c| c == "Nucleus"));
    let (bace, _) = read(
        &folder,
        r#"
        alphabet = "smiles"
        files = [{ path = "smiles/bace.csv.gz" }]
        sequence = "smiles"
        name = "CID"
        target = { field = "Class" }
        split = { field = { field = "Model" }, halve_validation = false }
        "#,
    );
    println!("BACE: {:?}, {:?}", sizes(&bace), bace.left_out);
    assert_eq!(sizes(&bace)[1..], [45, 0, 1_265]);
}

/// Every molecule of a file.
fn molecules(folder: &Path, name: &str, column: &str) -> Vec<String> {
    let bytes = locus_genome::text::open(&folder.join("smiles").join(name)).unwrap();
    let mut reader = csv::Reader::from_reader(bytes);
    let at = reader.headers().unwrap().iter().position(|h| h == column).unwrap();
    reader.records().map(|r| r.unwrap()[at].trim().to_owned()).collect()
}

const FILES: [&str; 5] =
    ["bace.csv.gz", "bbbp.csv.gz", "clintox.csv.gz", "tox21.csv.gz", "esol_delaney.csv.gz"];

#[test]
fn every_molecule_of_the_sets_is_read_and_written_back() {
    let Some(folder) = data(SETS) else { return };
    let tokenizer = Tokenizer::Smiles(SmilesTokenizer);
    for file in FILES {
        let all = molecules(&folder, file, "smiles");
        for text in &all {
            let ids = tokenizer.encode(text).unwrap_or_else(|e| panic!("{file}: {text}: {e}"));
            assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
        }
        println!("{file}: {} molecules", all.len());
    }
}

const SCRIPT: &str = r#"
import sys, json
from rdkit import Chem, RDLogger
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles
RDLogger.DisableLog("rdApp.*")
for line in sys.stdin:
    molecule = Chem.MolFromSmiles(line.strip())
    print(json.dumps(None if molecule is None else MurckoScaffoldSmiles(mol=molecule, includeChirality=False)))
"#;

/// Groups by one naming that another one tears apart.
fn torn<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut of: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for (a, b) in pairs {
        of.entry(a).or_default().insert(b);
    }
    of.into_iter().filter(|(_, b)| b.len() > 1).map(|(a, b)| (a, b.into_iter().collect())).collect()
}

#[test]
fn scaffolds_group_molecules_as_rdkit_does() {
    let Some(folder) = data(SETS) else { return };
    let Some(python) = python("rdkit", &["rdkit==2026.9.1", "numpy==2.4.6"], "import rdkit.Chem") else {
        return;
    };
    for file in FILES {
        let all = molecules(&folder, file, "smiles");
        let mut child = Command::new(&python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let lines = all.join("\n");
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let theirs: Vec<Option<String>> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(theirs.len(), all.len());
        let ours: Vec<String> =
            all.iter().map(|text| scaffold(&Molecule::parse(text).unwrap()).unwrap()).collect();
        let pairs: Vec<(&str, &str)> =
            ours.iter().zip(&theirs).filter_map(|(o, t)| Some((o.as_str(), t.as_deref()?))).collect();
        let (joined, torn) = (torn(&pairs), torn(&pairs.iter().map(|(a, b)| (*b, *a)).collect::<Vec<_>>()));
        println!(
            "{file}: {} of {} known to RDKit; {} groups joined, {} torn",
            pairs.len(),
            all.len(),
            joined.len(),
            torn.len()
        );
        assert_eq!((joined, torn), (Vec::new(), Vec::new()), "{file}");
    }
}
