//! `locusctl bench` on a real box, and what reads its results.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, process::Output, time::Duration};

use locus_measure::{Kind, Latencies, Results, Stage};
use locus_tests::{Rig, program};
use serde_json::Value;

/// The name of what a picture is written in, which nothing is fetched from.
const SVG: &str = "http://www.w3.org/2000/svg";

/// Records of the box's journal, by its own word.
fn kept(rig: &Rig) -> u64 {
    let health: Value = serde_json::from_str(&rig.ctl(&["status"]).unwrap()).unwrap();
    health["journal"]["records"].as_u64().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Measures, and reads what was written.
fn bench(rig: &Rig, name: &str, arguments: &[&str]) -> Results {
    let out = rig.path(name).display().to_string();
    let short = ["--seconds", "1", "--warm-up", "0", "--repeats", "2", "--out", &out];
    let output = rig.ctl_output(&[&["bench"], arguments, &short[..]].concat()).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("answers in 2 repeats") && printed.contains("p99.9"), "{printed}");
    Results::read(&rig.path(name)).unwrap()
}

#[test]
fn a_bench_asks_only_after_a_yes_and_its_counts_are_the_boxs_own() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let refused = rig.ctl_output(&["bench", "--seconds", "1"]).unwrap();
    assert!(!refused.status.success() && said(&refused).contains("real one"), "{}", said(&refused));
    assert!(said(&refused).contains("expected --yes"), "{}", said(&refused));
    assert_eq!(kept(&rig), 0);

    let closed = bench(&rig, "closed.json", &["--yes", "--clients", "2"]);
    let series = &closed.series[0];
    assert_eq!(
        (series.kind, series.stage, series.repeats.len()),
        (Kind::Closed { clients: 2 }, Stage::EndToEnd, 2)
    );
    let asked: u64 = series.repeats.iter().map(|repeat| repeat.asked).sum();
    // One more, before the first repeat, shows that there are answers. Each has a record; without warm-up all of them count.
    assert_eq!(kept(&rig), asked + 1);
    assert_eq!(series.latencies().count(), asked);
    let metrics = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    let answered = metrics.lines().find(|line| {
        line.starts_with("locus_requests_total") && line.contains("\"http\"") && line.contains("\"answered\"")
    });
    let answered: u64 = answered.unwrap().split_whitespace().last().unwrap().parse().unwrap();
    assert_eq!(answered, asked + 1, "{metrics}");
    let versions = &closed.environment.versions;
    assert!(
        versions.contains_key("locusd") && versions.contains_key("precision of variant-effect"),
        "{versions:?}"
    );

    let port = rig.path("serial-terminal").display().to_string();
    let serial = ["--yes", "--transport", "serial", "--serial-port", &port];
    let two = rig.ctl_output(&[&["bench", "--clients", "2"], &serial[..]].concat()).unwrap();
    assert!(said(&two).contains("a serial line has one terminal"), "{}", said(&two));
    bench(&rig, "serial.json", &serial);
    let open = bench(&rig, "open.json", &["--yes", "--transport", "mqtt", "--rate", "20", "--clients", "4"]);
    assert_eq!(open.series[0].kind, Kind::Open { rate: 20.0, clients: 4 });
    assert_eq!(open.series[0].repeats[0].late.count(), open.series[0].repeats[0].asked);

    daemon.terminate().unwrap();
    // Whoever reads the journal sees that nobody was asked about.
    let exported = rig.exported().unwrap();
    let of = |record: &Value| record.to_string();
    assert!(exported.iter().map(of).all(|record| record.contains("bench-") && record.contains("\"bench\"")));
}

#[test]
fn the_engine_alone_is_measured_beside_the_daemon_and_the_box_is_asked_nothing() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let engine = bench(&rig, "engine.json", &["--engine"]);
    assert!(engine.series.len() > 2 && engine.series.iter().all(|series| series.stage == Stage::Engine));
    assert_eq!((engine.series[1].batch, kept(&rig)), (2, 0));
    let other = rig.ctl_output(&["bench", "--engine", "--model", "other"]).unwrap();
    assert!(!other.status.success() && said(&other).contains("other"), "{}", said(&other));
    daemon.terminate().unwrap();
}

#[test]
fn results_equal_themselves_what_is_twice_as_slow_fails_and_a_page_has_all_of_it() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut results = bench(&rig, "before.json", &["--yes", "--clients", "2"]);
    daemon.terminate().unwrap();
    for repeat in &mut results.series[0].repeats {
        let mut slow = Latencies::default();
        for (time, _) in repeat.latencies.cumulative() {
            slow.record(2 * time + Duration::from_millis(50));
        }
        repeat.latencies = slow;
    }
    results.write(&rig.path("after.json")).unwrap();
    let compare = |other: &str| {
        let files = [rig.path("before.json"), rig.path(other)];
        program("locus-bench").arg("compare").args(files).args(["--fail-above", "1.10"]).output().unwrap()
    };
    let same = compare("before.json");
    assert!(same.status.success() && said(&same).contains("http, 2 clients, p50"), "{}", said(&same));
    let slower = compare("after.json");
    assert_eq!(slower.status.code(), Some(1), "{}", said(&slower));
    assert!(said(&slower).contains("worse by more than 1.1: http, 2 clients, p50"), "{}", said(&slower));

    let page = rig.path("report.html");
    let files = [rig.path("before.json"), rig.path("after.json")];
    let drawn = program("locus-bench").arg("report").args(files).arg("--out").arg(&page).output().unwrap();
    assert!(drawn.status.success(), "{}", said(&drawn));
    let html = fs::read_to_string(page).unwrap();
    assert!(html.matches("<svg").count() >= 2 && html.contains("after: locusctl bench"));
    for outside in ["http://", "https://", "<script", "url(", "src="] {
        assert!(!html.replace(SVG, "").contains(outside), "{outside}");
    }
}
