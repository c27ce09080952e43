//! Bits per base of the shipped pretraining recipe beside models that count, and the memory that a genome of
//! 3,000,000,000 bases takes.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use locus_host::{evaluate::Estimate, language::bits::Report, recipe::LanguageRecipe};
use locus_tests::{program, root};

use crate::figures::{Figure, Machine, Results};

const RECIPE: &str = "recipes/pretraining.toml";
const CHROMOSOMES: u64 = 24;

pub(crate) fn run(bases: u64, out: &Path) -> Result<()> {
    let run = root().join("runs/pretraining");
    let recipe = LanguageRecipe::read(&root().join(RECIPE))?;
    let trained = program("locus").arg("run").arg(root().join(RECIPE)).arg("--out").arg(&run).status()?;
    ensure!(trained.success(), "locus run {RECIPE} failed");
    let text = fs::read_to_string(run.join("bits_per_base.json")).context("bits_per_base.json")?;
    let report: Report = serde_json::from_str(&text)?;
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("pretrain.stage.json"))?)?;
    let (date, machine) = (time::OffsetDateTime::now_utc().date().to_string(), Machine::this());
    let figure = |name: &str, value: f64, unit, spread: String, beside: Option<String>| Figure {
        name: name.to_owned(),
        value,
        unit,
        spread,
        command: format!("locus run {RECIPE}"),
        seed: Some(recipe.seed),
        date: date.clone(),
        machine: machine.clone(),
        beside,
    };
    let bits = |name: &str, e: &Estimate, beside: Option<String>| {
        let interval = e.low.zip(e.high).map_or("no interval".to_owned(), |(low, high)| {
            format!("{low:.4} to {high:.4} (95 %, {} stretches resampled)", report.stretches)
        });
        figure(name, e.value, "bits", interval, beside)
    };
    let beside = format!("bar: below the order-5 Markov model, {:.4}", report.markov[5].value);
    let mut figures = vec![
        bits("bits per base, model, both sides", &report.model, Some(beside)),
        bits("bits per base, model, left side alone", &report.model_left, None),
    ];
    for (n, e) in report.markov.iter().enumerate() {
        figures.push(bits(&format!("bits per base, Markov model of order {n}"), e, None));
    }
    for (n, e) in report.between.iter().enumerate().skip(1) {
        figures.push(bits(&format!("bits per base, counts with {n} bases on either side"), e, None));
    }
    for (name, e) in [
        ("model less Markov model of order 5, base by base", &report.model_less_markov),
        ("model less counts with 5 bases on either side, base by base", &report.model_less_between),
        ("model, left side alone, less Markov model of order 5", &report.model_left_less_markov),
    ] {
        figures.push(bits(name, e, Some("below 0: the model is better".into())));
    }
    let seconds = record["figures"]["seconds"].as_f64().context("seconds of the stage")?;
    figures.push(figure("training time", seconds / 60.0, "min", "one run".into(), None));
    for (command, peak) in memory(&recipe, bases)? {
        figures.push(Figure {
            command: "cargo run -p locus-bench -- pretraining".into(),
            ..figure(
                &format!("peak memory of locus {command}, {bases} bases"),
                peak as f64 / f64::from(1 << 20),
                "MiB",
                "one run; mapped pages counted".into(),
                Some("bar 4096 MiB for a genome of 3 GB".into()),
            )
        });
    }
    let about = format!(
        "A base of a held-out gene's region is hidden and guessed: {} bases that no checkpoint was chosen by, in regions of validation genes, none of them trained on under any name. Model and counts saw the same {} bases, on both strands. The masked model reads both sides of the base, a Markov model the left one: the counts with bases on either side are the control for that, and the model with the base at the end of its row reads the left side alone.",
        report.bases, report.train_bases
    );
    Results { title: "Pretraining", about, figures }.write(out)
}

/// Peak resident memory in bytes of preparing and of a few steps of training on a genome of random bases.
fn memory(recipe: &LanguageRecipe, bases: u64) -> Result<Vec<(&'static str, u64)>> {
    let folder = tempfile::tempdir()?;
    let mut file = BufWriter::new(File::create(folder.path().join("g.fa"))?);
    let mut state = 1u64;
    for n in 0..CHROMOSOMES {
        writeln!(file, ">chr{}", n + 1)?;
        for _ in 0..bases / CHROMOSOMES / 96 {
            let mut line = [b'\n'; 97];
            for word in line[..96].chunks_exact_mut(32) {
                // xorshift64 (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                for (i, base) in word.iter_mut().enumerate() {
                    *base = b"ACGT"[(state >> (2 * i)) as usize % 4];
                }
            }
            file.write_all(&line)?;
        }
    }
    file.flush()?;
    let mut plan = recipe.clone();
    plan.data.root = folder.path().to_owned();
    plan.data.fasta.truncate(1);
    plan.data.fasta[0].path = "g.fa".into();
    plan.data.fasta[0].keep = None;
    plan.data.variants = None;
    plan.data.held_out_share = 0.01;
    plan.data.held_out_bases = 1_000;
    plan.pretrain.steps = 20;
    plan.pretrain.train.warmup = 1;
    let path = folder.path().join("recipe.toml");
    fs::write(&path, toml::to_string(&plan)?)?;
    let out = folder.path().join("run");
    ["prepare", "pretrain"].into_iter().map(|command| Ok((command, peak(command, &path, &out)?))).collect()
}

fn peak(command: &str, recipe: &Path, out: &Path) -> Result<u64> {
    let mut child = program("locus")
        .arg(command)
        .arg(recipe)
        .arg("--out")
        .arg(out)
        .env_remove("LOCUS_DATA")
        .stdout(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = peak.max(kib << 10);
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(child.wait()?.success(), "locus {command} failed on {}", recipe.display());
    Ok(peak)
}
