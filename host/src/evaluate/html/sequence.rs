//! The page of a model of whole sequences.

use super::{
    super::{ClassReport, Curves, Described, NumberReport, SequenceReport},
    Learning, facts, first_words,
    learning::learning_section,
    left_out,
    tables::sequence_table,
};
use crate::{
    Result,
    report::{Axis, Corner, Layer, Page, Plot, Table, heat_map, precision_recall, reliability, roc},
};

/// Everything that a report of sequences says.
pub(super) fn sequence(report: &SequenceReport, learning: &[Learning]) -> Result<Page> {
    let mut page = Page::new(&format!("{}: {} split", first_words(&report.model), report.split));
    page.section("What was evaluated");
    facts(
        &mut page,
        [&report.model, &report.engine, &report.precision, &report.split, &report.data],
        report.test_reads,
        &report.intervals,
    );
    left_out(&mut page, &report.left_out);
    page.section("Figures");
    page.text(&format!("{} records in {} groups.", report.records, report.groups));
    page.table(&sequence_table("Figures, with 95 % intervals; floors on the same records", report));
    match &report.described {
        Described::Classes(c) => classes(&mut page, report, c)?,
        Described::Numbers(n) => numbers(&mut page, report, n)?,
    }
    learning_section(&mut page, learning)?;
    Ok(page)
}

/// A figure in words; empty without it.
fn said(report: &SequenceReport, what: &str, figure: &str) -> String {
    report.figures.get(figure).map_or_else(String::new, |e| format!("{what} {:.4}", e.value))
}

fn classes(page: &mut Page, report: &SequenceReport, c: &ClassReport) -> Result<()> {
    let mut table = Table::new("By class", &["class", "records", "precision", "recall", "F1", "AUROC"]);
    for (name, f) in &c.classes {
        let cell = |n: &str, digits: usize| f.get(n).map_or_else(|| "–".into(), |v| format!("{v:.digits$}"));
        let cells = ["precision", "recall", "f1", "auroc"].map(|n| cell(n, 4));
        table.row([name.clone(), cell("records", 0)].into_iter().chain(cells));
    }
    page.table(&table);
    let curves = |of: fn(&Curves) -> &Vec<(f64, f64)>| -> Vec<(String, Vec<(f64, f64)>)> {
        c.curves.iter().map(|(n, k)| (n.clone(), of(k).clone())).collect()
    };
    let mean = said(report, "mean area", "auroc");
    let roc = roc("ROC", &mean, &curves(|k| &k.roc))?;
    let positive = c.labels.last().and_then(|l| c.classes[l].get("records")).copied().unwrap_or(0.0);
    let share = if c.labels.len() == 2 {
        positive / report.records.max(1) as f64
    } else {
        1.0 / c.labels.len().max(1) as f64
    };
    let pr =
        precision_recall("Precision and recall", "of each class", &curves(|k| &k.precision_recall), share)?;
    page.pictures(&[(&roc, "Each class against the rest."), (&pr, "Each class against the rest.")]);
    let alt = said(report, "accuracy", "accuracy");
    let confusion = heat_map("Confusion", &alt, ("truth", "called"), (&c.labels, &c.labels), &c.confusion.0)?;
    let (of, caption) = match c.labels.as_slice() {
        [_, positive] => {
            (positive.clone(), "How often the positive class is true, over its probability. Bars: 95 %.")
        }
        _ => (
            "answered class".to_owned(),
            "How often the answered class is right, over its probability. Bars: 95 %.",
        ),
    };
    let series = [(of, c.calibrated.bins.clone())];
    let diagram = reliability("Reliability", &format!("calibration error {:.4}", c.calibrated.ece), &series)?;
    page.pictures(&[(&confusion, "Shade: share of the row."), (&diagram, caption)]);
    Ok(())
}

fn numbers(page: &mut Page, report: &SequenceReport, n: &NumberReport) -> Result<()> {
    let all = || n.points.iter().flat_map(|p| [p.0, p.1]);
    let (x, y) = (Axis::around("truth", all()), Axis::around("predicted", all()));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let alt = said(report, "rank correlation", "spearman");
    let plot = Plot::new("Predicted and true", &alt, x, y)
        .with(Layer::Points(String::new(), n.points.clone()))
        .with(Layer::Guide("equal".into(), vec![(low, low), (high, high)]))
        .legend(Corner::UpperLeft)
        .size(440, 420);
    page.pictures(&[(&plot.draw()?, "One dot a record; of many records, some.")]);
    Ok(())
}
