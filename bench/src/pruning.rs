//! What each step of `recipes/variant-effect-pruned.toml` takes out, costs and gains, from the report that it leaves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use locus_tests::{program, root};
use serde_json::Value;

use crate::figures::{Figure, Machine, Results};

const RECIPE: &str = "recipes/variant-effect-pruned.toml";

#[derive(Debug, clap::Args)]
pub(crate) struct PruningArguments {
    /// Output folder
    #[arg(long, default_value = "runs/variant-effect-pruned")]
    run: PathBuf,
    /// File to write
    #[arg(long, default_value = "bench/results/pruning.json")]
    out: PathBuf,
}

impl PruningArguments {
    pub(crate) fn run(&self) -> Result<()> {
        run(&self.run, &self.out)
    }
}

/// Prunes where `run` has no report yet, and writes its figures to `out`.
fn run(run: &Path, out: &Path) -> Result<()> {
    let report = run.join("prune.json");
    if !report.exists() {
        let mut command = program("locus");
        let status = command.current_dir(root()).args(["prune", RECIPE, "--out"]).arg(run).status()?;
        ensure!(status.success(), "{command:?} failed");
    }
    let report: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let steps = report["steps"].as_array().context("steps")?;
    let number = |value: &Value| value.as_f64().context("a number");
    let (machine, date) = (Machine::this(), time::OffsetDateTime::now_utc().date().to_string());
    let mut figures = Vec::new();
    for step in steps {
        let name = what(step, &report["kept"]);
        let (auroc, missense) = (&step["validation"]["auroc"], &step["validation"]["missense_auroc"]);
        let deflated = number(&step["bytes"][1])? / 1e6;
        let ratio = &step["ratio"];
        let quartiles = format!("quartiles {:.3} to {:.3}", number(&ratio["low"])?, number(&ratio["high"])?);
        let select = format!("{:.4} on val_select", number(&step["val_select"]["auroc"])?);
        let of_missense = format!("{:.4} on val_select", number(&step["val_select"]["missense_auroc"])?);
        let kept = format!("{} of {} numbers not 0", step["parameters"][1], step["parameters"][0]);
        for (what, value, unit, spread, beside) in [
            ("AUROC, validation", number(auroc)?, "", select, "bar: 0.005 less at most"),
            ("missense AUROC, validation", number(missense)?, "", of_missense, ""),
            ("FP32 graph", number(&step["bytes"][0])? / 1e6, "MB", format!("{deflated:.2} deflated"), ""),
            ("numbers", number(&step["parameters"][1])?, "", kept, ""),
            (
                "time against unpruned, FP32, batch 1, 1 thread",
                number(&ratio["median"])?,
                "",
                quartiles,
                "bar 0.5",
            ),
        ] {
            figures.push(Figure {
                name: format!("{what}, {name}"),
                value,
                unit,
                spread,
                command: "cargo run -p locus-bench -- pruning".into(),
                seed: None,
                date: date.clone(),
                machine: machine.clone(),
                beside: (!beside.is_empty()).then(|| beside.to_owned()),
            });
        }
    }
    let about = format!(
        "Heads and feed-forward columns of the shipped variant-effect model taken out by importance, one after the other, each step trained for \
         an epoch beside the shipped model ({RECIPE}); weights by magnitude for comparison: zeros do not make dense kernels faster. Chosen on \
         val_select: the fastest within 0.005 AUROC and 0.01 missense AUROC."
    );
    Results { title: "Pruning", about, figures }.write(out)
}

/// What a step took out, in words.
fn what(step: &Value, kept: &Value) -> String {
    let percent = |value: &Value| format!("{} %", 100.0 * value.as_f64().unwrap_or(f64::NAN));
    let kind = &step["kind"];
    let text = if let Some(structured) = kind.get("structured") {
        format!("{} of heads, {} of columns", percent(&structured["heads"]), percent(&structured["ffn"]))
    } else if let Some(magnitude) = kind.get("magnitude") {
        format!("{} of weights by magnitude", percent(&magnitude["share"]))
    } else {
        "unpruned".to_owned()
    };
    if step["name"] == *kept { format!("{text} (kept)") } else { text }
}
