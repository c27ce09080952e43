//! The page of a model of variants.

use std::collections::BTreeMap;

use super::{
    super::{Calibrated, CalibrationReport, Group, ModeReport},
    Learning, facts, first_words,
    learning::learning_section,
    left_out,
    tables::{figure_table, floor_table, strata_table, strength_table, value},
};
use crate::{
    Result,
    commands::evaluate::Report,
    report::{Axis, Layer, Page, Picture, Plot, Table, forest, heat_map, precision_recall, reliability, roc},
};

/// Strata with fewer records than this are in the tables only.
const SHOWN: usize = 20;
/// Strata with fewer are not compared with the baselines in a picture.
const COMPARED: usize = 100;

/// Everything that a report of variants says.
pub(super) fn variant(report: &Report, learning: &[Learning]) -> Result<Page> {
    let mut page = Page::new(&format!("{}: {} split", first_words(&report.model), report.split));
    page.section("What was evaluated");
    facts(
        &mut page,
        [&report.model, &report.engine, &report.precision, &report.split, &report.data],
        report.test_reads,
        &report.intervals,
    );
    left_out(&mut page, &report.left_out);
    // The mode that has a transcript comes first.
    for (mode, figures) in report.modes.iter().rev() {
        variant_mode(&mut page, mode, figures)?;
    }
    learning_section(&mut page, learning)?;
    Ok(page)
}

fn variant_mode(page: &mut Page, mode: &str, m: &ModeReport) -> Result<()> {
    page.section(&format!("Input mode {mode}"));
    page.text(
        "The labels were made by people who looked at the consequence, so the figures over all records say little by \
         themselves: read missense, and both beside the baselines.",
    );
    page.table(&figure_table(
        "Figures, with 95 % intervals",
        &[("all", &m.overall), ("missense", &m.missense)],
    ));
    page.table(&floor_table(&[("all", &m.overall), ("missense", &m.missense)]));
    let one = |name: &str, curve: &[(f64, f64)]| vec![(name.to_owned(), curve.to_vec())];
    let auroc = value(&m.overall, "auroc");
    let roc = roc("ROC", &format!("area {auroc}"), &one("model", &m.curves.roc))?;
    let share = m.overall.pathogenic as f64 / m.overall.records.max(1) as f64;
    let alt = format!("average precision {}", value(&m.overall, "aupr"));
    let pr =
        precision_recall("Precision and recall", &alt, &one("model", &m.curves.precision_recall), share)?;
    page.pictures(&[(&roc, "All records."), (&pr, "All records; chance is the share of pathogenic ones.")]);
    let names = ["benign".to_owned(), "pathogenic".to_owned()];
    let c = &m.confusion;
    let counts = [vec![c.true_negative, c.false_positive], vec![c.false_negative, c.true_positive]];
    let alt = format!("{} of {} right", c.true_negative + c.true_positive, m.overall.records);
    let confusion = heat_map("Confusion", &alt, ("truth", "called"), (&names, &names), &counts)?;
    let spread = spread("Probabilities by truth", &names, &m.curves.probabilities)?;
    page.pictures(&[
        (&confusion, "Called pathogenic above a probability of one half, answered or not."),
        (&spread, "Share of the records of each class in steps of probability."),
    ]);
    let answered = m
        .answered_accuracy
        .map_or_else(|| "no label".into(), |a| format!("{:.1} % of these right", 100.0 * a));
    page.heading("Answers").text(&format!(
        "{:.1} % of the records are outside the uncertain band, {answered}.",
        100.0 * m.answered_share
    ));
    if let Some(calibration) = &m.calibration {
        calibration_section(page, calibration)?;
    }
    page.heading("Strata");
    for (what, strata) in [("consequence", &m.by_consequence), ("review stars", &m.by_stars)] {
        strata_section(page, what, strata)?;
    }
    genes(page, m)
}

fn calibration_section(page: &mut Page, c: &CalibrationReport) -> Result<()> {
    page.heading("Calibration").text(&format!(
        "Probabilities assume that {:.1} % are pathogenic; of these records {:.1} % are. A probability moves with its \
         prior; the likelihood ratio behind it does not.",
        100.0 * c.prior,
        100.0 * c.share
    ));
    let mut table =
        Table::new("Calibration error", &["probabilities", "ECE", "ECE, equal mass", "largest error"]);
    let mut row = |name: String, k: &Calibrated| {
        table.row([
            name,
            format!("{:.4}", k.ece),
            format!("{:.4}", k.ece_equal_mass),
            format!("{:.4}", k.mce),
        ]);
    };
    row("as they are".into(), &c.raw);
    row("at the records' own share".into(), &c.at_share);
    if let Some(r) = &c.reweighted {
        row(format!("each consequence reweighted to the shares of {}", r.to), &r.calibrated);
    }
    page.table(&table);
    let mut series = vec![
        ("own share".to_owned(), c.at_share.bins.clone()),
        ("as they are".to_owned(), c.raw.bins.clone()),
    ];
    if let Some(r) = &c.reweighted {
        series.push((format!("reweighted to {}", r.to), r.calibrated.bins.clone()));
    }
    let diagram = reliability(
        "Reliability",
        &format!("calibration error {:.4} at the own share", c.at_share.ece),
        &series,
    )?;
    let mut pictures = vec![(&diagram, "Bars: 95 % of the share seen in a bin, at the records' own share.")];
    let ratios = (!c.local.is_empty()).then(|| local_picture(c)).transpose()?;
    if let Some(ratios) = &ratios {
        pictures.push((
            ratios,
            "Bars: 90 % over resampled genes. Dashed: moderate evidence, 4.33 and its inverse.",
        ));
    }
    page.pictures(&pictures);
    if !c.cross_fitted.is_empty() {
        let mut table = Table::new(
            "Methods, each fitted on the genes that it is not measured on",
            &["method", "ECE", "ECE, equal mass", "log loss", "Brier"],
        );
        for (method, f) in &c.cross_fitted {
            let cells = [f.ece, f.ece_equal_mass, f.log_loss, f.brier].map(|v| format!("{v:.4}"));
            table.row([method.to_string()].into_iter().chain(cells));
        }
        page.table(&table);
    }
    if c.strengths.iter().any(|s| s.from.is_some()) {
        page.table(&strength_table(c));
    }
    Ok(())
}

fn local_picture(c: &CalibrationReport) -> Result<Picture> {
    let log = |v: f64| v.max(1e-6).log10();
    let line = c.local.iter().map(|l| (l.probability, log(l.ratio))).collect();
    let all = c.local.iter().map(|l| (log(l.at_least), log(l.at_most), l.probability)).collect();
    let ends = c.local.iter().flat_map(|l| [log(l.at_least), log(l.at_most)]);
    let y = Axis::around("likelihood ratio, log10", ends);
    let guide = |v: f64| Layer::Guide(String::new(), vec![(0.0, log(v)), (1.0, log(v))]);
    Plot::new(
        "Local likelihood ratio",
        "rises with the probability",
        Axis::numbers("probability", 0.0, 1.0),
        y,
    )
    .with(guide(4.33))
    .with(guide(1.0 / 4.33))
    .with(Layer::Line(String::new(), line))
    .with(Layer::Intervals { upright: true, all })
    .size(480, 420)
    .draw()
}

fn strata_section(page: &mut Page, what: &str, strata: &BTreeMap<String, Group>) -> Result<()> {
    let mut named: Vec<(&str, &Group)> = strata.iter().map(|(n, g)| (n.as_str(), g)).collect();
    named.sort_by_key(|(_, g)| std::cmp::Reverse(g.records));
    page.table(&strata_table(what, &named));
    let rows: Vec<_> = named
        .iter()
        .filter(|(_, g)| g.records >= SHOWN)
        .filter_map(|(n, g)| {
            let e = g.figures.get("auroc")?;
            Some(((*n).to_owned(), e.value, e.low.zip(e.high)))
        })
        .collect();
    // A baseline that says the same of all of a stratum is nothing to be above of.
    let says = |g: &Group, floor: &str| g.floors.get(floor).is_some_and(|e| e.low != e.high);
    let large = named.iter().filter(|(_, g)| g.records >= COMPARED);
    let above: Vec<_> = large
        .flat_map(|(n, g)| g.above_floor.iter().filter(|(f, _)| says(g, f)).map(move |(f, e)| (n, f, e)))
        .map(|(n, f, e)| (format!("{n} − {f}"), e.value, e.low.zip(e.high)))
        .collect();
    let mut pictures = Vec::new();
    if !rows.is_empty() {
        let alt = format!("AUROC of {} strata", rows.len());
        pictures.push((
            forest(&format!("AUROC by {what}"), &alt, "AUROC", &rows, Some(0.5))?,
            "95 %, genes resampled.",
        ));
    }
    if !above.is_empty() {
        let alt = format!("difference of AUROC in {} strata", above.len());
        let title = format!("AUROC above the baselines by {what}");
        pictures.push((
            forest(&title, &alt, "difference", &above, Some(0.0))?,
            "On the same records and resamples.",
        ));
    }
    page.pictures(&pictures.iter().map(|(p, c)| (p, *c)).collect::<Vec<_>>());
    Ok(())
}

fn genes(page: &mut Page, m: &ModeReport) -> Result<()> {
    if m.by_gene.is_empty() {
        return Ok(());
    }
    let mean = m.gene_macro_auroc.map_or_else(String::new, |a| format!(" Their mean is {a:.4}."));
    page.heading("Genes").text(&format!("Genes with 5 records or more of both classes.{mean}"));
    let mut values: Vec<(String, f64)> = m.by_gene.iter().map(|(g, a)| (g.clone(), *a)).collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rows: Vec<_> = values.into_iter().map(|(g, a)| (g, a, None)).collect();
    let picture = forest("AUROC by gene", &format!("{} genes", rows.len()), "AUROC", &rows, Some(0.5))?;
    page.pictures(&[(&picture, "All records of a gene.")]);
    Ok(())
}

fn spread(title: &str, names: &[String; 2], counts: &[[u64; 2]]) -> Result<Picture> {
    let n = counts.len().max(1) as f64;
    let mut highest = 0.0_f64;
    let mut layers = Vec::new();
    for (class, name) in names.iter().enumerate() {
        let all = counts.iter().map(|c| c[class]).sum::<u64>().max(1) as f64;
        let boxes = counts.iter().enumerate().filter(|(_, c)| c[class] > 0).map(|(i, c)| {
            let share = c[class] as f64 / all;
            highest = highest.max(share);
            [i as f64 / n, (i + 1) as f64 / n, 0.0, share]
        });
        layers.push(Layer::Boxes(name.clone(), boxes.collect()));
    }
    let (x, y) = (Axis::numbers("probability", 0.0, 1.0), Axis::numbers("share", 0.0, 1.05 * highest));
    layers.into_iter().fold(Plot::new(title, "a histogram of each class", x, y), Plot::with).draw()
}
