//! The report of `locus prepare` as a page.

use super::describe::{Item, Label, SPLITS, SetReport, Summary};
use crate::{
    Result, files,
    report::{Page, Picture, Table, bars, histogram},
    stage::{Run, write_json},
};

/// Writes `prepare.json` and `prepare.html` into an output folder.
///
/// # Errors
/// The folder cannot be written, or a plot cannot be drawn.
pub fn write(run: &Run, report: &SetReport, items: &[Item<'_>]) -> Result<()> {
    write_json(&run.at("prepare.json"), report)?;
    files::write_atomically(&run.at("prepare.html"), page(report, items)?.html().as_bytes())
}

fn page(report: &SetReport, items: &[Item<'_>]) -> Result<Page> {
    let mut page = Page::new(&format!("Data of {}", report.name));
    page.section("Splits").text(&format!("{} records: {}.", items.len(), report.kind));
    page.table(&splits(report));
    if !report.left_out.is_empty() {
        let mut table = Table::new("Left out", &["reason", "records"]);
        report.left_out.iter().for_each(|(reason, n)| table.row([reason.clone(), n.to_string()]));
        page.table(&table);
    }
    page.section("Distributions");
    let pictures = pictures(items)?;
    page.pictures(&pictures.iter().map(|p| (p, p.title.as_str())).collect::<Vec<_>>());
    page.section("Leakage").text(&format!("A near duplicate is {}.", report.near_means));
    let mut table = Table::new(
        "What a split shares with another",
        &["split", "shares with", "groups", "same records", "near duplicates", "some groups"],
    );
    for leak in &report.leakage {
        let numbers = [leak.shared_groups, leak.exact, leak.near].map(|n| n.to_string());
        let [groups, exact, near] = numbers;
        let short: Vec<String> = leak.examples.iter().map(|e| e.chars().take(40).collect()).collect();
        table.row([leak.of.clone(), leak.within.clone(), groups, exact, near, short.join(", ")]);
    }
    page.table(&table);
    let mut table = Table::new("Files", &["file", "SHA-256"]);
    report.sources.iter().for_each(|(file, digest)| table.row([file, digest]));
    page.section("Sources").table(&table);
    Ok(page)
}

fn splits(report: &SetReport) -> Table {
    let named = SPLITS.iter().filter_map(|s| Some((s.as_str(), report.splits.get(s.as_str())?)));
    let mut table = Table::new(
        "By split",
        &["split", "records", "groups", "classes or values", "length", "GC", "uncertain letters"],
    );
    for (name, split) in named {
        let classes: Vec<String> = split.classes.iter().map(|(c, n)| format!("{c}: {n}")).collect();
        let range = |s: &Summary, digits: usize| {
            format!("{:.digits$} ({:.digits$} to {:.digits$})", s.median, s.min, s.max)
        };
        let target = split.values.as_ref().map_or(classes.join(", "), |v| range(v, 3));
        table.row([
            name.to_owned(),
            split.records.to_string(),
            split.groups.to_string(),
            target,
            range(&split.lengths, 0),
            split.gc.as_ref().map_or("–".into(), |g| range(g, 2)),
            format!("{:.4} %", 100.0 * split.uncertain),
        ]);
    }
    table
}

fn pictures(items: &[Item<'_>]) -> Result<Vec<Picture>> {
    let series = |value: &dyn Fn(&Item<'_>) -> Option<f64>| -> Vec<(&'static str, Vec<f64>)> {
        let of = |split| items.iter().filter(move |i| i.split == split).filter_map(value).collect();
        SPLITS
            .into_iter()
            .map(|s| (s.as_str(), of(s)))
            .filter(|(_, v): &(_, Vec<f64>)| !v.is_empty())
            .collect()
    };
    let draw = |title: &str, label: &str, series: Vec<(&'static str, Vec<f64>)>| -> Result<Option<Picture>> {
        if series.is_empty() {
            return Ok(None);
        }
        let shown: Vec<(&str, &[f64])> = series.iter().map(|(n, v)| (*n, v.as_slice())).collect();
        histogram(title, &format!("{title}, by split"), label, &shown, 40).map(Some)
    };
    let value = |i: &Item<'_>| if let Label::Value(v) = i.label { Some(v) } else { None };
    let mut all: Vec<Picture> = [
        draw("Lengths", "length", series(&|i| Some(i.length as f64)))?,
        draw("GC content", "share of G and C", series(&|i| i.gc))?,
        draw("Values", "value", series(&value))?,
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut classes: std::collections::BTreeMap<&str, f64> = Default::default();
    for item in items {
        if let Label::Class(class) = item.label {
            *classes.entry(class).or_default() += 1.0;
        }
    }
    if !classes.is_empty() {
        let values: Vec<(String, f64)> = classes.into_iter().map(|(c, n)| (c.to_owned(), n)).collect();
        all.push(bars("Classes", "Records of each class", "records", &values)?);
    }
    Ok(all)
}
