//! Tables that page and model card share.

use super::super::{CalibrationReport, Estimate, Group, NAMES, SequenceReport};
use crate::report::Table;

/// Figures of groups side by side.
pub(in crate::evaluate) fn figure_table(caption: &str, groups: &[(&str, &Group)]) -> Table {
    let heads: Vec<&str> = ["figure"].into_iter().chain(groups.iter().map(|(n, _)| *n)).collect();
    let mut table = Table::new(caption, &heads);
    table.row(["records".to_owned()].into_iter().chain(
        groups.iter().map(|(_, g)| format!("{} ({} pathogenic, {} genes)", g.records, g.pathogenic, g.genes)),
    ));
    for figure in NAMES {
        let cells = groups.iter().map(|(_, g)| g.figures.get(figure).map_or_else(|| "–".into(), shown));
        table.row([figure.replace('_', " ")].into_iter().chain(cells));
    }
    table
}

/// Each baseline and what the model has above it.
pub(in crate::evaluate) fn floor_table(groups: &[(&str, &Group)]) -> Table {
    let mut table = Table::new(
        "AUROC of the baselines, and the model's above it on the same records",
        &["baseline", "records", "AUROC", "model above"],
    );
    for (name, g) in groups {
        for (floor, e) in &g.floors {
            let above = g.above_floor.get(floor).map_or_else(|| "–".into(), shown);
            table.row([floor.clone(), (*name).to_owned(), shown(e), above]);
        }
    }
    table
}

/// A row a figure; a column for the model and one for each floor.
pub(in crate::evaluate) fn sequence_table(caption: &str, report: &SequenceReport) -> Table {
    let heads: Vec<&str> =
        ["figure", "model"].into_iter().chain(report.floors.keys().map(String::as_str)).collect();
    let mut table = Table::new(caption, &heads);
    for (figure, own) in &report.figures {
        let floors = report.floors.values().map(|f| f.get(figure).map_or_else(|| "–".into(), shown));
        table.row([figure.replace('_', " "), shown(own)].into_iter().chain(floors));
    }
    table
}

fn shown(e: &Estimate) -> String {
    match e.low.zip(e.high) {
        Some((low, high)) => format!("{:.4} [{low:.4}, {high:.4}]", e.value),
        None => format!("{:.4}", e.value),
    }
}

/// A figure of a group without its interval.
pub(in crate::evaluate) fn value(g: &Group, figure: &str) -> String {
    g.figures.get(figure).map_or_else(|| "–".into(), |e| format!("{:.4}", e.value))
}

/// One row a stratum.
pub(in crate::evaluate) fn strata_table(what: &str, strata: &[(&str, &Group)]) -> Table {
    let mut table = Table::new(
        &format!("By {what}"),
        &[
            what,
            "records",
            "pathogenic",
            "genes",
            "AUROC",
            "MCC",
            "accuracy",
            "ECE",
            "answered",
            "of these right",
        ],
    );
    for (name, g) in strata {
        let counts = [g.records, g.pathogenic, g.genes].map(|n| n.to_string());
        let figures =
            ["auroc", "mcc", "accuracy", "ece", "answered_share", "answered_accuracy"].map(|f| value(g, f));
        table.row([(*name).to_owned()].into_iter().chain(counts).chain(figures));
    }
    table
}

/// Where a step of evidence begins.
pub(in crate::evaluate) fn strength_table(c: &CalibrationReport) -> Table {
    let caption = format!("Evidence by local likelihood ratio, as probabilities at the prior of {}", c.prior);
    let mut table = Table::new(&caption, &["criterion", "strength", "likelihood ratio", "probability"]);
    for s in &c.strengths {
        let (sign, least) = if s.criterion == "PP3" { ("≥", "≥") } else { ("≤", "≤") };
        let from = s.from.map_or_else(|| "not shown by these records".into(), |p| format!("{sign} {p:.3}"));
        table.row([s.criterion.clone(), s.strength.clone(), format!("{least} {:.4}", s.ratio), from]);
    }
    table
}
