//! `prune.html`: what each step costs and gains.

use super::{Kind, Report, Scope, Step};
use crate::{
    Result,
    report::{Axis, Layer, Page, Picture, Plot, Table},
};

/// The page of a report.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page(name: &str, report: &Report) -> Result<Page> {
    let mut page = Page::new(&format!("Pruning of {name}"));
    let mut budget = format!("{} AUROC", report.budget.auroc);
    if let Some(missense) = report.budget.missense_auroc {
        budget += &format!(", {missense} on missense variants");
    }
    page.section("Kept").facts([
        ("step", report.kept.clone()),
        ("budget on val_select", budget),
        ("records that importance was summed over", report.records.to_string()),
        ("records of val_select", report.validation[0].to_string()),
        ("records of validation", report.validation[1].to_string()),
        (
            "latency",
            format!(
                "{}, one thread, one variant of {} tokens, {} answers of each graph in turn",
                report.provider, report.timed[0], report.timed[1]
            ),
        ),
    ]);
    let Some(unpruned) = report.steps.first() else { return Ok(page) };
    page.section("Steps").table(&quality(report, unpruned)).table(&size(report));
    page.text(
        "Every step was chosen and is compared on val_select; the columns of all validation show the same models on records that half of them were chosen by. \
         Ratios are medians over rounds in which every graph ran once, with quartiles in brackets.",
    );
    page.text(
        "Weights that are zero are still multiplied: dense kernels take as long, and the file is as long. Only a compressed file \
         gets smaller. So steps that set weights to zero are shown, and never kept.",
    );
    page.section("Pictures");
    let [speed, layers] = [cost(report, unpruned)?, layers(report)?];
    page.pictures(&[(&speed, "What is lost for which latency"), (&layers, "What is left of each layer")]);
    Ok(page)
}

fn kind(step: &Step) -> String {
    match step.kind {
        Kind::Unpruned => "none".into(),
        Kind::Structured(shares) => {
            format!("{} % of heads, {} % of columns", percent(shares.heads), percent(shares.ffn))
        }
        Kind::Magnitude { share, scope } => {
            let scope = if scope == Scope::Global { "all matrices" } else { "each matrix" };
            format!("{} % of weights, the smallest of {scope}", percent(share))
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}", 100.0 * share)
}

fn quality(report: &Report, unpruned: &Step) -> Table {
    let columns = [
        "step",
        "taken out",
        "AUROC",
        "loss",
        "before training",
        "missense AUROC",
        "AUROC, all validation",
        "missense, all validation",
        "latency, µs",
        "ratio",
    ];
    let mut table = Table::new("Quality on val_select, and latency", &columns);
    let number = |v: Option<f64>| v.map_or_else(|| "none".into(), |v| format!("{v:.4}"));
    for s in &report.steps {
        let kept = if s.name == report.kept { " (kept)" } else { "" };
        table.row([
            format!("{}{kept}", s.name),
            kind(s),
            number(Some(s.val_select.auroc)),
            number(Some(s.loss(unpruned)[0])),
            number(s.untuned.map(|f| f.auroc)),
            number(s.val_select.missense_auroc),
            number(Some(s.validation.auroc)),
            number(s.validation.missense_auroc),
            format!("{:.0}", s.latency.median),
            format!("{:.3} ({:.3}–{:.3})", s.ratio.median, s.ratio.low, s.ratio.high),
        ]);
    }
    table
}

fn size(report: &Report) -> Table {
    let columns = [
        "step",
        "heads a layer",
        "columns a layer",
        "parameters",
        "not zero",
        "graph, bytes",
        "deflated, bytes",
    ];
    let mut table = Table::new("Size", &columns);
    for s in &report.steps {
        let list = |of: &dyn Fn(usize) -> usize| {
            (0..s.layers.len()).map(|n| of(n).to_string()).collect::<Vec<_>>().join(" · ")
        };
        table.row([
            s.name.clone(),
            list(&|n| s.layers[n].heads),
            list(&|n| s.layers[n].ffn),
            s.parameters[0].to_string(),
            s.parameters[1].to_string(),
            s.bytes[0].to_string(),
            s.bytes[1].to_string(),
        ]);
    }
    table
}

/// AUROC that is lost over the latency that is left.
fn cost(report: &Report, unpruned: &Step) -> Result<Picture> {
    let points = |structured: bool| -> Vec<(f64, f64)> {
        let of = |s: &&Step| structured != matches!(s.kind, Kind::Magnitude { .. });
        report.steps.iter().filter(of).map(|s| (s.ratio.median, s.loss(unpruned)[0])).collect()
    };
    let budget = report.budget.auroc;
    let losses = report.steps.iter().map(|s| s.loss(unpruned)[0]).chain([0.0, budget]);
    let said: Vec<String> = report
        .steps
        .iter()
        .map(|s| format!("{} {:.2} of the latency, {:.4} lost", s.name, s.ratio.median, s.loss(unpruned)[0]))
        .collect();
    let x = Axis::numbers("latency, of the unpruned graph's", 0.0, 1.2);
    Plot::new("Latency and loss", &said.join("; "), x, Axis::around("AUROC lost on val_select", losses))
        .with(Layer::Guide("budget".into(), vec![(0.0, budget), (1.2, budget)]))
        .with(Layer::Line("heads and columns".into(), points(true)))
        .with(Layer::Points("weights".into(), points(false)))
        .draw()
}

/// Columns of each layer over the steps.
fn layers(report: &Report) -> Result<Picture> {
    let steps: Vec<&Step> =
        report.steps.iter().filter(|s| !matches!(s.kind, Kind::Magnitude { .. })).collect();
    let count = steps.first().map_or(0, |s| s.layers.len());
    let widest = steps.iter().flat_map(|s| s.layers.iter().map(|l| l.ffn)).max().unwrap_or(1);
    let x = Axis::names("step", (0..steps.len()).map(|n| n.to_string()).collect());
    let y = Axis::numbers("columns", 0.0, 1.08 * widest as f64);
    let alt = format!("Feed-forward columns of {count} layers after each of {} steps", steps.len());
    let plot = Plot::new("Columns left", &alt, x, y);
    let line = |n: usize| {
        let at = |(i, s): (usize, &&Step)| (i as f64 + 0.5, s.layers[n].ffn as f64);
        Layer::Line(format!("layer {n}"), steps.iter().enumerate().map(at).collect())
    };
    (0..count).map(line).fold(plot, Plot::with).draw()
}
