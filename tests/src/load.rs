//! Many terminals at once: how fast they ask, and what they are told.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use locus_edge::client::Terminal;
use locus_firmware_config::message::{Outcome, Request};
use locus_measure::Gaps;

use crate::{Daemon, Fact, Rig, facts};

/// Time in which any outcome comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with the name of its transport.
#[derive(Debug)]
pub struct Asker {
    /// `http`, `mqtt` or `serial`.
    pub transport: &'static str,
    /// The terminal.
    pub terminal: Terminal,
}

/// What the terminals of one transport were told.
#[derive(Debug, Default)]
pub struct Tally {
    /// Times to an answer.
    pub answered: Vec<Duration>,
    /// Times to a refusal that says when to ask again.
    pub refused: Vec<Duration>,
    /// Refusals without such a hint.
    pub without_hint: usize,
    /// Other faults, and how often.
    pub faults: BTreeMap<&'static str, usize>,
    /// Requests without an outcome.
    pub lost: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered.extend(other.answered);
        self.refused.extend(other.refused);
        self.without_hint += other.without_hint;
        self.lost += other.lost;
        for (code, n) in other.faults {
            *self.faults.entry(code).or_default() += n;
        }
    }

    /// Requests that were made.
    pub fn asked(&self) -> usize {
        self.answered.len()
            + self.refused.len()
            + self.without_hint
            + self.lost
            + self.faults.values().sum::<usize>()
    }
}

/// The value below which a share of the times lies (nearest rank); zero of none.
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// Terminals of every transport; the rig has one serial line.
///
/// # Errors
/// A terminal cannot connect.
pub async fn askers(
    rig: &Rig,
    daemon: &Daemon,
    mqtt: usize,
    http: usize,
    serial: bool,
) -> Result<Vec<Asker>> {
    let mut askers = Vec::new();
    for n in 0..mqtt {
        let terminal = Terminal::Mqtt(Box::new(daemon.mqtt(&format!("mqtt-{n}")).await?));
        askers.push(Asker { transport: "mqtt", terminal });
    }
    for n in 0..http {
        let terminal = Terminal::Http(daemon.http(&format!("http-{n}"))?);
        askers.push(Asker { transport: "http", terminal });
    }
    if serial {
        askers.push(Asker { transport: "serial", terminal: Terminal::Serial(Box::new(rig.serial()?)) });
    }
    Ok(askers)
}

/// Every terminal asks one request in each `pace` on average, or one after the other where answers take longer, for a
/// while; ids begin with `name`. Times between requests are drawn (exponential, from a seed of each terminal), so that
/// requests come as those of independent people do. Gives the terminals back.
///
/// # Errors
/// A task ends by a defect.
pub async fn drive(
    askers: Vec<Asker>,
    pace: Duration,
    lasting: Duration,
    name: &str,
) -> Result<(Vec<Asker>, BTreeMap<&'static str, Tally>)> {
    let facts: Arc<Vec<Fact>> = Arc::new(facts().variants);
    let started = Instant::now();
    let tasks: Vec<_> = askers
        .into_iter()
        .enumerate()
        .map(|(n, asker)| {
            let (facts, name) = (Arc::clone(&facts), format!("{name}-{n}"));
            let gaps = Gaps::new(pace, n as u64);
            tokio::spawn(ask_on(asker, facts, name, gaps, started, started + lasting))
        })
        .collect();
    let (mut askers, mut tallies) = (Vec::new(), BTreeMap::<_, Tally>::new());
    for task in tasks {
        let (asker, tally) = task.await?;
        tallies.entry(asker.transport).or_default().add(tally);
        askers.push(asker);
    }
    Ok((askers, tallies))
}

async fn ask_on(
    mut asker: Asker,
    facts: Arc<Vec<Fact>>,
    name: String,
    mut gaps: Gaps,
    started: Instant,
    end: Instant,
) -> (Asker, Tally) {
    let (mut tally, mut n, mut next) = (Tally::default(), 0, started + gaps.next().unwrap_or_default());
    while next < end {
        tokio::time::sleep_until(next.into()).await;
        let request = facts[n % facts.len()].request(&format!("{name}-{n}"));
        n += 1;
        let asked = Instant::now();
        match asker.terminal.ask(&request, PATIENCE).await {
            Ok(Outcome::Answer(_)) => tally.answered.push(asked.elapsed()),
            Ok(Outcome::Fault(fault)) if fault.code.as_str() == "busy" => {
                if fault.retry_after_ms.is_some() {
                    tally.refused.push(asked.elapsed());
                } else {
                    tally.without_hint += 1;
                }
            }
            Ok(Outcome::Fault(fault)) => *tally.faults.entry(fault.code.as_str()).or_default() += 1,
            Err(_) => tally.lost += 1,
        }
        next = (next + gaps.next().unwrap_or_default()).max(Instant::now());
    }
    (asker, tally)
}

/// Asks until there is an answer, at most `1 + repeats` times with the same id: the answer, and how often it was asked.
///
/// # Errors
/// A fault that asking again does not end, or no outcome after all repeats.
pub async fn ask_until(
    terminal: &mut Terminal,
    request: &Request,
    repeats: usize,
    patience: Duration,
) -> Result<(locus_firmware_config::message::Answer, usize)> {
    for asked in 1..=1 + repeats {
        match terminal.ask(request, patience).await {
            Ok(Outcome::Answer(answer)) => return Ok((*answer, asked)),
            Ok(Outcome::Fault(fault)) if fault.retryable => {
                tokio::time::sleep(Duration::from_millis(fault.retry_after_ms.unwrap_or(50).into())).await;
            }
            Ok(Outcome::Fault(fault)) => bail!("{}: {}", fault.code.as_str(), fault.message),
            Err(_) => {}
        }
    }
    bail!("no outcome after {repeats} repeats")
}
