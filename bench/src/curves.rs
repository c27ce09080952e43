//! Results as one HTML page: percentile curves, latency over throughput, tables, the machines.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use locus_host::report::{Axis, Corner, Layer, Page, Picture, Plot, Table};
use locus_measure::{Environment, FEW, Kind, Latencies, Loaded, Results, SHARES, Series, Stage, median};

/// Most curves in one plot: as many as there are colours.
const CURVES: usize = 6;
/// Size of a plot.
const SIZE: (u32, u32) = (560, 390);

/// What to draw.
#[derive(clap::Args)]
pub(crate) struct ReportArguments {
    /// Results
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Page to write
    #[arg(long)]
    out: PathBuf,
}

impl ReportArguments {
    pub(crate) fn run(&self) -> Result<()> {
        let mut runs = Vec::new();
        for path in &self.files {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            runs.push((name, Results::read(path)?));
        }
        ensure!(runs.iter().any(|(_, run)| !run.series.is_empty()), "got files without a series");
        fs::write(&self.out, page(&runs)?).with_context(|| self.out.display().to_string())?;
        println!("{}", self.out.display());
        Ok(())
    }
}

/// The page of some runs with their names.
fn page(runs: &[(String, Results)]) -> Result<String> {
    let mut page = Page::new("Latency and throughput");
    for (name, run) in runs {
        let title = if runs.len() > 1 { format!("{name}: {}", run.title) } else { run.title.clone() };
        page.section(&title).text(&run.about);
        page.facts([
            ("command", run.command.clone()),
            ("date", run.date.clone()),
            ("seed", run.seed.to_string()),
            ("revision", run.revision.clone().unwrap_or_else(|| "not known".into())),
        ]);
        for (way, series) in ways(run) {
            page.heading(&way);
            let pictures = pictures(&way, &series)?;
            let pictures: Vec<_> =
                pictures.iter().map(|(picture, caption)| (picture, caption.as_str())).collect();
            page.pictures(&pictures);
            page.table(&table(&way, &series));
        }
        page.heading("Machine, before the run");
        page.facts(environment(&run.environment).iter().map(|(name, value)| (*name, value.clone())));
        page.table(&clocks(&run.environment));
    }
    Ok(page.html())
}

/// Series of one way together, in their order: what stands before the first comma is the way.
fn ways(run: &Results) -> Vec<(String, Vec<&Series>)> {
    let mut ways: Vec<(String, Vec<&Series>)> = Vec::new();
    for series in &run.series {
        let way = series.name.split_once(',').map_or(series.name.as_str(), |(way, _)| way);
        match ways.iter_mut().find(|(name, _)| name == way) {
            Some((_, all)) => all.push(series),
            None => ways.push((way.to_owned(), vec![series])),
        }
    }
    ways
}

/// The name of a series without its way's.
fn short<'a>(way: &str, series: &'a Series) -> &'a str {
    let rest = series.name.strip_prefix(way).unwrap_or(&series.name);
    rest.trim_start_matches(',').trim_start()
}

fn pictures(way: &str, series: &[&Series]) -> Result<Vec<(Picture, String)>> {
    let mut pictures = Vec::new();
    for (kind, open) in [("closed loop", false), ("open loop", true)] {
        let of: Vec<_> =
            series.iter().filter(|s| matches!(s.kind, Kind::Open { .. }) == open).copied().collect();
        if !of.is_empty() {
            let caption = format!(
                "{way}, {kind}: the time that a share of the requests does not exceed, all repeats together."
            );
            pictures.push((percentile_curves(way, kind, &of)?, caption));
        }
    }
    let engine = series.iter().all(|series| series.stage == Stage::Engine);
    if engine {
        let caption = "Variants a second over the size of a batch; the bars are from the least to the most of the repeats.";
        pictures.push((batches(series)?, caption.to_owned()));
    } else if series.len() > 2 && series.iter().all(|series| series.stage != Stage::Harness) {
        let caption = format!(
            "{way}: p50, p99 and p99.9 over the answers that really came a second. Dots of the open loop, joined by lines; medians of the repeats."
        );
        pictures.push((over_throughput(way, series)?, caption));
    }
    Ok(pictures)
}

/// Points of a curve, thinned: times of a share, over its nines.
fn curve(latencies: &Latencies) -> Vec<(f64, f64)> {
    let most = most_nines(latencies);
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (time, share) in latencies.cumulative() {
        let at = (-(1.0 - share).max(1e-12).log10()).min(most);
        let ms = (time.as_secs_f64() * 1e3).log10();
        if points.last().is_none_or(|last| (at - last.0).abs() + (ms - last.1).abs() > 4e-3) {
            points.push((at, ms));
        }
    }
    points
}

/// As far as a histogram says anything: one request beyond.
fn most_nines(latencies: &Latencies) -> f64 {
    (latencies.count().max(2) as f64).log10()
}

/// Values with one more above them: so much room takes a legend of so many lines.
fn below_legend(values: &[f64], lines: usize) -> Vec<f64> {
    let (least, most) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (v.min(l), v.max(m)));
    let room = 0.06 * (lines + 1) as f64;
    values.iter().copied().chain([most + room / (1.0 - room) * (most - least)]).collect()
}

fn percentile_curves(way: &str, kind: &str, series: &[&Series]) -> Result<Picture> {
    let all: Vec<_> = series.iter().map(|series| (short(way, series), series.latencies())).collect();
    let shown = &all[all.len().saturating_sub(CURVES)..];
    let curves: Vec<_> =
        shown.iter().map(|(name, latencies)| ((*name).to_owned(), curve(latencies))).collect();
    let most = shown.iter().map(|(_, latencies)| most_nines(latencies)).fold(1.0, f64::max);
    let times: Vec<f64> = curves.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).collect();
    let y = Axis::powers("ms", below_legend(&times, curves.len()));
    let words = shown.iter().map(|(name, latencies)| {
        let ms = |share| latencies.percentile(share).as_secs_f64() * 1e3;
        format!("{name}: p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99))
    });
    let alt = words.collect::<Vec<_>>().join("; ");
    let plot = Plot::new(&format!("{way}, {kind}"), &alt, Axis::nines("share of requests", most), y);
    let plot = curves.into_iter().fold(plot, |plot, (name, points)| plot.with(Layer::Line(name, points)));
    Ok(plot.size(SIZE.0, SIZE.1).legend(Corner::UpperLeft).draw()?)
}

fn over_throughput(way: &str, series: &[&Series]) -> Result<Picture> {
    let mut open: Vec<_> = series.iter().filter(|s| matches!(s.kind, Kind::Open { .. })).collect();
    // What an echo does is no throughput of the box.
    let own = series.iter().filter(|series| series.stage != Stage::Transport);
    let closed: Vec<_> = own.filter(|series| matches!(series.kind, Kind::Closed { .. })).collect();
    open.sort_by(|a, b| median(&a.rates()).total_cmp(&median(&b.rates())));
    let at = |series: &Series, share: f64| {
        (median(&series.rates()), median(&series.percentiles_ms(share)).log10())
    };
    let shares = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let points = |of: &[&&Series], share| of.iter().map(|series| at(series, share)).collect::<Vec<_>>();
    let everything: Vec<_> = shares
        .iter()
        .flat_map(|(_, share)| [points(&open, *share), points(&closed, *share)].concat())
        .collect();
    let most = everything.iter().map(|point| point.0).fold(0.0, f64::max);
    let alt = open.iter().map(|series| {
        let (rate, p99) = at(series, 0.99);
        format!("{rate:.0} a second: p99 {:.2} ms", 10_f64.powf(p99))
    });
    let alt = alt.collect::<Vec<_>>().join("; ");
    let times: Vec<f64> = everything.iter().map(|point| point.1).collect();
    let y = Axis::powers("ms", below_legend(&times, 4));
    let x = Axis::numbers("answers a second", 0.0, 1.06 * most);
    let mut plot = Plot::new(&format!("{way}, latency over throughput"), &alt, x, y);
    for (name, share) in shares {
        plot = plot.with(Layer::Line(format!("open, {name}"), points(&open, share)));
    }
    plot = plot.with(Layer::Points("closed, p99".into(), points(&closed, 0.99)));
    Ok(plot.size(SIZE.0, SIZE.1).legend(Corner::UpperLeft).draw()?)
}

fn batches(series: &[&Series]) -> Result<Picture> {
    let rates = |series: &Series| -> Vec<f64> {
        series.rates().iter().map(|rate| rate * series.batch as f64).collect()
    };
    let at = |series: &Series| (series.batch as f64).log10();
    let points: Vec<_> = series.iter().map(|series| (at(series), median(&rates(series)))).collect();
    let spread = series.iter().map(|series| {
        let rates = rates(series);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        (least, rates.iter().copied().fold(0.0, f64::max), at(series))
    });
    let alt = series
        .iter()
        .zip(&points)
        .map(|(series, point)| format!("batch {}: {:.0} variants a second", series.batch, point.1));
    let alt = alt.collect::<Vec<_>>().join("; ");
    let spread: Vec<_> = spread.collect();
    let most = spread.iter().map(|(_, most, _)| *most).fold(0.0, f64::max);
    let x = Axis::powers("variants in a batch", points.iter().map(|point| point.0));
    Ok(Plot::new("throughput over batch size", &alt, x, Axis::numbers("variants a second", 0.0, 1.05 * most))
        .with(Layer::Line(String::new(), points.clone()))
        .with(Layer::Intervals { upright: true, all: spread })
        .size(SIZE.0, SIZE.1)
        .draw()?)
}

fn table(way: &str, series: &[&Series]) -> Table {
    let mut columns = vec!["load", "asked", "no answer", "rate, /s"];
    let shares = SHARES.map(|(name, _)| format!("{name}, ms"));
    columns.extend(shares.iter().map(String::as_str));
    columns.extend(["max, ms", "sent late, p99, ms"]);
    let caption = format!(
        "{way}: medians of the repeats, from least to most in brackets; * rests on fewer than {FEW} requests beyond it"
    );
    let mut table = Table::new(&caption, &columns);
    for series in series {
        let sum = |of: fn(&Loaded) -> u64| series.repeats.iter().map(of).sum::<u64>();
        let lost = [
            ("refused", sum(|r| r.refused)),
            ("failed", sum(|r| r.failed)),
            ("abandoned", sum(|r| r.abandoned)),
        ];
        let lost: Vec<_> =
            lost.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        let lost = if lost.is_empty() { "0".into() } else { lost.join(", ") };
        let all = series.latencies();
        let mut late = Latencies::default();
        series.repeats.iter().for_each(|repeat| late.merge(&repeat.late));
        let times = SHARES.map(|(_, share)| {
            let few = if all.beyond(share) < FEW { " *" } else { "" };
            format!("{}{few}", with_spread(&series.percentiles_ms(share)))
        });
        let ms = |time: std::time::Duration| digits(time.as_secs_f64() * 1e3);
        let mut row = vec![if short(way, series).is_empty() { way } else { short(way, series) }.to_owned()];
        row.extend([sum(|r| r.asked).to_string(), lost]);
        row.push(with_spread(&series.rates()));
        row.extend(times);
        row.push(ms(all.max()));
        row.push(if late.count() > 0 { ms(late.percentile(0.99)) } else { "–".into() });
        table.row(row);
    }
    table
}

/// The median, and the least and the most, in three digits each.
fn with_spread(values: &[f64]) -> String {
    let (least, most) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (v.min(l), v.max(m)));
    match values.len() {
        0 => "–".into(),
        1 => digits(least),
        _ => format!("{} ({}–{})", digits(median(values)), digits(least), digits(most)),
    }
}

/// A number in three digits, whatever its size.
fn digits(value: f64) -> String {
    if value <= 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let places = (2 - value.log10().floor() as i32).max(0) as usize;
    format!("{value:.places$}")
}

/// What the machine told.
fn environment(environment: &Environment) -> Vec<(&'static str, String)> {
    let e = environment;
    let told = [
        ("board", e.board.clone()),
        ("processor", e.cpu.clone()),
        ("architecture", Some(e.architecture.clone())),
        ("cores", Some(e.cores.to_string())),
        ("hypervisor below", Some(if e.hypervisor { "yes" } else { "none told" }.to_owned())),
        ("memory", e.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)))),
        ("kernel", e.kernel.clone()),
        ("boost", e.boost.map(|boost| boost.to_string())),
        ("power mode", e.power_mode.clone()),
        ("jetson_clocks", (!e.jetson_clocks.is_empty()).then(|| e.jetson_clocks.join("; "))),
        ("load average", e.load_average.map(|[one, five, fifteen]| format!("{one}, {five}, {fifteen}"))),
        ("machine (hashed)", e.machine.clone()),
    ];
    let mut facts: Vec<_> = told.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let versions = e.versions.iter().map(|(name, version)| format!("{name}: {version}"));
    facts.push(("versions", versions.collect::<Vec<_>>().join("; ")));
    let zones = e.temperatures.iter().map(|at| format!("{} {:.1} °C", at.zone, at.celsius));
    facts.push((
        "temperatures",
        Some(zones.collect::<Vec<_>>().join("; "))
            .filter(|t| !t.is_empty())
            .unwrap_or_else(|| "not told".into()),
    ));
    facts
}

fn clocks(environment: &Environment) -> Table {
    let mut table = Table::new(
        "Clocks of the cores; a system that does not tell has none here",
        &["core", "governor", "now, MHz", "least, MHz", "most, MHz"],
    );
    for core in &environment.clocks {
        let mhz =
            |khz: Option<u64>| khz.map_or_else(|| "–".to_owned(), |khz| format!("{:.0}", khz as f64 / 1e3));
        let governor = core.governor.clone().unwrap_or_else(|| "–".into());
        table.row([core.name.clone(), governor, mhz(core.now_khz), mhz(core.min_khz), mhz(core.max_khz)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use locus_measure::SCHEMA;

    use super::*;

    /// The name of what a picture is written in, which nothing is fetched from.
    const SVG: &str = "http://www.w3.org/2000/svg";

    fn a_run() -> Results {
        let repeat = |rate: u64| {
            let mut loaded =
                Loaded { seconds: 1.0, answers_per_second: vec![rate], answered: 500, ..Loaded::default() };
            (1..=500).for_each(|us| loaded.latencies.record(Duration::from_micros(1_000 + us * us)));
            loaded
        };
        let series = |name: &str, stage, kind, batch| Series {
            name: name.into(),
            stage,
            kind,
            batch,
            warm_up_s: 1.0,
            repeats: vec![repeat(10), repeat(12)],
        };
        let (closed, open) = (Kind::Closed { clients: 1 }, |rate| Kind::Open { rate, clients: 8 });
        Results {
            schema: SCHEMA,
            title: "Latency <of a box>".into(),
            about: "about".into(),
            command: "locusctl bench".into(),
            seed: 1,
            date: "2026-11-26".into(),
            revision: None,
            environment: Environment::default(),
            series: vec![
                series("bare engine, batch 1", Stage::Engine, closed, 1),
                series("bare engine, batch 8", Stage::Engine, closed, 8),
                series("HTTPS, closed, 1 client", Stage::EndToEnd, closed, 1),
                series("HTTPS, open at 50 %", Stage::EndToEnd, open(5.0), 1),
                series("HTTPS, open at 80 %", Stage::EndToEnd, open(8.0), 1),
                series("http", Stage::EndToEnd, closed, 1),
            ],
        }
    }

    #[test]
    fn a_page_has_every_series_in_a_plot_and_a_table_and_asks_for_nothing_from_outside() {
        let html = page(&[("a".into(), a_run())]).unwrap();
        for expected in [
            "Latency &lt;of a box&gt;",
            "<h3>HTTPS</h3>",
            "open at 80 %",
            "99 %",
            "not told",
            "batch 8",
            "11.0 (10.0–12.0)",
        ] {
            assert!(html.contains(expected), "{expected}");
        }
        // Closed and open curves and throughput of HTTPS; one curve and batches of the engine; one curve of the last.
        assert_eq!(html.matches("<svg role=\"img\"").count(), 6);
        for outside in ["http://", "https://", "<script", "url(", "src="] {
            assert!(!html.replace(SVG, "").contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_curve_rises_and_ends_where_nothing_lies_beyond() {
        let latencies = a_run().series[0].latencies();
        let points = curve(&latencies);
        assert!(points.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1));
        assert!((points[points.len() - 1].0 - 3.0).abs() < 1e-9, "{:?}", points.last());
        assert_eq!(curve(&Latencies::default()), []);
    }
}
