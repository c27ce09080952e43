//! The shipped variant-effect recipe over several seeds, without pretraining and with it, beside the baselines; and the
//! shipped bundle, calibration and explanation among it.

mod shipped;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use locus_host::{
    Recipe,
    evaluate::{Estimate, ModeReport},
};
use locus_tests::{program, root};

use crate::figures::{Figure, Machine, Results};

pub(crate) use shipped::ShippedArguments;

const RECIPE: &str = "recipes/variant-effect.toml";
/// Steps of pretraining that the recipe is compared with and without.
const PRETRAINING: u64 = 200;
/// Name of the baseline in a report.
const BASELINE: &str = "gradient_boosting";

#[derive(Debug, clap::Args)]
pub(crate) struct VariantsArguments {
    /// Seeds 1 to this
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Of these, the first so many are trained for the ablation of pretraining too [default: all]
    #[arg(long)]
    ablated: Option<u64>,
    /// Look at the test split too; each look is counted
    #[arg(long)]
    test: bool,
    /// File to write
    #[arg(long, default_value = "bench/results/variant-effect-seeds.json")]
    out: PathBuf,
}

impl VariantsArguments {
    pub(crate) fn run(&self) -> Result<()> {
        run(self.seeds, self.ablated.unwrap_or(self.seeds).min(self.seeds), self.test, &self.out)
    }
}

/// Files of the panel, as arguments of `locus evaluate`.
fn panel() -> Vec<String> {
    let data = std::env::var_os("LOCUS_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    [("--fasta", "panel.GRCh38.fa.gz"), ("--gff", "panel.GRCh38.gff3.gz"), ("--vcf", "clinvar.GRCh38.vcf.gz")]
        .into_iter()
        .flat_map(|(flag, name)| [flag.to_owned(), data.join("panel").join(name).display().to_string()])
        .collect()
}

type Modes = BTreeMap<String, ModeReport>;

/// The report that `locus evaluate` writes, made where it is not there.
fn evaluated(model: [&str; 2], split: &str, json: &Path, more: &[&str]) -> Result<Modes> {
    if !json.is_file() {
        let mut command = program("locus");
        command
            .args(["evaluate", "--split", split])
            .args(model)
            .args(panel())
            .arg("--json")
            .arg(json)
            .args(more);
        if split == "test" {
            // All looks at one test split stand in one list, whatever model looked.
            command.arg("--reads").arg(root().join("models/test-reads.jsonl"));
        }
        ensure!(command.status()?.success(), "locus evaluate {} --split {split} failed", model.join(" "));
    }
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(json)?)?;
    Ok(serde_json::from_value(report["modes"].clone())?)
}

/// One training: its folder, trained where it is not.
fn trained(recipe: &Recipe, seed: u64, pretrained: bool) -> Result<PathBuf> {
    let name = if pretrained { "pretrained" } else { "plain" };
    let run = root().join(format!("runs/variants/{name}-{seed}"));
    fs::create_dir_all(&run)?;
    let mut plan = recipe.clone();
    plan.seed = seed;
    plan.pretrain.steps = if pretrained { PRETRAINING } else { 0 };
    let path = run.join("plan.toml");
    fs::write(&path, toml::to_string(&plan)?)?;
    for stage in ["prepare", "pretrain", "finetune", "calibrate"] {
        let done = program("locus").arg(stage).arg(&path).arg("--out").arg(&run).status()?;
        ensure!(done.success(), "locus {stage} failed on {}", path.display());
    }
    Ok(run)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Each value, in the order of the seeds.
fn each(values: &[f64], seeds: u64) -> String {
    let values: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
    format!("seeds 1 to {seeds}: {}", values.join(", "))
}

fn run(seeds: u64, ablated: u64, test: bool, out: &Path) -> Result<()> {
    let recipe = Recipe::read(&root().join(RECIPE))?;
    let shipped = recipe.pretrain.steps > 0;
    let machine = Machine::this();
    let date = time::OffsetDateTime::now_utc().date().to_string();
    let mut command = "cargo run -p locus-bench -- variants".to_owned();
    if ablated < seeds {
        command += &format!(" --ablated {ablated}");
    }
    if test {
        command += " --test";
    }
    let figure = |name: String, value: f64, spread: String, beside: Option<String>| Figure {
        name,
        value,
        unit: "",
        spread,
        command: command.clone(),
        seed: Some(seeds),
        date: date.clone(),
        machine: machine.clone(),
        beside,
    };
    let splits: &[&str] = if test { &["val", "test"] } else { &["val"] };
    let mut figures = Vec::new();
    let mut of: BTreeMap<(&str, bool), Vec<Modes>> = BTreeMap::new();
    for pretrained in [true, false] {
        for seed in 1..=if pretrained == shipped { seeds } else { ablated } {
            let run = trained(&recipe, seed, pretrained)?;
            for &split in splits {
                // What pretraining adds is asked of validation alone.
                if split == "test" && pretrained != shipped {
                    continue;
                }
                let json = run.join(format!("{split}.json"));
                let model = ["--run", run.to_str().context("a folder in UTF-8")?];
                of.entry((split, pretrained)).or_default().push(evaluated(model, split, &json, &[])?);
            }
        }
    }
    let auroc = |modes: &[Modes], mode: &str, missense: bool| -> Result<Vec<f64>> {
        let value = |m: &Modes| {
            let group = if missense { &m.get(mode)?.missense } else { &m.get(mode)?.overall };
            Some(group.figures.get("auroc")?.value)
        };
        modes.iter().map(|m| value(m).with_context(|| format!("AUROC of {mode}"))).collect()
    };
    for &split in splits {
        let all = &of[&(split, shipped)];
        for mode in ["transcript", "sequence_only"] {
            for missense in [false, true] {
                let group = if missense { "missense" } else { "overall" };
                let values = auroc(all, mode, missense)?;
                let beside = bar(split, mode, missense).map(str::to_owned);
                let name = format!("auroc {group}, {mode}, {split}, mean of {seeds} seeds");
                figures.push(figure(name, mean(&values), each(&values, seeds), beside));
            }
            let values: Vec<f64> =
                all.iter().filter_map(|m| m.get(mode).and_then(|m| m.gene_macro_auroc)).collect();
            let name = format!("auroc, mean of genes, {mode}, {split}, mean of {seeds} seeds");
            figures.push(figure(name, mean(&values), each(&values, seeds), None));
        }
        for missense in [false, true] {
            let group = if missense { "missense" } else { "overall" };
            let difference = |m: &Modes| -> Option<Estimate> {
                let mode = m.get("transcript")?;
                let group = if missense { &mode.missense } else { &mode.overall };
                group.above_floor.get(BASELINE).copied()
            };
            let differences: Vec<Estimate> = all.iter().filter_map(difference).collect();
            let intervals: Vec<String> = differences
                .iter()
                .map(|e| format!("{:.4} to {:.4}", e.low.unwrap_or(f64::NAN), e.high.unwrap_or(f64::NAN)))
                .collect();
            let values: Vec<f64> = differences.iter().map(|e| e.value).collect();
            figures.push(figure(
                format!("auroc {group} less gradient boosting's, {split}, mean of {seeds} seeds"),
                mean(&values),
                format!("95 %, genes resampled: {}", intervals.join("; ")),
                (split == "val").then(|| "bar: lower bound above 0".to_owned()),
            ));
        }
    }
    let (with, without) = (&of[&("val", true)], &of[&("val", false)]);
    for (mode, missense) in [("transcript", false), ("transcript", true), ("sequence_only", false)] {
        let group = if missense { "missense" } else { "overall" };
        let (a, b) = (auroc(with, mode, missense)?, auroc(without, mode, missense)?);
        let gain: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        figures.push(figure(
            format!("what {PRETRAINING} steps of pretraining add to auroc {group}, {mode}, val"),
            mean(&gain),
            each(&gain, ablated),
            Some(format!("without: {}", each(&b, ablated))),
        ));
    }
    let about = format!(
        "{RECIPE} with the seeds 1 to {seeds}, without pretraining and with {PRETRAINING} steps of it; the checkpoint of each is the best on one half of validation (val_select)."
    );
    Results { title: "Variant effect over seeds", about, figures }.write(out)
}

fn bar(split: &str, mode: &str, missense: bool) -> Option<&'static str> {
    match (split, mode, missense) {
        ("test", "transcript", false) => Some("bar 0.974; gradient boosting 0.963; plain prototype 0.971"),
        ("test", "transcript", true) => Some("bar 0.81; gradient boosting 0.744; plain prototype 0.802"),
        ("val", "transcript", false) => Some("bar 0.985; gradient boosting 0.984; plain prototype 0.982"),
        ("val", "transcript", true) => Some("bar 0.81; gradient boosting 0.809; plain prototype 0.786"),
        _ => None,
    }
}
