use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A plan over files with this content, in a folder of their own.
fn prepared(keys: &str, files: &[(&str, &str)]) -> Result<SequenceSet> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let plan: SetPlan = toml::from_str(&format!("root = \".\"\n{keys}")).unwrap();
    prepare(&plan, folder.path())
}

const FASTA: &str = r#"
    alphabet = "dna"
    files = [{ path = "a.fa", split = "train" }, { path = "b.fa", split = "test" }]
    target = { field = "name", until = "_", classes = ["noncoding", "coding"] }
    group = { field = "chr" }
"#;
const TRAIN: &str = ">coding_1 chr=4 gene=A\nACGTACCA\nAA\n>noncoding_1 chr=5\nTTTTGCGGCA\n";
const TEST: &str = ">coding_1 chr=6\nACGTACCATA\n";

fn left_out(set: &SequenceSet) -> Vec<(&str, u64)> {
    set.left_out.iter().map(|(r, &n)| (r.as_str(), n)).collect()
}

#[test]
fn labelled_fasta_is_read_with_its_label_group_and_split() {
    let set = prepared(FASTA, &[("a.fa", TRAIN), ("b.fa", TEST)]).unwrap();
    let seen: Vec<_> = set
        .records
        .iter()
        .enumerate()
        .map(|(i, r)| {
            let sequence = set.sequence(i).unwrap().into_owned();
            (r.name.as_str(), sequence, r.target, r.group.as_deref().unwrap(), r.split)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("coding_1", "ACGTACCAAA".to_owned(), Target::Class(1), "4", Split::Train),
            ("noncoding_1", "TTTTGCGGCA".to_owned(), Target::Class(0), "5", Split::Train),
            ("coding_1", "ACGTACCATA".to_owned(), Target::Class(1), "6", Split::Test),
        ]
    );
    assert_eq!(set.sources.len(), 2);
}

#[test]
fn what_repeats_a_held_out_record_leaves_training_and_the_held_out_one_stays() {
    let turned = ">coding_9 chr=7\nTATGGTACGT\n>coding_8 chr=7\nGGGGGGGGGG\n>coding_7 chr=8\nCCCCCCCCCC\n";
    let train = format!("{TRAIN}{turned}");
    let set = prepared(FASTA, &[("a.fa", &train), ("b.fa", TEST)]).unwrap();
    assert_eq!(left_out(&set), [("duplicate", 1), ("duplicate of a held-out record", 1)]);
    let names: Vec<&str> = set.records.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["coding_1", "noncoding_1", "coding_8", "coding_1"]);
}

#[test]
fn validation_of_one_chromosome_is_halved_by_record() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut made = |i: usize, group: usize| {
        let bases: String = (0..30).map(|_| char::from(b"ACGT"[rng.random_range(0..4)])).collect();
        format!(">coding_{i} chr={group}\n{bases}\n")
    };
    let keys = FASTA.replace("\"test\"", "\"val\"");
    for groups in [1, 40] {
        let val: String = (0..200).map(|i| made(i, i % groups)).collect();
        let set = prepared(&keys, &[("a.fa", TRAIN), ("b.fa", &val)]).unwrap();
        let (select, fit) = (set.of_split(Split::ValSelect), set.of_split(Split::ValFit));
        assert!(select.len().min(fit.len()) > 66, "{} {}", select.len(), fit.len());
        let groups_of = |half: &[usize]| -> BTreeSet<&str> {
            half.iter().filter_map(|&i| set.records[i].group.as_deref()).collect()
        };
        assert_eq!(groups_of(&select).is_disjoint(&groups_of(&fit)), groups > 1);
    }
}

#[test]
fn duplicates_that_disagree_all_go() {
    let train = format!("{TRAIN}>noncoding_2 chr=4\nACGTACCAAA\n>coding_3 chr=4\nGATTACAGAT\n");
    let set = prepared(FASTA, &[("a.fa", &train), ("b.fa", TEST)]).unwrap();
    assert_eq!(left_out(&set), [("duplicates that disagree", 2)]);
}

#[test]
fn near_duplicates_go_and_the_longest_stays() {
    let long = "ACGGTCATTGCATTACGGACCATGAACGTTGCAGGTCCATACGTTAGC";
    let files = format!(
        ">coding_p chr=1\n{}\n>noncoding_w chr=2\n{long}\n>coding_x chr=3\nTTTTTTTTTTTTTTTTTTTTGCA\n",
        &long[4..40]
    );
    let keys = format!("near_duplicates = 0.8\n{FASTA}");
    let set = prepared(&keys, &[("a.fa", &files), ("b.fa", TEST)]).unwrap();
    assert_eq!(left_out(&set), [("near duplicate", 1)]);
    assert_eq!(set.records[0].name, "noncoding_w");
}

const TABLE: &str = r#"
    alphabet = "smiles"
    files = [{ path = "t.csv" }]
    sequence = "smiles"
    name = "id"
    target = { field = "y" }
"#;

#[test]
fn a_column_gives_the_split_and_scaffolds_stay_whole() {
    let table = "\u{feff}id,smiles,y,Model\na,c1ccccc1C,1,Train\nb,c1ccccc1CC,0,Train\nc,C1CCCCC1,1,Test\n";
    let said = format!("{TABLE}\nsplit = {{ field = {{ field = \"Model\" }} }}");
    let set = prepared(&said, &[("t.csv", table)]).unwrap();
    assert_eq!(set.classes, ["0", "1"]);
    assert_eq!(
        set.records.iter().map(|r| r.split).collect::<Vec<_>>(),
        [Split::Train, Split::Train, Split::Test]
    );
    let drawn = format!("{TABLE}\nsplit = {{ by = \"scaffold\", shares = [0.7, 0.0, 0.3] }}");
    let set = prepared(&drawn, &[("t.csv", table)]).unwrap();
    assert_eq!(set.records[0].group, set.records[1].group);
    assert_eq!(
        set.records.iter().map(|r| r.split).collect::<Vec<_>>(),
        [Split::Train, Split::Train, Split::Test]
    );
}

#[test]
fn mutations_of_a_wild_type_are_grouped_by_position() {
    let keys = r#"
        alphabet = "amino_acid"
        files = [{ path = "m.tsv" }]
        sequence = "mutant"
        wild_type = "MKVH"
        target = { field = "fitness", kind = "value" }
        split = { by = "group", shares = [0.5, 0.0, 0.5] }
    "#;
    let table = |m: &str| format!("mutant\tfitness\nK2A\t0.5\n{m}\t-1e-1\nH4*\t0\n");
    let set = prepared(keys, &[("m.tsv", &table("K2C"))]).unwrap();
    let one = &set.records[1];
    assert_eq!((one.changed, one.group.as_deref()), (Some(1), Some("2")));
    assert_eq!(set.sequence(1).unwrap(), "MCVH");
    assert_eq!((one.target, one.split), (Target::Value(-0.1), set.records[0].split));
    for wrong in ["A2C", "K9C", "K0C", "2C", "K2", "K2\u{e9}", "", "KC"] {
        let error = prepared(keys, &[("m.tsv", &table(wrong))]).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("H24C"), "{wrong}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named_with_file_and_place() {
    let fasta = |train: &str| prepared(FASTA, &[("a.fa", train), ("b.fa", TEST)]).unwrap_err().to_string();
    for (train, parts) in [
        ("", &["a.fa", "no records"][..]),
        (">coding_1\nACGTACGTAA\n", &["a.fa", "line 1", "chr"]),
        (&format!("{TRAIN}>coding_1 chr=4\nACGT\n"), &["a.fa", "coding_1", "twice"]),
        (">coding_1 chr=1\nMKLPQ\n>noncoding_2 chr=1\nMEEPQ\n", &["a.fa", "line 1", "'L'", "IUPAC"]),
        (">coding_1 chr=1\nACGTACGTAA\n", &["training", "coding", "two classes"]),
        (&format!("{TRAIN}>x_1 chr=4\nACGT\n"), &["x_1", "\"x\"", "noncoding"]),
    ] {
        let error = fasta(train);
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
    }
    let table = |t: &str| prepared(TABLE, &[("t.csv", t)]).unwrap_err().to_string();
    for (text, parts) in [
        ("", &["t.csv", "smiles"][..]),
        ("id,smiles,y\n", &["t.csv", "no records"]),
        ("id,smiles\na,C\n", &["t.csv", "line 1", "\"y\"", "smiles"]),
        ("id,smiles,y\na,C,1\nb,CC\n", &["t.csv", "line 3", "2 columns"]),
        ("id,smiles,y\na,C,1\nb,CC,\n", &["t.csv", "line 3", "no y"]),
        ("id,smiles,y\na,C,1\na,CC,0\n", &["t.csv", "\"a\"", "twice"]),
        ("id,smiles,y\na,C,1\nb,CC,0\n", &["\"a\"", "no split"]),
        ("id,smiles,y\na,\u{fe},1\nb,CC,0\nc,\u{fe},1\n", &["t.csv", "line 2", "offset 0"]),
    ] {
        let error = table(text);
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
    }
}

#[test]
fn a_line_without_end_and_a_file_cut_short_end_in_an_error() {
    let long = format!("{TRAIN}>coding_2 chr=1\n{}\n", "A".repeat(20 << 20));
    let error = prepared(FASTA, &[("a.fa", &long), ("b.fa", TEST)]).unwrap_err().to_string();
    assert!(error.contains("a.fa") && error.contains("line 3") && error.contains("bytes"), "{error}");
    let cell = format!("id,smiles,y\na,C,1\nb,\"{}", "C\n".repeat(10 << 20));
    let error = prepared(TABLE, &[("t.csv", &cell)]).unwrap_err().to_string();
    assert!(error.contains("t.csv") && error.contains("bytes"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, TRAIN.repeat(3).as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    std::fs::write(folder.path().join("a.fa.gz"), &gz[..gz.len() / 2]).unwrap();
    let keys = FASTA.replace("\"a.fa\"", "\"a.fa.gz\"");
    let plan: SetPlan = toml::from_str(&format!("root = \".\"\n{keys}")).unwrap();
    let error = prepare(&plan, folder.path()).unwrap_err().to_string();
    assert!(error.contains("a.fa.gz"), "{error}");
}
