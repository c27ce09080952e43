//! What a box costs when it starts and while it waits: time to readiness, time to the first answer, memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use locus_edge::client::Terminal;
use locus_firmware_config::message::Outcome;
use locus_tests::{
    Daemon, Rig, facts,
    load::{askers, drive},
    vitals,
};

use crate::{
    figures::{Results, Run},
    sample::Sample,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Starts that the clock does not count: afterwards program, library and model are in the page cache.
const WARM_UP: usize = 2;

pub(crate) fn run(starts: usize, seconds: u64, out: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rig = Rig::new("")?;
    rig.flash()?;
    let (mut ready, mut first) = (Sample::default(), Sample::default());
    for start in 0..WARM_UP + starts {
        let started = Instant::now();
        let daemon = rig.start()?;
        let took = started.elapsed();
        runtime.block_on(one_answer(&daemon))?;
        if start >= WARM_UP {
            ready.push(took);
            first.push(started.elapsed());
        }
        daemon.terminate()?;
    }
    let daemon = rig.start()?;
    let pid = daemon.pid();
    let idle = vitals(pid).context("the daemon is gone")?;
    let lasting = Duration::from_secs(seconds);
    let tallies = runtime.block_on(async {
        let askers = askers(&rig, &daemon, 8, 8, true).await?;
        drive(askers, Duration::ZERO, lasting, "load").await.map(|(_, tallies)| tallies)
    })?;
    let loaded = vitals(pid).context("the daemon is gone")?;
    daemon.terminate()?;
    let answered: usize = tallies.values().map(|tally| tally.answered.len()).sum();
    let run = Run::of(&format!("appliance --starts {starts} --seconds {seconds}"));
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut figures = Vec::new();
    for (name, sample, bar) in
        [("start to ready", &ready, "bar 1 s"), ("start to the first answer over HTTPS", &first, "bar 1.2 s")]
    {
        for (share, word) in [(0.5, "p50"), (1.0, "max")] {
            let spread = format!("{} (ms)", sample.spread(share));
            let name = format!("{name}, {word}");
            figures.push(run.figure(name, sample.percentile(share) / 1e3, "s", spread, bar.to_owned()));
        }
    }
    let once = "one box";
    figures.push(run.figure("memory, idle", mib(idle.rss_kib), "MiB", once, "bar 150 MB".to_owned()));
    let spread = format!("{answered} answers by 17 terminals in {seconds} s");
    figures.push(run.figure(
        "memory, most under load",
        mib(loaded.peak_kib),
        "MiB",
        spread,
        "bar 300 MB".to_owned(),
    ));
    let about = "The shipped variant model on ONNX Runtime's CPU provider, all buckets warm; program, library and model in the page \
                 cache. From the start of the process, with the embedded broker, HTTPS and one serial line. Memory is resident memory, \
                 shared pages of libraries included.";
    Results { title: "Start and memory", about: about.into(), figures }.write(out)
}

async fn one_answer(daemon: &Daemon) -> Result<()> {
    let mut terminal = Terminal::Http(daemon.http("ward-1")?);
    match terminal.ask(&facts().variants[0].request("first"), PATIENCE).await? {
        Outcome::Answer(_) => Ok(()),
        Outcome::Fault(fault) => bail!("{}: {}", fault.code.as_str(), fault.message),
    }
}
