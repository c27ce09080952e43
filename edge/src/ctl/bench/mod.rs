//! `locusctl bench`: how long terminals wait for this box, measured on the box itself.

mod engine;

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use locus_firmware_config::message::{Outcome, Request};
use locus_measure::{Environment, Kind, Outcome as Measure, Results, SCHEMA, Series, Stage, closed, open};
use serde_json::Value;

use super::{
    place::Place,
    reach::{Transport, WayArgs, connect},
    simulate::read_requests,
    slots::told,
};
use crate::{
    client::measured::{Measured, counted},
    config::Config,
    control::Order,
    keys::random,
};

/// What is asked about where no requests are named: a variant of a public sequence.
const EXAMPLE: &[u8] = include_bytes!("../../../../docs/examples/variant.json");
/// Whom every request is about: nobody.
const SUBJECT: &str = "bench";
/// Time in which an outcome comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest that all repeats take together, in seconds.
const MOST_SECONDS: u64 = 3_600;
/// Most requests a second.
const MOST_RATE: f64 = 10_000.0;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Over what
    #[command(flatten)]
    pub way: WayArgs,
    /// The model's engine alone, loaded once more beside the daemon, in batches; the box is asked nothing
    #[arg(long, conflicts_with_all = ["clients", "rate", "transport", "serial_port"])]
    pub engine: bool,
    /// Which model's engine; may be left out where the box has one
    #[arg(long, requires = "engine")]
    pub model: Option<String>,
    /// Terminals that ask; a serial line has one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub clients: u16,
    /// Requests a second of all terminals together, whenever they are due; times count from then [default: each
    /// terminal asks as soon as it is answered]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds that count, in each repeat
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Seconds before, which do not count
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub warm_up: u64,
    /// How often all that is done
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub repeats: u32,
    /// Requests to ask in turn, one JSON object a line, in a file or `-` for standard input; their ids and subjects are
    /// replaced [default: one variant of a public sequence]
    #[arg(long)]
    pub requests: Option<PathBuf>,
    /// What arrivals are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// File for the results, which `locus-bench compare` and `locus-bench report` read
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Asks without a question first: every answer goes into the journal of this box, and whoever asks meanwhile waits
    #[arg(long)]
    pub yes: bool,
}

impl BenchArgs {
    fn check(&self, place: &Place) -> Result<()> {
        if !self.engine {
            place.possible(&self.way.reach, self.way.transport, self.way.serial_port.as_deref())?;
        }
        ensure!(
            self.way.transport != Transport::Serial || self.clients == 1,
            "got --clients {}, expected 1: a serial line has one terminal",
            self.clients
        );
        if let Some(rate) = self.rate.filter(|rate| !(0.01..=MOST_RATE).contains(rate)) {
            bail!("got --rate {rate}, expected a number from 0.01 to {MOST_RATE}");
        }
        let loads = if self.engine { engine::BATCHES.len() as u64 } else { 1 };
        let whole = (self.seconds + self.warm_up) * u64::from(self.repeats) * loads;
        ensure!(
            whole <= MOST_SECONDS,
            "got {} repeats of {loads} loads of {} s and {} s of warm-up, which take {whole} s; expected at most {MOST_SECONDS} s",
            self.repeats,
            self.seconds,
            self.warm_up
        );
        Ok(())
    }

    fn requests(&self) -> Result<Arc<[Request]>> {
        let requests = match &self.requests {
            Some(path) => read_requests(path)?,
            None => {
                let example = Request::from_json(EXAMPLE);
                vec![example.map_err(|fault| anyhow::anyhow!("the example: {}", fault.message))?]
            }
        };
        let about = |request| Request { subject: Some(SUBJECT.into()), ..request };
        Ok(requests.into_iter().map(about).collect())
    }

    fn kind(&self) -> Kind {
        let clients = usize::from(self.clients);
        self.rate.map_or(Kind::Closed { clients }, |rate| Kind::Open { rate, clients })
    }

    /// What is typed to measure the same again.
    fn command(&self) -> String {
        let Self { clients, seconds, warm_up, repeats, seed, .. } = self;
        let rate = self.rate.map(|rate| format!(" --rate {rate} --seed {seed}")).unwrap_or_default();
        let over = self.way.transport.as_str();
        let what = if self.engine {
            "--engine".to_owned()
        } else {
            format!("--transport {over} --clients {clients}{rate}")
        };
        format!("locusctl bench {what} --seconds {seconds} --warm-up {warm_up} --repeats {repeats}")
    }
}

/// Says what this does to the box, and waits for a yes.
fn agreed(args: &BenchArgs, tag: &str) -> Result<()> {
    let rate = args.rate.map_or("as fast as they are answered".to_owned(), |rate| format!("{rate} a second"));
    complain!(
        "{} terminals ask this box for {} times {} s, {rate}: every answer is recorded in its journal, which is the real one \
         (ids begin with {tag}, the subject is {SUBJECT:?}), and whoever else asks meanwhile waits longer.",
        args.clients,
        args.repeats,
        args.warm_up + args.seconds
    );
    if args.yes {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "got no --yes and nobody to ask: nothing was asked of the box; expected --yes, or a terminal to answer on"
    );
    complain!("Go on? Type yes:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    ensure!(line.trim() == "yes", "got {:?}, expected yes: nothing was asked of the box", line.trim());
    Ok(())
}

/// What serves, as the box says it to who may ask it.
fn versions(config: &Config) -> Vec<(String, String)> {
    let mut versions = vec![("locusctl".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let Ok(Some(health)) = told(config, &Order::Health) else { return versions };
    let mut say = |name: String, value: &Value| {
        if let Some(text) = value.as_str() {
            versions.push((name, text.to_owned()));
        }
    };
    say("locusd".into(), &health["version"]);
    for model in health["models"].as_array().into_iter().flatten() {
        let name = model["name"].as_str().unwrap_or_default();
        say(format!("model {name}"), &model["version"]);
        for (what, value) in ["provider", "runtime", "precision"].map(|key| (key, &model["engine"][key])) {
            say(format!("{what} of {name}"), value);
        }
    }
    versions
}

/// Asks, measures and writes it down; exit code 1 where a request failed or none was answered.
///
/// # Errors
/// Nobody agrees, the box cannot be reached, or the first request has no answer.
pub fn run(config: &Config, args: &BenchArgs) -> Result<ExitCode> {
    let place = Place::Here(Box::new(config.clone()));
    args.check(&place)?;
    let requests = args.requests()?;
    let (series, environment, about) = if args.engine {
        let quiet = Environment::here([]);
        let (series, versions) = engine::measured(config, args, &requests)?;
        let environment = Environment { versions, ..quiet };
        let about = "The model alone, loaded once more beside the daemon; requests are encoded beforehand.";
        (series, environment, about.to_owned())
    } else {
        let tag: Arc<str> = format!("bench-{}", hex::encode(*random::<4>()?)).into();
        agreed(args, &tag)?;
        let environment = Environment::here(versions(config));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let series = runtime.block_on(measured(&place, args, &requests, &tag))?;
        let about = format!(
            "Terminals on the box itself, which share its cores; ids begin with {tag}. A time holds the journal record, which is durable \
             before the answer leaves."
        );
        (vec![series], environment, about)
    };
    for series in &series {
        series.lines().iter().for_each(|line| say!("{line}"));
    }
    let repeats = || series.iter().flat_map(|series| &series.repeats);
    let bad: u64 = repeats().map(|repeat| repeat.failed + repeat.abandoned).sum();
    let good = bad == 0 && repeats().all(|repeat| repeat.answered > 0);
    if let Some(path) = &args.out {
        let results = Results {
            schema: SCHEMA,
            title: "locusctl bench".into(),
            about,
            command: args.command(),
            seed: args.seed,
            date: time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339)?,
            revision: None,
            environment,
            series,
        };
        results.write(path)?;
        complain!("{}", path.display());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measured(
    place: &Place,
    args: &BenchArgs,
    requests: &Arc<[Request]>,
    tag: &Arc<str>,
) -> Result<Series> {
    let port: Option<&Path> = args.way.serial_port.as_deref();
    let mut askers = Vec::new();
    for _ in 0..args.clients {
        let terminal = connect(place, &args.way.reach, args.way.transport, port, PATIENCE).await?;
        askers.push(Measured::new(terminal, Arc::clone(requests), Arc::clone(tag), PATIENCE));
    }
    let first = askers.first_mut().context("no terminal")?.outcome(u64::MAX).await?;
    if let Outcome::Fault(fault) = &first
        && !matches!(counted(&first), Measure::Refused(_))
    {
        bail!("{}: {}; name others with --requests", fault.code.as_str(), fault.message);
    }
    let load = args.load();
    let over = args.way.transport.as_str();
    let name = args.rate.map_or_else(
        || format!("{over}, {} clients", args.clients),
        |rate| format!("{over}, {rate} a second"),
    );
    let (stage, kind, warm_up_s) = (Stage::EndToEnd, args.kind(), load.warm_up.as_secs_f64());
    let mut series = Series { name, stage, kind, batch: 1, warm_up_s, repeats: Vec::new() };
    for repeat in 0..args.repeats {
        // Another tag: an id that the box knows is answered from what it keeps.
        let tag: Arc<str> = format!("{tag}-{repeat}").into();
        askers.iter_mut().for_each(|asker| asker.retag(&tag));
        let loaded;
        (askers, loaded) = match kind {
            Kind::Closed { .. } => closed(askers, load).await?,
            Kind::Open { rate, .. } => open(askers, rate, args.seed + u64::from(repeat), load).await?,
        };
        complain!("repeat {}: {}", repeat + 1, loaded.summary());
        series.repeats.push(loaded);
    }
    Ok(series)
}
