//! Latency and throughput of engine, pipeline, transports and the whole box, in closed and open loop.

mod ask;
mod boxes;
mod page;
mod plan;

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use locus_edge::{
    client::measured::scored,
    config::Limits,
    journal::Journal,
    pipeline::{Loaded, Pipeline, PipelineConfig},
    traces::Traces,
    unproven::Unproven,
};
use locus_firmware_config::profile::DeviceProfile;
use locus_measure::{Environment, Kind, Load, Results, SCHEMA, Stage};
use locus_tests::root;

use crate::{
    bare::{self, Bare},
    journal::fresh,
    transports::VARIANTS,
};
use ask::{BlockingNothing, InProcess, Nothing};
use plan::{Book, Plan};

/// Variants that the bare engine is given at once.
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Connections that send what is due, where a way takes so many.
const CONNECTIONS: usize = 32;
/// Rate at which the harness asks nobody.
const IDLE_RATE: f64 = 100.0;

/// What to measure, and how often.
#[derive(clap::Args)]
pub(crate) struct LatencyArguments {
    /// Bundle
    #[arg(long, default_value = "models/variant-effect.locus")]
    model: PathBuf,
    /// Seconds of each load that count
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Seconds of each load before
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// How often everything is done, each time with boxes that are started anew
    #[arg(long, default_value_t = 5)]
    repeats: u64,
    /// Clients of closed loops
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    clients: Vec<usize>,
    /// Rates of open loops, in percent of what the closed loops of the first repeat did
    #[arg(long, value_delimiter = ',', default_value = "20,50,80,90")]
    shares: Vec<u32>,
    /// Rates of open loops, in requests a second, instead
    #[arg(long, value_delimiter = ',', conflicts_with = "rates_of")]
    rates: Vec<f64>,
    /// Takes the rates of open loops from earlier results: two files are compared at the same rates
    #[arg(long)]
    rates_of: Option<PathBuf>,
    /// What arrivals are drawn from; each repeat has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder in which boxes keep their state: what a durable write costs is its disk's [default: the system's for
    /// temporary files]
    #[arg(long)]
    state: Option<PathBuf>,
    /// File for all of it [default: bench/results/latency/MACHINE.json]
    #[arg(long)]
    out: Option<PathBuf>,
    /// File for the figures that docs/benchmarks.md shows
    #[arg(long, default_value = "bench/results/latency.json")]
    figures: PathBuf,
}

impl LatencyArguments {
    /// What is typed to measure the same again.
    fn command(&self) -> String {
        fn listed<T: ToString>(of: &[T]) -> String {
            of.iter().map(T::to_string).collect::<Vec<_>>().join(",")
        }
        let Self { seconds, warm_up, repeats, seed, .. } = self;
        let (model, clients) = (self.model.display(), listed(&self.clients));
        let rates = match &self.rates_of {
            Some(earlier) => format!("--shares {} --rates-of {}", listed(&self.shares), earlier.display()),
            None if self.rates.is_empty() => format!("--shares {}", listed(&self.shares)),
            None => format!("--rates {}", listed(&self.rates)),
        };
        format!(
            "latency --model {model} --seconds {seconds} --warm-up {warm_up} --repeats {repeats} --clients {clients} {rates} --seed {seed}"
        )
    }

    fn plan(&self) -> Result<Plan> {
        ensure!(
            self.repeats > 0 && self.seconds > 0,
            "got no repeat or no second, expected at least one of each"
        );
        let earlier = self.rates_of.as_deref().map(Results::read).transpose()?;
        let open =
            earlier.iter().flat_map(|results| &results.series).filter_map(|series| match series.kind {
                Kind::Open { rate, .. } => Some((series.name.clone(), rate)),
                Kind::Closed { .. } => None,
            });
        Ok(Plan {
            load: Load {
                warm_up: Duration::from_secs(self.warm_up),
                lasting: Duration::from_secs(self.seconds),
            },
            clients: self.clients.clone(),
            shares: self.shares.clone(),
            rates: self.rates.clone(),
            earlier: open.collect(),
            seed: self.seed,
        })
    }

    pub(crate) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let below = self.state.clone().unwrap_or_else(std::env::temp_dir);
        let mut book = Book::new(self.plan()?);
        let environment = Environment::here(self.versions()?);
        let boxes = boxes::Boxes::new(&below, &self.model)?;
        for repeat in 0..self.repeats {
            book.turn(repeat);
            println!("repeat {} of {}", repeat + 1, self.repeats);
            runtime.block_on(harness(&mut book))?;
            engine(&self.model, &mut book)?;
            runtime.block_on(pipeline(&self.model, &below, &mut book))?;
            runtime.block_on(boxes.measure(&mut book))?;
        }
        let machine = environment.machine.clone().unwrap_or_else(|| "machine".into());
        let out = match &self.out {
            Some(out) => out.clone(),
            None => root().join("bench/results/latency").join(format!("{machine}.json")),
        };
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let results = Results {
            schema: SCHEMA,
            title: "Latency".into(),
            about: page::ABOUT.into(),
            command: format!("cargo run -p locus-bench -- {}", self.command()),
            seed: self.seed,
            date: time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339)?,
            revision: revision(),
            environment,
            series: book.series,
        };
        results.write(&out)?;
        println!("{}", out.display());
        page::figures(&results, &self.command()).write(&self.figures)
    }

    /// Of what is measured.
    fn versions(&self) -> Result<BTreeMap<String, String>> {
        let bare = Bare::open(&self.model, 1, 0)?;
        let (manifest, spec) = (bare.scorer.manifest(), bare.scorer.spec());
        Ok([
            ("locus", env!("CARGO_PKG_VERSION").to_owned()),
            ("model", format!("{} {}", manifest.name, manifest.version)),
            ("provider", spec.provider.clone()),
            ("runtime", spec.runtime.clone()),
            ("precision", format!("{:?}", spec.precision)),
        ]
        .map(|(name, version)| (name.to_owned(), version))
        .into())
    }
}

/// Of the source, and whether it was changed since.
fn revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let head = git(&["rev-parse", "HEAD"])?;
    Some(if changed.is_empty() { head } else { format!("{head}, changed") })
}

/// What is no part of the system: a task that asks nobody, a call on another thread, and how late the plan is.
async fn harness(book: &mut Book) -> Result<()> {
    book.closed("harness, nothing asked", Stage::Harness, vec![Nothing], 1).await?;
    book.closed(
        "harness, nothing asked on another thread, as over HTTPS",
        Stage::Harness,
        vec![BlockingNothing],
        1,
    )
    .await?;
    let name = format!("harness, nothing asked, open at {IDLE_RATE}/s");
    book.open(&name, Stage::Harness, vec![Nothing; 4], IDLE_RATE).await?;
    Ok(())
}

/// The model alone, by a caller that waits: how long a batch takes, and how many variants a second that is.
fn engine(model: &std::path::Path, book: &mut Book) -> Result<()> {
    for batch in BATCHES {
        let mut bare = Bare::open(model, VARIANTS, 0)?;
        let loaded = scored(&mut bare.scorer, &bare.encoded, batch, book.plan.load);
        let (name, kind) = (format!("bare engine, batch {batch}"), Kind::Closed { clients: 1 });
        book.note(&name, Stage::Engine, kind, batch, loaded)?;
    }
    Ok(())
}

/// A box's pipeline in this process: admission, tokens, engine, durable journal; no transport.
async fn pipeline(model: &std::path::Path, below: &std::path::Path, book: &mut Book) -> Result<()> {
    let folder = tempfile::tempdir_in(below)?;
    let journal = fresh(folder.path())?;
    let index_key = journal.index_key.clone();
    let (journal, _) = Journal::open(&folder.path().join("journal"), journal)?;
    let (pipeline, threads) = Pipeline::start(PipelineConfig {
        box_name: "bench".into(),
        limits: Limits::default(),
        genome: None,
        index_key,
        journal,
        unproven: Unproven::open(&folder.path().join("unproven"))?,
        traces: Traces::default(),
        on_fatal: Box::new(|reason| eprintln!("the pipeline stopped: {reason}")),
    })?;
    let loaded = Loaded::open(&bare::bundle(model)?, &DeviceProfile::named("cpu-x86")?, &bare::options(0))?;
    pipeline.swap(loaded).map_err(anyhow::Error::msg)?;
    for name in pipeline.models().keys() {
        pipeline.confirm(name);
    }
    let askers = (0..CONNECTIONS).map(|n| InProcess::new(pipeline.clone(), format!("bench-{n}")));
    let askers = askers.collect();
    drop(book.loads("pipeline", Stage::Pipeline, askers).await.context("the pipeline")?);
    tokio::task::spawn_blocking(move || pipeline.stop(threads)).await?;
    Ok(())
}
