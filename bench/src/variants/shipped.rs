//! The shipped bundle: its figures per input mode and precision, and what its probabilities and bands are worth.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use locus_host::evaluate::{Estimate, ModeReport};
use locus_tests::root;

use super::{Modes, bar, evaluated};
use crate::figures::{Figure, Machine, Results};

const BUNDLE: &str = "models/variant-effect.locus";
const NAMES: [&str; 5] = ["auroc", "aupr", "mcc", "sensitivity", "specificity"];

#[derive(Debug, clap::Args)]
pub(crate) struct ShippedArguments {
    /// Output folder of the run that made it
    #[arg(long, default_value = "runs/variant-effect")]
    run: PathBuf,
    /// Look at the test split too; each look is counted
    #[arg(long)]
    test: bool,
    /// Folder to write to
    #[arg(long, default_value = "bench/results")]
    out: PathBuf,
}

impl ShippedArguments {
    pub(crate) fn run(&self) -> Result<()> {
        run(&self.run, self.test, &self.out)
    }
}

struct Figures {
    machine: Machine,
    date: String,
    all: Vec<Figure>,
}

impl Figures {
    fn new() -> Self {
        let date = time::OffsetDateTime::now_utc().date().to_string();
        Self { machine: Machine::this(), date, all: Vec::new() }
    }

    fn add(
        &mut self,
        name: String,
        value: f64,
        unit: &'static str,
        spread: &str,
        split: &str,
        precision: &str,
    ) {
        let panel = "--fasta $LOCUS_DATA/panel/panel.GRCh38.fa.gz --gff $LOCUS_DATA/panel/panel.GRCh38.gff3.gz --vcf $LOCUS_DATA/panel/clinvar.GRCh38.vcf.gz";
        self.all.push(Figure {
            name,
            value,
            unit,
            spread: spread.into(),
            command: format!(
                "locus evaluate --bundle {BUNDLE} {panel} --split {split} --precision {precision}"
            ),
            seed: Some(1),
            date: self.date.clone(),
            machine: self.machine.clone(),
            beside: None,
        });
    }

    fn estimate(&mut self, name: String, e: &Estimate, split: &str, precision: &str) {
        let spread = e.low.zip(e.high).map_or("no interval".to_owned(), |(low, high)| {
            format!("{low:.3} to {high:.3} (95 %, genes resampled)")
        });
        self.add(name, e.value, "", &spread, split, precision);
    }

    fn beside(&mut self, text: impl Into<String>) {
        if let Some(last) = self.all.last_mut() {
            last.beside = Some(text.into());
        }
    }
}

/// Writes `variant-effect.json` and `calibration.json` into `folder`; `run` holds the stages that made the bundle.
fn run(run: &Path, test: bool, folder: &Path) -> Result<()> {
    let scratch = run.join("bench");
    fs::create_dir_all(&scratch)?;
    let mut reports: BTreeMap<(&str, &str), Modes> = BTreeMap::new();
    let splits: &[&str] = if test { &["val", "test"] } else { &["val"] };
    for &split in splits {
        for precision in ["fp32", "int8"] {
            let json = scratch.join(format!("{split}-{precision}.json"));
            let modes = evaluated(["--bundle", BUNDLE], split, &json, &["--precision", precision])?;
            reports.insert((split, precision), modes);
        }
    }
    let mut figures = Figures::new();
    for (&(split, precision), modes) in &reports {
        for (mode, report) in modes {
            describe(&mut figures, report, (split, precision, mode));
        }
    }
    made(&mut figures, run)?;
    let about = "The bundle in models/, by split, precision and input mode, and what its making cost.".into();
    Results { title: "Variant-effect model", about, figures: figures.all }
        .write(&folder.join("variant-effect.json"))?;

    let mut figures = Figures::new();
    for (&(split, precision), modes) in &reports {
        let (Some(report), "fp32") = (modes.get("transcript"), precision) else { continue };
        calibration(&mut figures, report, split)?;
    }
    let about = "The bundle in models/, input mode transcript, FP32.".into();
    Results { title: "Calibration", about, figures: figures.all }.write(&folder.join("calibration.json"))
}

fn describe(figures: &mut Figures, report: &ModeReport, (split, precision, mode): (&str, &str, &str)) {
    for (group, of) in [("overall", &report.overall), ("missense", &report.missense)] {
        for name in NAMES {
            let Some(e) = of.figures.get(name) else { continue };
            figures.estimate(format!("{name} {group}, {mode}, {split}, {precision}"), e, split, precision);
            if let (Some(bar), "auroc") = (bar(split, mode, group == "missense"), name) {
                figures.beside(bar);
            }
        }
    }
    if let (Some(value), "fp32") = (report.gene_macro_auroc, precision) {
        let mut genes: Vec<(&String, &f64)> = report.by_gene.iter().collect();
        genes.sort_by(|a, b| a.1.total_cmp(b.1));
        let listed: Vec<String> = genes.iter().map(|(gene, v)| format!("{gene} {v:.3}")).collect();
        let name = format!("auroc, mean of {} genes, {mode}, {split}, {precision}", genes.len());
        figures.add(name, value, "", &listed.join(", "), split, precision);
    }
}

/// What the stages wrote down of the bundle's making.
fn made(figures: &mut Figures, run: &Path) -> Result<()> {
    let stage = |name: &str| -> Result<BTreeMap<String, f64>> {
        let text = fs::read_to_string(run.join(format!("{name}.stage.json")))
            .with_context(|| format!("stage {name} of {}", run.display()))?;
        Ok(serde_json::from_value(serde_json::from_str::<serde_json::Value>(&text)?["figures"].clone())?)
    };
    let command = "locus run recipes/variant-effect.toml".to_owned();
    let mut add = |name: String, value: f64, unit, beside: &str| {
        figures.add(name, value, unit, "one run", "", "");
        figures.beside(beside);
        if let Some(last) = figures.all.last_mut() {
            last.command.clone_from(&command);
        }
    };
    let seconds = ["pretrain", "finetune"]
        .into_iter()
        // A recipe without pretraining has none of its seconds.
        .map(|n| {
            Ok(stage(n)?.get("seconds").copied().unwrap_or(if n == "pretrain" { 0.0 } else { f64::NAN }))
        })
        .sum::<Result<f64>>()?;
    add("training time (pretraining and fine-tuning)".into(), seconds / 60.0, "min", "bar 90 min");
    let export: serde_json::Value = serde_json::from_str(&fs::read_to_string(run.join("export.json"))?)?;
    let parity: BTreeMap<String, f64> = serde_json::from_value(export["parity"].clone())?;
    for (windows, value) in parity {
        let (name, bar) = if windows == "int8_fp16" {
            (
                "largest logit difference, INT8 with FP16 (rounding in FP32) against INT8".into(),
                "at most 0.25",
            )
        } else {
            let what = "largest logit difference, ONNX Runtime FP32 against candle";
            (format!("{what}, {windows} windows"), "bar 1e-4")
        };
        add(name, value, "", bar);
    }
    let size = |path: &Path| {
        Ok::<_, anyhow::Error>(fs::metadata(path).with_context(|| path.display().to_string())?.len() as f64)
    };
    let ratio = 100.0 * size(&run.join("int8.onnx"))? / size(&run.join("fp32.onnx"))?;
    add("int8.onnx in bytes of fp32.onnx".into(), ratio, "%", "bar 32 %");
    add("bundle size".into(), size(&root().join(BUNDLE))?, "bytes", "bar 12 MB");
    Ok(())
}

fn calibration(figures: &mut Figures, report: &ModeReport, split: &str) -> Result<()> {
    let of = report.calibration.as_ref().context("a report with calibration")?;
    for (method, fit) in &of.cross_fitted {
        let spread = "none: one dealing of the genes into 10 parts";
        figures.add(
            format!("ECE cross-fitted over genes, {split}, {method}"),
            fit.ece,
            "",
            spread,
            split,
            "fp32",
        );
        figures
            .beside(format!("bar 0.03; equal mass {:.4}, log loss {:.4}", fit.ece_equal_mass, fit.log_loss));
    }
    let none = "none: nothing is drawn";
    let name = format!("ECE, {split}, as the probabilities are (prior {})", of.prior);
    figures.add(name, of.raw.ece, "", none, split, "fp32");
    if split == "val" {
        figures.beside("half of the records were fitted on");
    }
    let name = format!("ECE, {split}, at the records' own share of pathogenic");
    figures.add(name, of.at_share.ece, "", none, split, "fp32");
    if let Some(moved) = &of.reweighted {
        let name = format!("ECE, {split}, each consequence at the share of pathogenic of {}", moved.to);
        figures.add(name, moved.calibrated.ece, "", none, split, "fp32");
        figures.beside("bar 0.05");
    }
    for (group, of, bars) in
        [("", &report.overall, ["bar 0.80", "bar 0.95"]), (" of missense", &report.missense, ["", ""])]
    {
        for (name, words, bar) in [
            ("answered_share", "share answered", bars[0]),
            ("answered_accuracy", "accuracy of the answers", bars[1]),
        ] {
            let Some(e) = of.figures.get(name) else { continue };
            figures.estimate(format!("{words}{group}, {split}"), e, split, "fp32");
            if !bar.is_empty() {
                figures.beside(bar);
            }
        }
    }
    Ok(())
}
