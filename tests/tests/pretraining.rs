//! Pretraining of language models by the real binary: exact resume with mixed objectives, starting from another
//! recipe's model, memory that does not grow with the genome, and bad input.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use locus_tests::{program, root};
use serde_json::Value;

/// Bases with a memory of two and a share of chance, so that there is something to learn.
fn bases(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chance = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize
    };
    let (mut before, mut last) = (0, 1);
    (0..n)
        .map(|_| {
            let next = if chance() % 4 == 0 { chance() % 4 } else { (2 * before + last + 1) % 4 };
            (before, last) = (last, next);
            b"ACGT"[next]
        })
        .collect()
}

fn write_fasta(path: &Path, records: &[(&str, Vec<u8>)]) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for (header, bases) in records {
        writeln!(file, ">{header}").unwrap();
        for line in bases.chunks(80) {
            file.write_all(line).unwrap();
            file.write_all(b"\n").unwrap();
        }
    }
    file.flush().unwrap();
}

const OBJECTIVES: &str = "[pretrain.objectives]\nmlm = 1.0\nnext_segment = 0.7\norder = 0.7\n";

fn recipe(folder: &Path, steps: u64, objectives: &str, more: &str) -> std::path::PathBuf {
    let path = folder.join("recipe.toml");
    let text = format!(
        "task = \"language_model\"\nname = \"t\"\nversion = \"0.0.1\"\nseed = 7\n\
         [data]\nroot = {folder:?}\nheld_out_share = 0.25\nheld_out_bases = 400\n\
         [[data.fasta]]\npath = \"g.fa\"\n\
         [window]\nk = 3\nstride = 1\nkmers = 61\nbuckets = [64]\n\
         [model]\nhidden = 32\nlayers = 2\nheads = 2\nffn = 64\ndropout = 0.1\n\
         [pretrain]\nsteps = {steps}\nmask_share = 0.2\nspan = [3, 6]\n{more}{objectives}\
         [pretrain.train]\nbatch = 32\nlearning_rate = 3e-3\nwarmup = 10\nweight_decay = 0.01\nclip = 1.0\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn locus(command: &str, recipe: &Path, out: &Path) -> std::process::Command {
    let mut locus = program("locus");
    locus.arg(command).arg(recipe).arg("--out").arg(out).env_remove("LOCUS_DATA");
    locus.stdout(Stdio::piped()).stderr(Stdio::piped());
    locus
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn losses(out: &Path) -> Vec<(u64, Value, Value)> {
    let text = fs::read_to_string(out.join("pretrain.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|l| (l["step"].as_u64().unwrap(), l["loss"].clone(), l["figures"].clone())).collect()
}

#[test]
fn mixed_objectives_resume_exactly_and_the_model_beats_counts_where_there_is_more_to_know() {
    let folder = tempfile::tempdir().unwrap();
    write_fasta(&folder.path().join("g.fa"), &[("chrA", bases(2_000_000, 3))]);
    let recipe = recipe(folder.path(), 150, OBJECTIVES, "");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let output = locus("run", &recipe, &whole).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut kills = 0;
    for event in ["pretrain 30/", "pretrain 75/", "pretrain 120/"] {
        let mut child = locus("run", &recipe, &killed).spawn().unwrap();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            if line.unwrap().starts_with(event) {
                child.kill().unwrap();
                kills += 1;
                break;
            }
        }
        child.wait().unwrap();
    }
    assert!(kills >= 2, "{kills}");
    assert!(locus("run", &recipe, &killed).output().unwrap().status.success());
    for name in ["pretrained/model.safetensors", "bits_per_base.json", "genome.packed", "regions.json"] {
        assert!(fs::read(whole.join(name)).unwrap() == fs::read(killed.join(name)).unwrap(), "{name}");
    }
    assert_eq!(losses(&whole), losses(&killed));
    let prepared: Value = serde_json::from_slice(&fs::read(whole.join("prepare.json")).unwrap()).unwrap();
    let splits = ["train", "val_select", "val_fit"].map(|split| &prepared["splits"][split]);
    assert!(splits.iter().all(|s| s["records"].as_u64() > Some(0) && s["gc"]["mean"].as_f64() > Some(0.3)));
    assert!(prepared["leakage"].as_array().unwrap().iter().all(|l| l["exact"] == 0), "{prepared}");
    let page = fs::read_to_string(whole.join("prepare.html")).unwrap();
    assert!(page.contains("Lengths") && page.contains("GC content") && page.contains("stretches of DNA"));
    let asked = |kind: &str| {
        losses(&whole).iter().filter(|(_, _, f)| f.get(format!("{kind}_accuracy")).is_some()).count()
    };
    let counts = ["mlm", "next_segment", "order"].map(asked);
    assert!(counts.iter().all(|&n| n > 25) && counts.iter().sum::<usize>() == 150, "{counts:?}");

    let report: Value = serde_json::from_slice(&fs::read(whole.join("bits_per_base.json")).unwrap()).unwrap();
    let bits = |path: &str| report.pointer(path).unwrap().as_f64().unwrap();
    // The rule reads two bases to the left: counts of order 0 know nothing of it, and those of order 2 all of it that
    // is to be known from the left.
    assert!(bits("/markov/0/value") > 1.9 && bits("/markov/2/value") < 1.3, "{report}");
    assert!(bits("/between/5/value") < bits("/markov/5/value"), "{report}");
    assert!(bits("/model/value") < bits("/markov/0/value") - 0.2, "{report}");
}

#[test]
fn another_recipe_starts_from_the_model_and_one_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_fasta(&folder.path().join("g.fa"), &[("chrA", bases(1_000_000, 3))]);
    let first = recipe(folder.path(), 40, "", "");
    let (out, next) = (folder.path().join("first"), folder.path().join("next"));
    assert!(locus("run", &first, &out).output().unwrap().status.success());
    let from = format!("from = {:?}\n", out.join("pretrained"));
    let second = recipe(folder.path(), 20, OBJECTIVES, &from);
    let output = locus("run", &second, &next).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let text = fs::read_to_string(&second).unwrap();
    for (was, is, says) in [
        ("k = 3", "k = 4", "vocabulary: got k = 3, stride 1, expected k = 4"),
        ("hidden = 32", "hidden = 64", "model.hidden: got 32, expected 64"),
        ("layers = 2", "layers = 1", "model.layers: got 2, expected 1"),
        ("buckets = [64]", "buckets = [96]", "longest row: got 64 tokens, expected 96 or more"),
    ] {
        let text = text.replacen(was, is, 1).replacen("span = [3, 6]", "span = [4, 6]", 1);
        fs::write(&second, text).unwrap();
        let error =
            error(&locus("run", &second, &folder.path().join(is.replace(' ', "_"))).output().unwrap());
        assert!(error.contains(says), "{error}");
    }

    // What starts from it is another model where it is another one.
    let mut weights = fs::read(out.join("pretrained/model.safetensors")).unwrap();
    weights.truncate(weights.len() / 2);
    fs::write(out.join("pretrained/model.safetensors"), weights).unwrap();
    fs::write(&second, text).unwrap();
    let error = error(&locus("pretrain", &second, &next).output().unwrap());
    assert!(error.contains("pretrained/model.safetensors: got") && !error.contains("panicked"), "{error}");
}

#[test]
fn bad_genomes_are_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let recipe = recipe(at, 20, "", "");
    let out = at.join("out");
    let refused = |records: &[(&str, Vec<u8>)], says: &str| {
        write_fasta(&at.join("g.fa"), records);
        let error = error(&locus("run", &recipe, &out).output().unwrap());
        assert!(error.contains(says) && !error.contains("panicked"), "{says}: {error}");
    };
    refused(&[("a", bases(50, 1)), ("b", bases(60, 2))], "too short or ambiguous");
    refused(&[("a", b"N".repeat(500_000))], "too short or ambiguous");
    refused(&[("a", b"ACGT!".to_vec())], "0x21");
    refused(&[("a", bases(300_000, 1)), ("a", bases(300_000, 2))], "\"a\" twice");
    fs::write(at.join("g.fa"), b"").unwrap();
    assert!(error(&locus("run", &recipe, &out).output().unwrap()).contains("got no records"));
    fs::remove_file(at.join("g.fa")).unwrap();
    assert!(error(&locus("run", &recipe, &out).output().unwrap()).contains("g.fa"));

    // A packed genome that was cut after it was prepared.
    write_fasta(&at.join("g.fa"), &[("chrA", bases(1_000_000, 3))]);
    assert!(locus("prepare", &recipe, &out).output().unwrap().status.success());
    let packed = fs::read(out.join("genome.packed")).unwrap();
    fs::write(out.join("genome.packed"), &packed[..packed.len() / 2]).unwrap();
    let cut = error(&locus("pretrain", &recipe, &out).output().unwrap());
    assert!(cut.contains("genome.packed is not what it left") && cut.contains("locus prepare"), "{cut}");
}

/// Most memory of its own, in bytes, of a command that is watched until it ends: not pages of files, which the system
/// keeps as it likes.
fn peak(mut command: std::process::Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = peak.max(kib << 10);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_grow_with_the_genome() {
    if !Path::new("/proc/self/status").is_file() {
        println!("skipped: peak memory is read from /proc, which is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), 20, "", "");
    let mut peaks = Vec::new();
    for (name, bases_each) in [("small", 500_000), ("large", 30_000_000)] {
        write_fasta(
            &folder.path().join("g.fa"),
            &[("chrA", bases(bases_each, 5)), ("chrB", bases(bases_each, 6))],
        );
        // A step's array of 32 MiB is seen in one run of several, with either genome: what grows is seen in each.
        let runs: Vec<[u64; 2]> = (0..3)
            .map(|n| {
                let out = folder.path().join(format!("{name}-{n}"));
                ["prepare", "pretrain"].map(|command| peak(locus(command, &recipe, &out)))
            })
            .collect();
        println!("{name}: peak bytes of prepare and pretrain {runs:?}");
        peaks.push([0, 1].map(|command| runs.iter().map(|run| run[command]).min().unwrap()));
    }
    // 59 Mb more bases: whole in memory they were 59 MB more, twice that while they are read. The seeds of held-out
    // stretches are allowed.
    for (small, large) in peaks[0].iter().zip(&peaks[1]) {
        assert!(large.saturating_sub(*small) < 32 << 20, "{peaks:?}");
    }
}

#[test]
fn the_shipped_recipe_names_files_that_are_there() {
    let Some(data) = locus_tests::data("the files of recipes/pretraining.toml") else { return };
    let recipe = locus_host::recipe::LanguageRecipe::read(&root().join("recipes/pretraining.toml")).unwrap();
    let plan = &recipe.data;
    for path in plan.fasta.iter().map(|f| &f.path).chain(&plan.variants) {
        assert!(data.join(path).is_file(), "{}", path.display());
    }
}
