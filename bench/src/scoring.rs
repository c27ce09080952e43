//! `locus score` beside the bare engine: variants a second of a whole run, and of one that goes on.

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use locus_engine::{Bundle, LoadOptions, Precision, Scorer, Trust};
use locus_genome::{EncodedVariant, ReferencePack, vcf};
use locus_tests::{data, onnxruntime, program, root};

use crate::{
    figures::{Results, Run},
    quantisation::records,
    sample::summary,
};

/// The test split is small: it is scored so many times over where the steady rate is asked for.
const TIMES_OVER: usize = 4;
const BATCHES: [usize; 6] = [1, 4, 8, 16, 24, 32];

#[derive(Debug, clap::Args)]
pub(crate) struct ScoringArguments {
    /// Rounds in which all run, one after the other
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Length of a run of the bare engine at each size of batch, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// File to write
    #[arg(long, default_value = "bench/results/scoring.json")]
    out: PathBuf,
}

/// The same records so many times over.
fn repeated(from: &Path, times: usize, to: &Path) -> Result<usize> {
    let text = fs::read_to_string(from)?;
    let (header, records): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    let all: Vec<&str> = header.into_iter().chain((0..times).flat_map(|_| records.iter().copied())).collect();
    fs::write(to, all.join("\n") + "\n")?;
    Ok(records.len() * times)
}

/// Seconds of a whole run.
fn scored(panel: &Path, records: &Path, folder: &Path) -> Result<f64> {
    let mut command = program("locus");
    command.args(["score", "--precision", "int8", "--bundle", "models/variant-effect.locus"]);
    command.current_dir(root()).arg("--fasta").arg(panel.join("panel.GRCh38.fa.gz"));
    command.arg("--gff").arg(panel.join("panel.GRCh38.gff3.gz")).arg("--vcf").arg(records);
    command.arg("--out").arg(folder.join("out.tsv"));
    let started = Instant::now();
    let output = command.output()?;
    let took = started.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// One for each core, as `locus score` has them.
fn scorers() -> Result<Vec<Scorer>> {
    let bundle = Bundle::open(root().join("models/variant-effect.locus"), &Trust::AllowUnsigned)?;
    let options = LoadOptions {
        precision: Precision::Int8,
        onnxruntime: onnxruntime(),
        intra_threads: 1,
        ..LoadOptions::default()
    };
    let profile = crate::bare::unbounded()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (0..cores).map(|_| Ok(Scorer::open(&bundle, &profile, &options)?)).collect()
}

fn encoded(scorer: &Scorer, panel: &Path, records: &Path) -> Result<Vec<EncodedVariant>> {
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let reference = ReferencePack::open(&fasta, &gff)?;
    let mut all = Vec::new();
    for row in vcf::Reader::open(records)? {
        let row = row?;
        let variant = row.variant.as_ref().ok().context("a record that cannot be read")?;
        all.extend(scorer.encoder().encode_reference(&reference, variant, None).ok());
    }
    Ok(all)
}

/// Variants a second of the engines, each in batches of one size over its share of the same variants.
fn bare(scorers: &mut [Scorer], variants: &[EncodedVariant], batch: usize, seconds: f64) -> Result<f64> {
    let share = variants.len().div_ceil(scorers.len());
    let one = |scorer: &mut Scorer, own: &[EncodedVariant]| {
        let (mut done, began) = (0, Instant::now());
        for rows in own.chunks_exact(batch).cycle() {
            done += scorer.score(rows)?.len();
            if began.elapsed() > Duration::from_secs_f64(seconds) {
                break;
            }
        }
        anyhow::Ok(done as f64 / began.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let shares = scorers.iter_mut().zip(variants.chunks(share));
        let running: Vec<_> = shares.map(|(scorer, own)| scope.spawn(move || one(scorer, own))).collect();
        let rates = running.into_iter().map(|one| one.join().unwrap_or_else(|defect| resume_unwind(defect)));
        rates.sum()
    })
}

impl ScoringArguments {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.repeats > 0, "got no rounds, expected 1 or more");
        let panel = data("scoring of the test split").context("the real data are not there")?.join("panel");
        let folder = tempfile::tempdir()?;
        let once = records("test", folder.path(), usize::MAX)?;
        let several = folder.path().join("several.vcf");
        let (count, all) = (
            repeated(&once, 1, &folder.path().join("once.vcf"))?,
            repeated(&once, 1 + TIMES_OVER, &several)?,
        );
        let mut scorers = scorers()?;
        let variants = encoded(&scorers[0], &panel, &once)?;
        let (mut whole, mut steady, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut engine: Vec<Vec<f64>> = vec![Vec::new(); BATCHES.len()];
        for round in 1..=self.repeats {
            let short = scored(&panel, &once, folder.path())?;
            let long = scored(&panel, &several, folder.path())?;
            whole.push(count as f64 / short);
            steady.push((all - count) as f64 / (long - short));
            for (rates, batch) in engine.iter_mut().zip(BATCHES) {
                rates.push(bare(&mut scorers, &variants, batch, self.seconds)?);
            }
            let best = engine.iter().map(|rates| rates[round - 1]).fold(0.0, f64::max);
            ratios.push(steady[round - 1] / best);
            println!(
                "whole {:.0}/s, steady {:.0}/s, engine {best:.0}/s",
                whole[round - 1],
                steady[round - 1]
            );
        }
        let run = Run::of(&format!("scoring --repeats {} --seconds {}", self.repeats, self.seconds));
        let rounds = self.repeats;
        let figure = |name: String, values: &[f64], unit, digits: usize, beside: &str| {
            let (median, least, most) = summary(values.to_vec());
            let spread = format!("{least:.digits$} to {most:.digits$} in {rounds} rounds");
            let beside = (!beside.is_empty()).then(|| beside.to_owned());
            run.figure(name, median, unit, spread, beside)
        };
        let mut figures = vec![
            figure(format!("locus score, whole run of {count} variants"), &whole, "variants/s", 0, "bar 200"),
            figure("locus score, going on".into(), &steady, "variants/s", 0, "bar 200"),
        ];
        for (rates, batch) in engine.iter().zip(BATCHES) {
            figures.push(figure(format!("bare engine, batches of {batch}"), rates, "variants/s", 0, ""));
        }
        let name = "locus score, going on / bare engine at its best batch";
        figures.push(figure(name.into(), &ratios, "", 3, "bar 0.90"));
        let about = format!(
            "The test split's VCF with the shipped model in INT8, on all cores; no label is read. A whole run holds the start \
             of the program, the model, reading {:.0} MB of FASTA and GFF3, and the table that is written. Going on: what {TIMES_OVER} more times the same \
             records take beyond the first. The bare engine, one on each core, is given the same variants, encoded beforehand, in this process.",
            megabytes(&panel)
        );
        Results { title: "Scoring", about, figures }.write(&self.out)
    }
}

fn megabytes(panel: &Path) -> f64 {
    let sizes = ["panel.GRCh38.fa.gz", "panel.GRCh38.gff3.gz"].map(|name| fs::metadata(panel.join(name)));
    sizes.into_iter().flatten().map(|file| file.len() as f64).sum::<f64>() / 1e6
}
