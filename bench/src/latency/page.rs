//! The figures of a run that docs/benchmarks.md shows.

use locus_measure::{FEW, Results, SHARES, Series, Stage, median};

use super::plan::{closed_name, open_name};
use crate::figures::{self, Figure, Run};

/// What the numbers mean.
pub(super) const ABOUT: &str = "Clients, brokers and box on the same machine, so that the harness takes part of the cores. Closed loop: each \
     client waits for its answer before it asks again, and times count from when a request was sent; it says how much a box does. Open loop: \
     requests come as a Poisson process at a share of what the closed loops of the first repeat did, and times count from when a request \
     was due, also where no connection was free to send it (no coordinated omission); it says how long people wait. Bare engine: \
     the model alone, variants encoded beforehand. Pipeline: admission, tokens, engine and durable journal in the harness's own process. \
     The way alone: an echo of an answer's size over the same broker or line, in a process in place of the box, that answers at once; \
     of `GET /ready` over HTTPS. Every answer of a box or pipeline is in its journal, written and synced, before it leaves. Everything is done once in each repeat, with boxes \
     that are started anew; values are medians of the repeats' own, spreads from least to most. All of it, with every histogram: \
     `bench/results/latency/`; `locus-bench report` draws it.";

/// Ways that have all loads.
const WAYS: [&str; 5] =
    ["pipeline", "HTTPS", "MQTT over the embedded broker", "MQTT over mosquitto", "serial (pty)"];

/// Of all that was measured, what says most.
pub(super) fn figures(results: &Results, command: &str) -> figures::Results {
    let run = Run::of(command);
    let named = |name: &str| results.series.iter().find(|series| series.name == name);
    let mut figures = Vec::new();
    for series in
        results.series.iter().filter(|series| matches!(series.stage, Stage::Harness | Stage::Transport))
    {
        figures.extend(percentile(&run, series, 0));
    }
    for series in results.series.iter().filter(|series| series.stage == Stage::Engine) {
        figures.extend(rate(&run, series, "variants/s"));
        if series.batch == 1 {
            figures.extend([0, 2].into_iter().filter_map(|p| percentile(&run, series, p)));
        }
    }
    for way in WAYS {
        let one = named(&closed_name(way, 1));
        figures.extend([0, 2].into_iter().filter_map(|p| percentile(&run, one?, p)));
        figures.extend(named(&closed_name(way, 16)).and_then(|series| rate(&run, series, "answers/s")));
        for share in [50, 80, 90] {
            figures.extend(named(&open_name(way, share)).and_then(|series| percentile(&run, series, 2)));
        }
    }
    figures.iter_mut().for_each(|figure| figure.seed = Some(results.seed));
    figures::Results { title: "Latency", about: ABOUT.into(), figures }
}

/// From least to most.
fn spread(values: &[f64], digits: usize) -> String {
    let (least, most) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (v.min(l), v.max(m)));
    format!("{least:.digits$} to {most:.digits$} over {} repeats", values.len())
}

fn percentile(run: &Run, series: &Series, which: usize) -> Option<Figure> {
    let (name, share) = *SHARES.get(which)?;
    let (mut values, all, mut unit) = (series.percentiles_ms(share), series.latencies(), "ms");
    if median(&values) < 0.1 {
        values.iter_mut().for_each(|value| *value *= 1e3);
        unit = "µs";
    }
    let sum = |of: fn(&locus_measure::Loaded) -> u64| series.repeats.iter().map(of).sum::<u64>();
    let mut beside = Vec::new();
    if let locus_measure::Kind::Open { rate, .. } = series.kind {
        let mut late = locus_measure::Latencies::default();
        series.repeats.iter().for_each(|repeat| late.merge(&repeat.late));
        let late = late.percentile(share).as_secs_f64() * 1e3;
        beside.push(format!("{rate:.1}/s; sent late by {late:.3} ms ({name})"));
    }
    let beyond = all.beyond(share);
    if beyond < FEW {
        beside.push(format!("rests on {beyond} answers"));
    }
    let lost =
        [("refused", sum(|r| r.refused)), ("failed", sum(|r| r.failed)), ("abandoned", sum(|r| r.abandoned))];
    beside.extend(lost.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")));
    let spread = format!("{}, {} answers", spread(&values, 3), all.count());
    let beside = (!beside.is_empty()).then(|| beside.join("; "));
    Some(run.figure(format!("{}, {name}", series.name), median(&values), unit, spread, beside))
}

fn rate(run: &Run, series: &Series, unit: &'static str) -> Option<Figure> {
    let rates: Vec<f64> = series.rates().iter().map(|rate| rate * series.batch as f64).collect();
    let name = format!("{}, throughput", series.name);
    Some(run.figure(name, median(&rates), unit, spread(&rates, 1), None))
}
