//! What `locus calibrate` says of a quantised graph.

use locus_calibration::{BINS, CalibrationTable, Observed, Range};

use super::{Quantised, Report};
use crate::{
    Result, files,
    report::{Axis, Layer, Page, Picture, Plot, Table},
    stage::{Run, write_json},
};

/// Boxes of a histogram's picture.
const BOXES: usize = 64;

/// Writes `quantise.json` and `quantise.html` into an output folder, and prints what was chosen.
///
/// # Errors
/// The folder cannot be written, or a plot cannot be drawn.
pub fn write(run: &Run, name: &str, found: &Quantised) -> Result<()> {
    print(&found.report, &found.table);
    write_json(&run.at("quantise.json"), &found.report)?;
    files::write_atomically(&run.at("quantise.html"), page(name, found)?.html().as_bytes())
}

fn print(report: &Report, table: &CalibrationTable) {
    for c in &report.candidates {
        complain!("quantise: {} with migration {}: {:.2} dB", c.method, c.migration, c.sqnr_db);
    }
    for l in &report.layers {
        complain!(
            "quantise: {} alone: {:.2} dB, {} bytes less, {:.0} us a row",
            l.name,
            l.sqnr_db,
            l.bytes_saved,
            l.us_per_row
        );
    }
    for s in &report.steps {
        complain!(
            "quantise: {} layers in float: loss {:.5}, {:.3} % of decisions changed, {:.2} dB, {} bytes, {:.0} us a row ({:.0} in float32)",
            s.float.len(),
            s.cost.loss,
            100.0 * s.cost.flips,
            s.sqnr_db,
            s.bytes,
            s.us_per_row,
            report.float.0,
        );
    }
    complain!(
        "quantise: took {} with migration {}, in float {:?}",
        table.method,
        table.migration,
        table.float
    );
}

/// The page.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page(name: &str, found: &Quantised) -> Result<Page> {
    let Quantised { table, seen, report } = found;
    let mut page = Page::new(&format!("Quantisation of {name}"));
    page.section("Chosen").facts([
        ("ranges", table.method.clone()),
        ("scale migration", table.migration.to_string()),
        ("records", report.samples.to_string()),
        ("layers in float", if table.float.is_empty() { "none".into() } else { list(&table.float) }),
    ]);
    let mut steps = Table::new(
        "Fallback to float, on val_select",
        &["layers in float", "loss", "decisions changed", "signal to noise, dB", "bytes", "µs a row"],
    );
    for s in &report.steps {
        steps.row([
            s.float.len().to_string(),
            format!("{:.5}", s.cost.loss),
            format!("{:.3} %", 100.0 * s.cost.flips),
            format!("{:.2}", s.sqnr_db),
            s.bytes.to_string(),
            format!("{:.0}", s.us_per_row),
        ]);
    }
    page.table(&steps);
    page.text(&format!(
        "Budget: a loss of {} and {:.2} % of decisions. In float32: {} bytes, {:.0} µs a row.",
        report.budget.loss,
        100.0 * report.budget.flips,
        report.float.1,
        report.float.0
    ));
    let mut layers = Table::new(
        "Layers quantised alone, the most sensitive first",
        &["layer", "signal to noise, dB", "bytes saved", "µs a row"],
    );
    for l in &report.layers {
        layers.row([
            l.name.clone(),
            format!("{:.2}", l.sqnr_db),
            l.bytes_saved.to_string(),
            format!("{:.0}", l.us_per_row),
        ]);
    }
    page.section("Layers").table(&layers);
    let mut tried = Table::new("Estimators", &["ranges", "migration", "signal to noise, dB"]);
    for c in &report.candidates {
        tried.row([c.method.to_string(), c.migration.to_string(), format!("{:.2}", c.sqnr_db)]);
    }
    page.section("Estimators").table(&tried);
    let pictures = seen
        .iter()
        .filter_map(|(name, seen)| Some(picture(name, seen, *table.ranges.get(name)?)))
        .collect::<Result<Vec<_>>>()?;
    page.section("Activations");
    page.pictures(&pictures.iter().map(|p| (p, p.title.as_str())).collect::<Vec<_>>());
    Ok(page)
}

fn list(names: &std::collections::BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// How often an activation has which size, on a logarithmic scale, and where its range ends.
fn picture(name: &str, seen: &Observed, range: Range) -> Result<Picture> {
    let histogram = seen.histogram();
    let per = BINS / BOXES;
    let height = |count: u64| (1.0 + count as f64).log10();
    let boxes: Vec<[f64; 4]> = histogram
        .counts()
        .chunks_exact(per)
        .enumerate()
        .map(|(i, counts)| {
            let [from, to] = [i, i + 1].map(|i| f64::from(histogram.bound(i * per)));
            [from, to, 0.0, height(counts.iter().sum())]
        })
        .filter(|b| b[3] > 0.0)
        .collect();
    let highest = boxes.iter().map(|b| b[3]).fold(1.0, f64::max);
    let cut = f64::from(range.max.max(-range.min));
    let alt = format!("Absolute values of {name} up to {:.3}; the range ends at {cut:.3}", histogram.top());
    let x = Axis::numbers("absolute value", 0.0, f64::from(histogram.top()));
    let y = Axis::numbers("log10 of 1 + count", 0.0, 1.05 * highest);
    Plot::new(name, &alt, x, y)
        .with(Layer::Boxes("values".into(), boxes))
        .with(Layer::Line("end of the range".into(), vec![(cut, 0.0), (cut, highest)]))
        .draw()
}
