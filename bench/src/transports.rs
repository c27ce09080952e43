//! What a terminal waits for, beside what the model takes and what the broker takes.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use locus_edge::client::{HttpTerminal, SerialTerminal, Terminal};
use locus_firmware_config::message::Outcome;
use locus_tests::{Daemon, Fact, Mosquitto, Rig, facts, peer, root};
use tokio_serial::{SerialPort as _, SerialStream};

use crate::{
    bare::Bare,
    echo::{self, Trips},
    figures::{Results, Run},
    sample::Sample,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Variants that are drawn.
pub(crate) const VARIANTS: usize = 12;
/// Runs before the clock counts.
pub(crate) const WARM_UP: usize = 100;

/// A file system in memory: there a durable write costs what its code costs.
const MEMORY: &str = "/dev/shm";
/// Time between two records.
const BETWEEN: Duration = Duration::from_millis(1);
/// Bytes of a record, about.
const RECORD: usize = 4_096;

/// Stages that an answer states, beside the engine.
const STAGES: [&str; 3] = ["queue", "tokenise", "journal"];

/// Times of one transport: until the answer came, what of them the engine did not take, and what of that stages took.
#[derive(Default)]
struct Asked {
    whole: Sample,
    beyond: Sample,
    stages: [Sample; STAGES.len()],
}

impl Asked {
    fn push(&mut self, whole: Duration, outcome: Outcome) -> Result<()> {
        let timing = match outcome {
            Outcome::Answer(answer) => answer.timing_us,
            Outcome::Fault(fault) => bail!("{}: {}", fault.code.as_str(), fault.message),
        };
        self.whole.push(whole);
        self.beyond.push(whole.saturating_sub(Duration::from_micros(timing.infer)));
        for (stage, us) in self.stages.iter_mut().zip([timing.queue, timing.tokenize, timing.journal]) {
            stage.push(Duration::from_micros(us));
        }
        Ok(())
    }

    fn stages(&self, share: f64) -> String {
        let each = STAGES.iter().zip(&self.stages);
        each.map(|(name, stage)| format!("{name} {:.3}", stage.percentile(share)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

pub(crate) fn run(requests: usize, out: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = Run::of(&format!("transports --requests {requests}"));
    let mut figures = Vec::new();
    let mut show = |name: &str, sample: &Sample, beside: &dyn Fn(f64, f64) -> Option<String>| {
        for share in [0.5, 0.99] {
            let (name, value) = (format!("{name}, p{:.0}", share * 100.0), sample.percentile(share));
            figures.push(run.figure(name, value, "ms", sample.spread(share), beside(share, value)));
        }
    };
    let bare = engine(requests)?;
    show("bare engine, batch 1", &bare, &|_, _| None);
    let hold = Duration::from_secs_f64(bare.percentile(0.5) / 1e3);
    let folder = tempfile::tempdir()?;
    let sync = synced(folder.path(), requests)?;
    show("a write of 4 KiB and fdatasync on this disk", &sync, &|_, _| None);
    let memory = Path::new(MEMORY);
    for (place, parent) in [("in memory", memory), ("on disk", folder.path())] {
        let trips = runtime.block_on(measure(parent, requests, hold))?;
        for (name, trip, asked) in &trips {
            let name = format!("{name}, state {place}");
            let disk = |share| if place == "on disk" { sync.percentile(share) } else { 0.0 };
            show(&name, &asked.whole, &|_, _| None);
            show(&format!("{name}: beyond the engine"), &asked.beyond, &|share, value| {
                let bar = if share == 0.5 { 0.2 } else { 0.5 };
                let (own, disk) = (trip.own.percentile(share), disk(share));
                let at_once = trip.at_once.as_ref().map(|trip| trip.percentile(share));
                let at_once = at_once.map(|ms| format!(" ({ms:.3} at once)")).unwrap_or_default();
                let (left, stages) = (value - own - disk, asked.stages(share));
                Some(format!(
                    "{left:.3} without the way's own {own:.3}{at_once} and fdatasync's {disk:.3}; bar {bar}; {stages}"
                ))
            });
        }
    }
    let about = "The box's programs are the workspace's, or those that LOCUS_PROGRAMS names (of a package: a release). Sequential requests of one terminal, one variant with transcript each, all in one run; MQTT with QoS 1 and nodelay on \
                 both ends. The time of a request holds its journal record, written and synced. State in memory: the box's folder is in \
                 /dev/shm, where syncing costs nothing. Beyond the engine: each request's time less the inference time that its own \
                 answer states; queue, tokenise and journal are as answers state them. The way's own: the same percentile of an echo of the same \
                 sizes over the same broker or line, in a process in place of the box that computes for the engine's median time before it \
                 answers, less that time (asked again at once, everybody on the way is still awake, which nobody is after a model ran); \
                 of `GET /ready` over the same connection.";
    Results { title: "Transports", about: about.into(), figures }.write(out)
}

/// Appends a record's worth and syncs it, as the journal does for one answer: one in a while, not one after the other.
fn synced(folder: &Path, times: usize) -> Result<Sample> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let (record, mut sample) = (vec![0xa5; RECORD], Sample::default());
    for n in 0..WARM_UP + times {
        std::thread::sleep(BETWEEN);
        let started = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    Ok(sample)
}

/// Encoded once, run again and again: what the engine takes by itself.
fn engine(requests: usize) -> Result<Sample> {
    let Bare { mut scorer, encoded } = Bare::open(&root().join("models/variant-effect.locus"), VARIANTS, 0)?;
    let mut sample = Sample::default();
    for n in 0..WARM_UP + requests {
        let one = &encoded[n % encoded.len()..=n % encoded.len()];
        let started = Instant::now();
        scorer.score(one)?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    Ok(sample)
}

/// Every transport of boxes that live below a folder: its name, the broker's own round trip, and its times.
async fn measure(below: &Path, requests: usize, hold: Duration) -> Result<Vec<(&'static str, Trips, Asked)>> {
    let server = peer("the mosquitto figures", "mosquitto").context("mosquitto is not installed")?;
    let folder = tempfile::tempdir()?;
    let (_mosquitto, port) = Mosquitto::start_anywhere(&server, folder.path())?;
    let external = Rig::below(below, &format!("[mqtt]\nmode = \"external\"\nport = {port}\n"))?;
    external.flash()?;
    let trip = echo::round_trips(async |hold| echo::at_broker(port, hold).await, requests, hold).await?;
    let daemon = external.start()?;
    let mut all = vec![("MQTT over mosquitto", trip, mqtt(&daemon, requests).await?)];
    daemon.terminate()?;

    let embedded = Rig::below(below, "")?;
    embedded.flash()?;
    let trip =
        echo::round_trips(async |hold| echo::at_embedded(&embedded, hold).await, requests, hold).await?;
    let line_trip = echo::round_trips(async |hold| echo::on_line(&pty, hold), requests, hold).await?;
    let (line, name) = pty()?;
    embedded.configure(|text| text.replace("\"serial-box\"", &format!("\"{name}\"")))?;
    let daemon = embedded.start()?;
    all.push(("MQTT over the embedded broker", trip, mqtt(&daemon, requests).await?));
    let (trip, asked) = https(&daemon.http("ward-1")?, requests)?;
    all.push(("HTTPS", trip, asked));
    all.push(("serial (pty)", line_trip, ask(line, requests).await?));
    daemon.terminate()?;
    Ok(all)
}

/// A terminal on a pseudo-terminal, and the name of its other end.
pub(crate) fn pty() -> Result<(Terminal, String)> {
    let (line, end) = SerialStream::pair()?;
    let name = end.name().context("a pseudo-terminal has a name")?;
    Ok((Terminal::Serial(Box::new(SerialTerminal::on(line, None)?)), name))
}

/// Asked by this thread, as a terminal with one connection does; and what a page takes that is always the same.
fn https(terminal: &HttpTerminal, requests: usize) -> Result<(Trips, Asked)> {
    let (facts, mut asked) = (facts().variants, Asked::default());
    let mut trip = Sample::default();
    for n in 0..WARM_UP + requests {
        let body = serde_json::to_vec(&facts[n % facts.len()].request(&n.to_string()))?;
        let started = Instant::now();
        terminal.get("/ready")?;
        let page = started.elapsed();
        let started = Instant::now();
        let (_, answer) = terminal.post(&body, PATIENCE)?;
        let whole = started.elapsed();
        if n >= WARM_UP {
            trip.push(page);
            asked.push(whole, Outcome::from_json(&answer)?)?;
        }
    }
    Ok((Trips { at_once: None, own: trip }, asked))
}

async fn mqtt(daemon: &Daemon, requests: usize) -> Result<Asked> {
    ask(Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await?)), requests).await
}

async fn ask(mut terminal: Terminal, requests: usize) -> Result<Asked> {
    let facts: Vec<Fact> = facts().variants;
    let mut asked = Asked::default();
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        let outcome = terminal.ask(&request, PATIENCE).await?;
        let whole = started.elapsed();
        if n >= WARM_UP {
            asked.push(whole, outcome)?;
        }
    }
    Ok(asked)
}
