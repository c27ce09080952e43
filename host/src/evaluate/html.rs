//! The report as one HTML page.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{
    CalibrationReport, ClassReport, Described, Estimate, Group, ModeReport, NumberReport, SequenceReport,
};
use crate::{
    Error, Result,
    commands::evaluate::Report,
    error::io_at,
    report::{
        Axis, Corner, Layer, Page, Picture, Plot, Table, forest, heat_map, precision_recall, reliability, roc,
    },
};

/// Strata with fewer records than this are in the tables only.
const SHOWN: usize = 20;
/// Strata with fewer are not compared with the baselines in a picture.
const COMPARED: usize = 100;
/// Points of a learning curve.
const CURVE: usize = 400;

/// Learning curves of one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learning {
    /// The stage.
    pub stage: String,
    /// (step, loss).
    pub loss: Vec<(f64, f64)>,
    /// (step, score) by the metric's name.
    pub validation: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Learning {
    /// Reads the logs of an output folder: every `STAGE.jsonl` with steps and losses.
    ///
    /// # Errors
    /// A folder or log that cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Self>> {
        let mut logs: Vec<_> = fs::read_dir(folder)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(io_at(folder))?
            .into_iter()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        logs.sort();
        let mut all = Vec::new();
        for path in logs {
            let text = fs::read_to_string(&path).map_err(io_at(&path))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let learning = Self::parse(&name, &text);
            if learning.loss.len() > 1 {
                all.push(learning);
            }
        }
        // In the order of training.
        all.sort_by_key(|l| !l.stage.starts_with("pretrain"));
        Ok(all)
    }

    fn parse(stage: &str, text: &str) -> Self {
        let mut out = Self { stage: stage.into(), ..Self::default() };
        for line in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            let Some(step) = line["step"].as_f64() else { continue };
            if let Some(loss) = line["loss"].as_f64() {
                out.loss.push((step, loss));
            }
            if let Some(score) = line["validation"].as_f64() {
                let metric = line["metric"].as_str().unwrap_or("score").to_owned();
                out.validation.entry(metric).or_default().push((step, score));
            }
        }
        out
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        // Means of equal runs of steps: single batches hide the course.
        let run = self.loss.len().div_ceil(CURVE).max(1);
        let mean = |c: &[(f64, f64)]| {
            let n = c.len() as f64;
            (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
        };
        let smooth: Vec<(f64, f64)> = self.loss.chunks(run).map(mean).collect();
        let x = |c: &[(f64, f64)]| Axis::numbers("step", 0.0, c.last().map_or(1.0, |p| p.0));
        let (first, last) = (smooth[0].1, smooth[smooth.len() - 1].1);
        let alt = format!("falls from {first:.3} to {last:.3} over {} steps", self.loss.len());
        let y = Axis::around("loss", smooth.iter().map(|p| p.1));
        let title = format!("Loss, {}", self.stage);
        let mut all =
            vec![Plot::new(&title, &alt, x(&smooth), y).with(Layer::Line(String::new(), smooth)).draw()?];
        for (metric, points) in &self.validation {
            let best = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            let y = Axis::around(metric, points.iter().map(|p| p.1));
            let plot = Plot::new(
                &format!("Validation {metric}, {}", self.stage),
                &format!("{} validations, highest {best:.4}", points.len()),
                x(points),
                y,
            );
            let plot = plot.with(Layer::Line(String::new(), points.clone()));
            all.push(plot.with(Layer::Points(String::new(), points.clone())).draw()?);
        }
        Ok(all)
    }
}

/// The page of a report that `locus evaluate` wrote, of whichever kind.
///
/// # Errors
/// JSON that is no report, or a picture that cannot be drawn.
pub fn page(json: &str, learning: &[Learning]) -> Result<String> {
    let page = match AnyReport::parse(json)? {
        AnyReport::Variant(report) => variant(&report, learning),
        AnyReport::Sequence(report) => sequence(&report, learning),
    };
    Ok(page?.html())
}

/// A report of either kind.
pub(super) enum AnyReport {
    Variant(Box<Report>),
    Sequence(Box<SequenceReport>),
}

impl AnyReport {
    pub(super) fn parse(json: &str) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::Data {
            what: "the report".into(),
            got: e.to_string(),
            expected: "the JSON that locus evaluate --json writes; run it again".into(),
        };
        let value: Value = serde_json::from_str(json).map_err(wrong)?;
        if value.get("described").is_some() {
            return Ok(Self::Sequence(Box::new(serde_json::from_value(value).map_err(wrong)?)));
        }
        Ok(Self::Variant(Box::new(serde_json::from_value(value).map_err(wrong)?)))
    }
}

fn variant(report: &Report, learning: &[Learning]) -> Result<Page> {
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
    let mut row = |name: String, k: &super::Calibrated| {
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

/// Where a step of evidence begins.
pub(super) fn strength_table(c: &CalibrationReport) -> Table {
    let caption = format!("Evidence by local likelihood ratio, as probabilities at the prior of {}", c.prior);
    let mut table = Table::new(&caption, &["criterion", "strength", "likelihood ratio", "probability"]);
    for s in &c.strengths {
        let (sign, least) = if s.criterion == "PP3" { ("≥", "≥") } else { ("≤", "≤") };
        let from = s.from.map_or_else(|| "not shown by these records".into(), |p| format!("{sign} {p:.3}"));
        table.row([s.criterion.clone(), s.strength.clone(), format!("{least} {:.4}", s.ratio), from]);
    }
    table
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

/// One row a stratum.
pub(super) fn strata_table(what: &str, strata: &[(&str, &Group)]) -> Table {
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

fn sequence(report: &SequenceReport, learning: &[Learning]) -> Result<Page> {
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
    match &report.described {
        Described::Classes(c) => classes(&mut page, c)?,
        Described::Numbers(n) => numbers(&mut page, n)?,
    }
    learning_section(&mut page, learning)?;
    Ok(page)
}

fn classes(page: &mut Page, c: &ClassReport) -> Result<()> {
    page.text(&format!("{} records in {} groups, {} classes.", c.records, c.groups, c.labels.len()));
    page.table(&estimates("Figures, with 95 % intervals", &c.figures));
    let mut table = Table::new("By class", &["class", "records", "precision", "recall", "F1", "AUROC"]);
    for (name, f) in &c.classes {
        let cell = |n: &str, digits: usize| f.get(n).map_or_else(|| "–".into(), |v| format!("{v:.digits$}"));
        let cells = ["precision", "recall", "f1", "auroc"].map(|n| cell(n, 4));
        table.row([name.clone(), cell("records", 0)].into_iter().chain(cells));
    }
    page.table(&table);
    let curves = |of: fn(&super::Curves) -> &Vec<(f64, f64)>| -> Vec<(String, Vec<(f64, f64)>)> {
        c.curves.iter().map(|(n, k)| (n.clone(), of(k).clone())).collect()
    };
    let mean = c.figures.get("auroc").map_or_else(String::new, |e| format!("mean area {:.4}", e.value));
    let roc = roc("ROC", &mean, &curves(|k| &k.roc))?;
    let positive = c.labels.last().and_then(|l| c.classes[l].get("records")).copied().unwrap_or(0.0);
    let share = if c.labels.len() == 2 {
        positive / c.records.max(1) as f64
    } else {
        1.0 / c.labels.len().max(1) as f64
    };
    let pr =
        precision_recall("Precision and recall", "of each class", &curves(|k| &k.precision_recall), share)?;
    page.pictures(&[(&roc, "Each class against the rest."), (&pr, "Each class against the rest.")]);
    let alt = format!(
        "accuracy {}",
        c.figures.get("accuracy").map_or_else(String::new, |e| format!("{:.4}", e.value))
    );
    let confusion = heat_map("Confusion", &alt, ("truth", "called"), (&c.labels, &c.labels), &c.confusion.0)?;
    let series = [("answered class".to_owned(), c.calibrated.bins.clone())];
    let diagram = reliability("Reliability", &format!("calibration error {:.4}", c.calibrated.ece), &series)?;
    page.pictures(&[
        (&confusion, "Shade: share of the row."),
        (&diagram, "How often the answered class is right, over its probability. Bars: 95 %."),
    ]);
    Ok(())
}

fn numbers(page: &mut Page, n: &NumberReport) -> Result<()> {
    page.text(&format!("{} records in {} groups.", n.records, n.groups));
    page.table(&estimates("Figures, with 95 % intervals", &n.figures));
    let all = || n.points.iter().flat_map(|p| [p.0, p.1]);
    let (x, y) = (Axis::around("truth", all()), Axis::around("predicted", all()));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let alt =
        n.figures.get("spearman").map_or_else(String::new, |e| format!("rank correlation {:.3}", e.value));
    let plot = Plot::new("Predicted and true", &alt, x, y)
        .with(Layer::Points(String::new(), n.points.clone()))
        .with(Layer::Guide("equal".into(), vec![(low, low), (high, high)]))
        .legend(Corner::UpperLeft)
        .size(440, 420);
    page.pictures(&[(&plot.draw()?, "One dot a record; of many records, some.")]);
    Ok(())
}

fn learning_section(page: &mut Page, learning: &[Learning]) -> Result<()> {
    if learning.is_empty() {
        return Ok(());
    }
    page.section("Training");
    for stage in learning {
        let pictures = stage.pictures()?;
        page.pictures(
            &pictures.iter().map(|p| (p, "Losses are means over runs of steps.")).collect::<Vec<_>>(),
        );
    }
    Ok(())
}

fn facts(page: &mut Page, facts: [&String; 5], reads: Option<usize>, intervals: &str) {
    let [model, engine, precision, split, data] = facts;
    let mut all = vec![
        ("Model", model.clone()),
        ("Engine", format!("{engine}, {precision}")),
        ("Split", split.clone()),
        ("Data, SHA-256", data.clone()),
        ("Intervals", intervals.to_owned()),
    ];
    if let Some(reads) = reads {
        all.push(("Looks at this split", format!("{reads}, this one included")));
    }
    page.facts(all);
}

fn left_out(page: &mut Page, left_out: &BTreeMap<String, u64>) {
    if left_out.is_empty() {
        return;
    }
    let mut table = Table::new("Records left out", &["reason", "records"]);
    left_out.iter().for_each(|(reason, n)| table.row([reason.clone(), n.to_string()]));
    page.table(&table);
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

/// Figures of groups side by side.
pub(super) fn figure_table(caption: &str, groups: &[(&str, &Group)]) -> Table {
    let heads: Vec<&str> = ["figure"].into_iter().chain(groups.iter().map(|(n, _)| *n)).collect();
    let mut table = Table::new(caption, &heads);
    table.row(["records".to_owned()].into_iter().chain(
        groups.iter().map(|(_, g)| format!("{} ({} pathogenic, {} genes)", g.records, g.pathogenic, g.genes)),
    ));
    for figure in super::NAMES {
        let cells = groups.iter().map(|(_, g)| g.figures.get(figure).map_or_else(|| "–".into(), shown));
        table.row([figure.replace('_', " ")].into_iter().chain(cells));
    }
    table
}

/// Each baseline and what the model has above it.
pub(super) fn floor_table(groups: &[(&str, &Group)]) -> Table {
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

/// One row a figure.
pub(super) fn estimates(caption: &str, figures: &BTreeMap<String, Estimate>) -> Table {
    let mut table = Table::new(caption, &["figure", "value"]);
    figures.iter().for_each(|(n, e)| table.row([n.replace('_', " "), shown(e)]));
    table
}

fn shown(e: &Estimate) -> String {
    match e.low.zip(e.high) {
        Some((low, high)) => format!("{:.4} [{low:.4}, {high:.4}]", e.value),
        None => format!("{:.4}", e.value),
    }
}

fn value(g: &Group, figure: &str) -> String {
    g.figures.get(figure).map_or_else(|| "–".into(), |e| format!("{:.4}", e.value))
}

/// A model's name without its digest.
pub(super) fn first_words(model: &str) -> String {
    let words: Vec<&str> = model.split(' ').collect();
    let kept = if words.len() > 2 { words.len() - 1 } else { words.len() };
    words[..kept].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_by_its_keys_and_what_is_no_log_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let log: String =
            (1..=900).map(|s| format!("{{\"step\":{s},\"loss\":{}}}\n", 1.0 / f64::from(s))).collect();
        let checks = "{\"step\":450,\"validation\":0.8,\"metric\":\"auroc\"}\nnot json\n{\"loss\":1}\n";
        fs::write(folder.path().join("finetune.jsonl"), log + checks).unwrap();
        fs::write(folder.path().join("pretrain.jsonl"), "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n")
            .unwrap();
        fs::write(folder.path().join("test-reads.jsonl"), "{\"time\":\"x\"}\n").unwrap();
        let all = Learning::read(folder.path()).unwrap();
        assert_eq!(all.iter().map(|l| l.stage.as_str()).collect::<Vec<_>>(), ["pretrain", "finetune"]);
        assert_eq!((all[1].loss.len(), all[1].validation["auroc"].len()), (900, 1));
        assert_eq!(all[1].pictures().unwrap().len(), 2);
    }

    #[test]
    fn a_page_is_made_of_a_report_of_either_kind_and_of_nothing_else() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let p = [vec![0.9, 0.1], vec![0.4, 0.6], vec![0.3, 0.7], vec![0.6, 0.4]];
        let described =
            super::super::describe_classes(&p, &[0, 0, 1, 1], &["a", "b", "c", "c"], &labels, 9, 1);
        let report = SequenceReport {
            model: "coding 1.0.0 abcdef".into(),
            engine: "tract".into(),
            precision: "fp32".into(),
            split: "test".into(),
            data: "00".into(),
            test_reads: Some(2),
            left_out: [("too <long>".to_owned(), 3)].into(),
            intervals: "95 %".into(),
            described: Described::Classes(described),
        };
        let html = page(&serde_json::to_string(&report).unwrap(), &[]).unwrap();
        for part in
            ["<h1>coding 1.0.0: test split</h1>", "too &lt;long&gt;", "2, this one included", "Reliability"]
        {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg role=\"img\"").count(), 4);
        assert!(page("{\"modes\": 3}", &[]).unwrap_err().to_string().contains("locus evaluate"));
    }
}
