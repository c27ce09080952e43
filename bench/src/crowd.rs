//! Many terminals: how much of the bare engine's throughput arrives, what overload does, what a second box brings.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result};
use locus_edge::client::Terminal;
use locus_tests::{
    Daemon, Mosquitto, Rig,
    load::{Asker, Tally, askers, drive, percentile},
    peer, root, vitals,
};

use crate::{
    bare::Bare,
    figures::{Figure, Results, Run},
};

/// Time of an answer of the fake engine, one row at a time.
const FAKE_MS: u32 = 5;
/// What waits and runs at most under overload: who is let in waits for seven others.
const SHORT_QUEUE: u32 = 8;

pub(crate) fn run(seconds: u64, out: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = Run::of(&format!("crowd --seconds {seconds}"));
    let lasting = Duration::from_secs(seconds);
    let mut figures = Vec::new();
    runtime.block_on(async {
        throughput(&run, lasting, &mut figures).await?;
        overload(&run, lasting, &mut figures).await?;
        sharing(&run, lasting, &mut figures).await
    })?;
    let about = "Terminals, broker and box on the same machine. Throughput: the shipped model in INT8 with one thread inside operators, so \
                 that one core runs the model and the other everything else; terminals ask over MQTT (mosquitto) as fast as they are \
                 answered, every answer durable first; the bare engine runs batches of the size that the box had on average. Overload: \
                 the fake engine at 5 ms an answer, over MQTT, HTTPS and serial, with limits.queue_units = 8. Sharing: the same engine at 5 ms, 16 terminals at one \
                 mosquitto, one box and two.";
    Results { title: "Crowds", about: about.into(), figures }.write(out)
}

fn all(tallies: &BTreeMap<&'static str, Tally>) -> (usize, usize, Vec<Duration>, Vec<Duration>) {
    let (mut asked, mut bad, mut answered, mut refused) = (0, 0, Vec::new(), Vec::new());
    for tally in tallies.values() {
        asked += tally.asked();
        bad += tally.lost + tally.without_hint + tally.faults.values().sum::<usize>();
        answered.extend(tally.answered.iter().copied());
        refused.extend(tally.refused.iter().copied());
    }
    (asked, bad, answered, refused)
}

/// Rows of one run, on average, since the daemon started.
fn mean_rows(daemon: &Daemon) -> Result<f64> {
    let metrics = String::from_utf8(daemon.operator()?.get("/metrics")?.1)?;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse::<f64>().ok()
    };
    let rows = value("locus_batch_rows_sum").zip(value("locus_batch_rows_count"));
    rows.map(|(sum, count)| sum / count).context("the metrics say nothing of batches")
}

/// Rows a second of the engine alone, in batches of `rows`.
fn bare(rows: usize, lasting: Duration) -> Result<f64> {
    let Bare { mut scorer, encoded } = Bare::open(&root().join("models/variant-effect.locus"), rows, 1)?;
    let (mut done, started) = (0, std::time::Instant::now());
    while started.elapsed() < lasting {
        scorer.score(&encoded)?;
        done += rows;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

async fn throughput(run: &Run, lasting: Duration, figures: &mut Vec<Figure>) -> Result<()> {
    let server = peer("the mosquitto figures", "mosquitto").context("mosquitto is not installed")?;
    let folder = tempfile::tempdir()?;
    let (_mosquitto, port) = Mosquitto::start_anywhere(&server, folder.path())?;
    let rig = Rig::new(&format!(
        "[mqtt]\nmode = \"external\"\nport = {port}\n[engine]\nintra_threads = 1\n[limits]\nqueue_units = 256\n"
    ))?;
    rig.flash()?;
    let daemon = rig.start()?;
    let terminals = askers(&rig, &daemon, 64, 0, false).await?;
    let (terminals, _) = drive(terminals, Duration::ZERO, Duration::from_secs(1), "warm").await?;
    let (_, tallies) = drive(terminals, Duration::ZERO, lasting, "through").await?;
    let rows = mean_rows(&daemon)?;
    daemon.terminate()?;
    let (_, _, answered, _) = all(&tallies);
    let rate = answered.len() as f64 / lasting.as_secs_f64();
    let alone = bare((rows.round() as usize).max(1), lasting)?;
    figures.push(run.figure(
        "bare engine, batches of the box's mean size",
        alone,
        "answers/s",
        format!("{rows:.1} rows, {} s", lasting.as_secs()),
        None,
    ));
    figures.push(run.figure(
        "box, 64 terminals over MQTT, journal durable",
        rate,
        "answers/s",
        format!("{} answers, p99 {:?}", answered.len(), percentile(&answered, 0.99)),
        format!("{:.2} of the bare engine; bar 0.90", rate / alone),
    ));
    Ok(())
}

async fn overload(run: &Run, lasting: Duration, figures: &mut Vec<Figure>) -> Result<()> {
    let rig = Rig::new(&format!("[limits]\nqueue_units = {SHORT_QUEUE}\n"))?;
    rig.fake(FAKE_MS, 1)?;
    rig.flash()?;
    let daemon = rig.start()?;
    // What it really does, with nobody refused: a few terminals that ask on.
    let few = askers(&rig, &daemon, 1, 2, false).await?;
    let (_, tallies) = drive(few, Duration::ZERO, lasting, "capacity").await?;
    let capacity = all(&tallies).2.len() as f64 / lasting.as_secs_f64();
    let terminals = askers(&rig, &daemon, 60, 60, true).await?;
    let count = terminals.len() as f64;
    let before = vitals(daemon.pid()).context("the daemon is gone")?;
    let pace = |times: f64| Duration::from_secs_f64(count / (times * capacity));
    let (terminals, calm_tallies) = drive(terminals, pace(0.8), lasting, "calm").await?;
    let (_, flood) = drive(terminals, pace(10.0), lasting, "flood").await?;
    let after = vitals(daemon.pid()).context("the daemon is gone")?;
    daemon.terminate()?;
    let (_, _, calm, _) = all(&calm_tallies);
    let (asked, bad, answered, refused) = all(&flood);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (at_80, at_10) = (ms(percentile(&calm, 0.99)), ms(percentile(&answered, 0.99)));
    let seconds = lasting.as_secs_f64();
    let kept_out = all(&calm_tallies).3.len();
    figures.push(run.figure(
        "80 % load, p99",
        at_80,
        "ms",
        format!("{} answers, {kept_out} refusals", calm.len()),
        None,
    ));
    figures.push(run.figure(
        "overload, p99 of what is admitted",
        at_10,
        "ms",
        format!("{:.1} times the capacity asked for", asked as f64 / seconds / capacity),
        format!("{:.2} of it at 80 % load; bar 2", at_10 / at_80),
    ));
    figures.push(run.figure(
        "overload, p99 of a refusal with its hint",
        ms(percentile(&refused, 0.99)),
        "ms",
        format!("{} refusals, {bad} other outcomes", refused.len()),
        "bar 50 ms".to_owned(),
    ));
    let each = flood.iter().map(|(transport, tally)| format!("{transport} {}", tally.answered.len()));
    figures.push(run.figure(
        "overload, answered of the capacity",
        answered.len() as f64 / seconds / capacity,
        "",
        each.collect::<Vec<_>>().join(", "),
        "bar 0.90".to_owned(),
    ));
    figures.push(run.figure(
        "overload, memory afterwards less before",
        (after.rss_kib as f64 - before.rss_kib as f64) / 1024.0,
        "MiB",
        format!("{} MiB before", before.rss_kib / 1024),
        None,
    ));
    Ok(())
}

/// Answers a second of so many boxes at one broker.
async fn shared(boxes: usize, fake: bool, lasting: Duration) -> Result<f64> {
    let server = peer("the mosquitto figures", "mosquitto").context("mosquitto is not installed")?;
    let folder = tempfile::tempdir()?;
    let (_mosquitto, port) = Mosquitto::start_anywhere(&server, folder.path())?;
    let mut running = Vec::new();
    for n in 1..=boxes {
        let rig = Rig::new(&format!("[mqtt]\nmode = \"external\"\nport = {port}\nsession_expiry_s = 0\n"))?;
        rig.configure(|text| text.replace("box-1", &format!("box-{n}")))?;
        if fake {
            rig.fake(FAKE_MS, 1)?;
        }
        rig.flash()?;
        let daemon = rig.start()?;
        running.push((rig, daemon));
    }
    let mut terminals = Vec::new();
    for n in 0..16 {
        let terminal = Terminal::Mqtt(Box::new(running[0].1.mqtt(&format!("ward-{n}")).await?));
        terminals.push(Asker { transport: "mqtt", terminal });
    }
    let (terminals, _) = drive(terminals, Duration::ZERO, Duration::from_secs(1), "warm").await?;
    let (_, tallies) = drive(terminals, Duration::ZERO, lasting, "share").await?;
    Ok(all(&tallies).2.len() as f64 / lasting.as_secs_f64())
}

async fn sharing(run: &Run, lasting: Duration, figures: &mut Vec<Figure>) -> Result<()> {
    for (name, fake, bar) in [
        ("fake engine, 5 ms an answer", true, "; bar 1.9"),
        ("shipped model, on the same two cores", false, ""),
    ] {
        let (one, two) = (shared(1, fake, lasting).await?, shared(2, fake, lasting).await?);
        figures.push(run.figure(
            format!("{name}: two boxes at one broker"),
            two,
            "answers/s",
            format!("one box {one:.0} answers/s"),
            format!("{:.2} of one box{bar}", two / one),
        ));
    }
    Ok(())
}
