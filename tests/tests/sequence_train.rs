//! Training of sequence models by the real program: augmentation, balance and SMOTE are the same after a kill, and each
//! changes what it says and nothing else.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use locus_host::model::{ModelConfig, Params};
use locus_tests::program;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Open frames of four codons against the same bases in any order, one coding record in `one_in`.
fn fasta(count: usize, one_in: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).fold(String::new(), |mut text, i| {
        let coding = i % one_in == 0;
        let codons =
            (0..rng.random_range(15..30)).map(|_| ["GCT", "GAA", "CTG", "AAG"][rng.random_range(0..4)]);
        let mut bases: Vec<char> = codons.collect::<String>().chars().collect();
        if !coding {
            for i in (1..bases.len()).rev() {
                bases.swap(i, rng.random_range(0..=i));
            }
        }
        let class = if coding { "coding" } else { "noncoding" };
        writeln!(text, ">{class}_{i}\n{}", bases.into_iter().collect::<String>()).unwrap();
        text
    })
}

/// Writes data and a recipe with these lines in `[finetune]`.
fn recipe(folder: &Path, name: &str, finetune: &str) -> PathBuf {
    for (file, count, seed) in [("train.fa", 360, 1), ("val.fa", 120, 2)] {
        fs::write(folder.join(file), fasta(count, 6, seed)).unwrap();
    }
    let path = folder.join(format!("{name}.toml"));
    let text = format!(
        r#"
task = "sequence"
name = "toy"
version = "0.1.0"
security_counter = 1
seed = 5
[data]
root = {folder:?}
alphabet = "dna"
files = [{{ path = "train.fa", split = "train" }}, {{ path = "val.fa", split = "val" }}]
target = {{ field = "name", until = "_", classes = ["noncoding", "coding"] }}
split = {{ halve_validation = false }}
[tokens]
k = 3
frames = 3
buckets = [96]
[model]
hidden = 32
layers = 1
heads = 2
ffn = 32
dropout = 0.1
[finetune]
epochs = 5
validations = 1
train = {{ batch = 32, learning_rate = 3e-3, warmup = 10, weight_decay = 0.02, clip = 1.0 }}
{finetune}
[calibrate]
range_records = 64
[export]
parity_windows = 20
parity_tolerance = 1e-4
int8_budget = 0.02
golden = 16
"#
    );
    fs::write(&path, text).unwrap();
    path
}

fn locus(command: &str, recipe: &Path, out: &Path) -> std::process::Command {
    let mut locus = program("locus");
    locus.arg(command).arg(recipe).arg("--out").arg(out).env_remove("LOCUS_DATA");
    locus.stderr(Stdio::piped());
    locus
}

fn good(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the stages up to `finetune`.
fn finetuned(recipe: &Path, out: &Path) {
    for stage in ["prepare", "pretrain", "finetune"] {
        good(&locus(stage, recipe, out).output().unwrap());
    }
}

fn best(out: &Path) -> Params {
    let config = ModelConfig::read(&out.join("best/config.json")).unwrap();
    Params::read(&out.join("best/model.safetensors"), &config, 0).unwrap()
}

#[test]
fn smote_moves_the_head_alone_and_goes_on_after_a_kill_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let augment = "augment = { crop_share = 0.2, crop_least = 0.8, reverse_complement = 0.3, indel = 0.3, \
                   max_indel = 2, synonymous = 0.3, cds_class = \"coding\" }\n";
    let plain = recipe(folder.path(), "plain", augment);
    finetuned(&plain, &path("plain"));
    let smote = format!("{augment}balance = {{ method = \"smote\", neighbours = 3, epochs = 4 }}\n");
    let smote = recipe(folder.path(), "smote", &smote);
    finetuned(&smote, &path("whole"));

    let (without, with) = (best(&path("plain")), best(&path("whole")));
    for ((name, a), (_, b)) in without.iter().zip(with.iter()) {
        let flat = |v: &candle_core::Var| v.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(a) == flat(b), !name.starts_with("head."), "{name}");
    }
    let log = fs::read_to_string(path("whole").join("refit.jsonl")).unwrap();
    // 300 of one class, 60 of the other and 240 made up: 18 steps of 32 an epoch.
    assert_eq!(log.lines().filter(|l| l.contains("\"loss\"")).count(), 72, "{log}");

    let mut kills = 0;
    for stage in ["prepare", "pretrain"] {
        good(&locus(stage, &smote, &path("killed")).output().unwrap());
    }
    for event in ["finetune 22/", "refit 36/"] {
        let mut child = locus("finetune", &smote, &path("killed")).spawn().unwrap();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            if line.unwrap().starts_with(event) {
                child.kill().unwrap();
                kills += 1;
                break;
            }
        }
        child.wait().unwrap();
    }
    assert_eq!(kills, 2, "the chain said where it was");
    good(&locus("finetune", &smote, &path("killed")).output().unwrap());
    let bytes = |run: &str| fs::read(path(run).join("best/model.safetensors")).unwrap();
    assert!(bytes("killed") == bytes("whole"), "the killed run ended elsewhere");
}

#[test]
fn sampling_and_weights_change_the_steps_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    // 300 of one class and 60 of the other, in steps of 32: 11, 3, 18 and 11 an epoch.
    for (method, steps) in [("none", 55), ("down", 15), ("over", 90), ("weights", 55)] {
        let recipe = recipe(folder.path(), method, &format!("balance = {{ method = \"{method}\" }}\n"));
        let out = folder.path().join(method);
        finetuned(&recipe, &out);
        let log = fs::read_to_string(out.join("finetune.jsonl")).unwrap();
        assert_eq!(log.lines().filter(|l| l.contains("\"loss\"")).count(), steps, "{method}");
        seen.push(fs::read(out.join("best/model.safetensors")).unwrap());
    }
    for (i, a) in seen.iter().enumerate() {
        assert!(seen[i + 1..].iter().all(|b| a != b), "two methods are the same");
    }
}

#[test]
fn synonyms_of_fragments_and_smote_of_several_ranks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let fragments = "augment = { synonymous = 0.3, cds_class = \"noncoding\" }\n";
    let synonyms = recipe(folder.path(), "synonyms", fragments);
    for stage in ["prepare", "pretrain"] {
        good(&locus(stage, &synonyms, &out).output().unwrap());
    }
    let output = locus("finetune", &synonyms, &out).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("\"noncoding\"") && text.contains("fragments"),
        "{text}"
    );
    let smote = recipe(folder.path(), "smote", "balance = { method = \"smote\" }\n");
    let mut two = locus("finetune", &smote, &out);
    two.env("RANK", "0").env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", "1");
    let output = two.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("one rank"), "{text}");
}
