//! `locusctl simulate`: many terminals at once, to try a box and its lines out.
//!
//! Each does what a terminal should: one request at a time, asked again with the same id until there is an outcome.

mod tally;

use std::{
    collections::BTreeMap,
    io::BufRead as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use locus_firmware_config::message::{MAX_MESSAGE_BYTES, Request};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    chance::Chance,
    place::{AwayArgs, Place},
    reach::{Asker, ReachArgs, Transport},
};
use crate::keys::random;
use tally::Tally;

/// Requests where neither a number nor a time is given.
const COUNT: u64 = 100;
/// Most terminals of one transport.
const MAX_TERMINALS: u64 = 1_000;
/// Most requests in a file.
const MAX_REQUESTS: usize = 100_000;
/// What keeps the times of answers small.
const MAX_COUNT: u64 = 10_000_000;

/// What to simulate.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// Over which transports, such as http,serial [default: serial with --serial-port, else http]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub transport: Vec<Transport>,
    /// Who asks
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Where
    #[command(flatten)]
    pub away: AwayArgs,
    /// The terminal's end of a serial line; once for each line
    #[arg(long)]
    pub serial_port: Vec<PathBuf>,
    /// Terminals over each of http and mqtt
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_TERMINALS))]
    pub terminals: u64,
    /// Requests to draw from, one JSON object a line, in a file or `-` for standard input; their ids are replaced
    #[arg(long, conflicts_with = "variant")]
    pub requests: Option<PathBuf>,
    /// Change on the box's reference to ask about; once for each
    #[arg(long)]
    pub variant: Vec<String>,
    /// Requests in all [default: 100, without --duration-s]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub count: Option<u64>,
    /// Ends after so many seconds
    #[arg(long)]
    pub duration_s: Option<f64>,
    /// Requests a second of all terminals together; times then count from when a request was due [default: each as
    /// soon as the one before is answered]
    #[arg(long)]
    pub rate: Option<f64>,
    /// What decides which request comes when
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Beginning of the ids; the same one asks the same again within five minutes [default: drawn anew]
    #[arg(long)]
    pub tag: Option<String>,
    /// How long a request is asked again until there is an outcome
    #[arg(long, default_value_t = 20_000)]
    pub timeout_ms: u64,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// What all terminals share.
struct Plan {
    requests: Vec<Request>,
    tag: String,
    seed: u64,
    /// Requests that were begun.
    begun: AtomicU64,
    count: u64,
    ends: Option<Instant>,
    /// Mean time between two requests of one terminal.
    pace: Option<Duration>,
    patience: Duration,
    stop: CancellationToken,
}

fn requests(args: &SimulateArgs) -> Result<Vec<Request>> {
    let Some(path) = &args.requests else {
        ensure!(!args.variant.is_empty(), "got nothing to ask, expected --requests or --variant");
        let of = |variant: &String| Request { variant: Some(variant.clone()), ..Request::default() };
        return Ok(args.variant.iter().map(of).collect());
    };
    read_requests(path)
}

/// Requests of a file or of standard input (`-`), one JSON object a line.
pub(super) fn read_requests(path: &Path) -> Result<Vec<Request>> {
    let input: Box<dyn std::io::BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        Box::new(std::io::BufReader::new(file))
    };
    read_lines(input, path)
}

fn read_lines(mut input: impl std::io::BufRead, path: &Path) -> Result<Vec<Request>> {
    let (mut requests, mut line, mut number) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let limit = MAX_MESSAGE_BYTES as u64 + 2;
        if std::io::Read::take(&mut input, limit).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let request = Request::from_json(line.trim_ascii()).map_err(|fault| {
            anyhow::anyhow!("{}, line {number}: {}: {}", path.display(), fault.code.as_str(), fault.message)
        })?;
        ensure!(requests.len() < MAX_REQUESTS, "got more than {MAX_REQUESTS} requests in {}", path.display());
        requests.push(request);
    }
    ensure!(!requests.is_empty(), "got no request in {}", path.display());
    Ok(requests)
}

/// A positive number that makes sense as a time.
fn positive(name: &str, value: Option<f64>) -> Result<Option<f64>> {
    match value {
        Some(value) if !(1e-6..=1e6).contains(&value) => {
            bail!("got --{name} {value}, expected a number from 0.000001 to 1000000")
        }
        other => Ok(other),
    }
}

impl SimulateArgs {
    fn transports(&self) -> Vec<Transport> {
        match self.transport.as_slice() {
            [] if self.serial_port.is_empty() => vec![Transport::Http],
            [] => vec![Transport::Serial],
            some => some.to_vec(),
        }
    }

    /// Whether all are serial lines.
    pub fn is_lines(&self) -> bool {
        self.transports().iter().all(|transport| *transport == Transport::Serial)
    }
}

/// Runs the terminals; exit code 1 where a request has no outcome, or that of another one.
///
/// # Errors
/// There is nothing to ask, or nobody to ask it.
pub fn run(place: &Place, args: &SimulateArgs) -> Result<ExitCode> {
    let mut askers = Vec::new();
    for transport in args.transports() {
        place.possible(&args.reach, transport, args.serial_port.first().map(PathBuf::as_path))?;
        let asker = |port| Asker::new(place, &args.reach, transport, port);
        match transport {
            Transport::Serial => {
                askers.extend(args.serial_port.iter().map(|port| asker(Some(port.as_path()))))
            }
            _ => askers.extend((0..args.terminals).map(|_| asker(None))),
        }
    }
    let (rate, duration) = (positive("rate", args.rate)?, positive("duration-s", args.duration_s)?);
    let tag = match &args.tag {
        Some(tag) => tag.clone(),
        None => hex::encode(*random::<4>()?),
    };
    let mut plan = Plan {
        requests: requests(args)?,
        tag,
        seed: args.seed,
        begun: AtomicU64::new(0),
        count: args.count.unwrap_or(if duration.is_some() { MAX_COUNT } else { COUNT }),
        ends: None,
        pace: rate.map(|rate| Duration::from_secs_f64(askers.len() as f64 / rate)),
        patience: Duration::from_millis(args.timeout_ms),
        stop: CancellationToken::new(),
    };
    let first = plan.request(0);
    let told = |fault: locus_firmware_config::message::Fault| anyhow::anyhow!("{}", fault.message);
    first.check().map_err(told).context("with this --tag or --variant")?;
    // Over HTTPS each terminal waits on a thread.
    let threads = MAX_TERMINALS as usize + 16;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(threads).build()?;
    let (tallies, took) = runtime.block_on(async {
        let started = Instant::now();
        plan.ends = duration.map(|seconds| started + Duration::from_secs_f64(seconds));
        let plan = Arc::new(plan);
        (simulate(askers, &plan).await, started.elapsed())
    });
    Ok(report(args, tallies, took))
}

async fn simulate(askers: Vec<Asker<'_>>, plan: &Plan) -> BTreeMap<Transport, Tally> {
    let all = askers.len();
    let terminals = askers.into_iter().enumerate().map(|(n, asker)| terminal(asker, plan, n, all));
    let joined = futures_util::future::join_all(terminals);
    tokio::pin!(joined);
    let ended = tokio::select! {
        ended = &mut joined => ended,
        // What was begun is still waited for; a second time ends the program.
        Ok(()) = tokio::signal::ctrl_c() => {
            plan.stop.cancel();
            tokio::select! {
                ended = &mut joined => ended,
                Ok(()) = tokio::signal::ctrl_c() => Vec::new(),
            }
        }
    };
    let mut tallies = BTreeMap::<_, Tally>::new();
    for (transport, tally) in ended {
        tallies.entry(transport).or_default().join(tally);
    }
    tallies
}

impl Plan {
    /// One of the requests; which one, seed and number decide.
    fn request(&self, number: u64) -> Request {
        let drawn = Chance::of(self.seed, number).below(self.requests.len());
        Request { id: Some(format!("{}-{number}", self.tag)), ..self.requests[drawn].clone() }
    }

    /// The number of the next request, while there is one.
    fn next(&self) -> Option<u64> {
        let over = self.stop.is_cancelled() || self.ends.is_some_and(|ends| Instant::now() >= ends);
        let number = if over { return None } else { self.begun.fetch_add(1, Ordering::Relaxed) };
        (number < self.count).then_some(number)
    }
}

async fn terminal(mut asker: Asker<'_>, plan: &Plan, n: usize, all: usize) -> (Transport, Tally) {
    let (mut tally, mut chance) = (Tally::default(), Chance::of(!plan.seed, n as u64));
    // Spread over the first interval: nobody asks at the same time as all others.
    let mut due = Instant::now() + plan.pace.unwrap_or_default().mul_f64(n as f64 / all.max(1) as f64);
    loop {
        if plan.pace.is_some() {
            let due = plan.ends.map_or(due, |ends| due.min(ends));
            tokio::select! {
                () = sleep_until(due) => {}
                () = plan.stop.cancelled() => {}
            }
        }
        let Some(number) = plan.next() else { return (asker.transport, tally) };
        let since = if plan.pace.is_some() { due } else { Instant::now() };
        let request = plan.request(number);
        let told = asker.ask(&request, Instant::now() + plan.patience).await;
        tally.add(&request, &told.outcome, told.repeats, since.elapsed());
        if let Some(pace) = plan.pace {
            // Between half and one and a half times the mean: terminals do not march in step.
            due += pace.mul_f64(0.5 + chance.below(1_000) as f64 / 1_000.0);
        }
    }
}

fn report(args: &SimulateArgs, mut tallies: BTreeMap<Transport, Tally>, took: Duration) -> ExitCode {
    let good = !tallies.is_empty() && tallies.values().all(Tally::is_good);
    let shown: Vec<_> =
        tallies.iter_mut().map(|(transport, tally)| (transport.as_str(), tally.shown())).collect();
    let (requests, answers) =
        shown.iter().fold((0, 0), |sum, (_, shown)| (sum.0 + shown.requests, sum.1 + shown.answers));
    let (seed, seconds) = (args.seed, took.as_secs_f64());
    if args.json {
        let transports: serde_json::Map<_, _> =
            shown.iter().map(|(name, shown)| ((*name).to_owned(), json!(shown))).collect();
        say!(
            "{}",
            json!({"seed": seed, "good": good, "requests": requests, "answers": answers, "seconds": seconds, "transports": transports})
        );
    } else {
        say!(
            "seed {seed}: {requests} requests, {answers} answers in {seconds:.2} s ({:.1} a second)",
            answers as f64 / seconds.max(1e-9)
        );
        for (name, shown) in &shown {
            shown.lines(name).iter().for_each(|line| say!("{line}"));
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_requests_and_a_wrong_one_is_named() {
        let read = |text: &str| read_lines(text.as_bytes(), Path::new("r.jsonl"));
        let good = "{\"variant\": \"chr1-5-A-T\"}\n\n{\"variant\": \"chr1-6-A-T\"}";
        assert_eq!(read(good).unwrap().len(), 2);
        assert!(read("").unwrap_err().to_string().contains("no request in r.jsonl"));
        let wrong = read(&format!("{good}\n{{\"variant\": 3}}\n")).unwrap_err().to_string();
        assert!(wrong.contains("line 4"), "{wrong}");
        let long = format!("{{\"sequence\": \"{}\"}}", "A".repeat(MAX_MESSAGE_BYTES));
        assert!(read(&long).unwrap_err().to_string().contains("too_large"));
    }

    #[test]
    fn a_seed_draws_the_same_requests_again() {
        let requests = read_lines(
            "{\"variant\": \"chr1-5-A-T\"}\n{\"variant\": \"chr1-6-A-T\"}\n".as_bytes(),
            Path::new("-"),
        )
        .unwrap();
        let plan = |seed| Plan {
            requests: requests.clone(),
            tag: "t".into(),
            seed,
            begun: AtomicU64::new(0),
            count: 3,
            ends: None,
            pace: None,
            patience: Duration::ZERO,
            stop: CancellationToken::new(),
        };
        let drawn = |seed| (0..64).map(|n| plan(seed).request(n).variant.unwrap()).collect::<Vec<_>>();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let plan = plan(1);
        assert_eq!(std::iter::from_fn(|| plan.next()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(plan.request(2).id.as_deref(), Some("t-2"));
    }
}
