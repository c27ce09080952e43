//! Clients that ask one after the other, each on a thread and a connection of its own that stays open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use locus_edge::client::HttpTerminal;
use locus_measure::{Ask, Load, Loaded, Outcome};

const PATIENCE: Duration = Duration::from_secs(60);
/// Before the clock counts.
const WARM_UP: Duration = Duration::from_millis(1_000);
/// What stands for an id of its own in each body.
pub(super) const NUMBER: &str = "@number@";

/// What clients saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Answers a second of all clients.
    pub(super) rate: f64,
}

impl Seen {
    /// Of a run in which everything was answered.
    pub(super) fn of(loaded: &Loaded) -> Result<Self> {
        let all = loaded.answered == loaded.asked && loaded.answered > 0;
        ensure!(all, "{} of {} were answered: {:?}", loaded.answered, loaded.asked, loaded.reasons);
        let ms = |share| loaded.latencies.percentile(share).as_secs_f64() * 1e3;
        Ok(Self { p50: ms(0.5), p99: ms(0.99), rate: loaded.rate() })
    }
}

pub(super) const fn load(lasting: Duration) -> Load {
    Load { warm_up: WARM_UP, lasting }
}

struct Client {
    terminal: HttpTerminal,
    /// Before and behind the place of an id, where there is one.
    bodies: Arc<Vec<(String, Option<String>)>>,
    run: u64,
}

impl Ask for Client {
    async fn ask(&mut self, number: u64) -> Outcome {
        let (before, after) = &self.bodies[number as usize % self.bodies.len()];
        let body = match after {
            Some(after) => format!("{before}{}-{number}{after}", self.run),
            None => before.clone(),
        };
        match self.terminal.post(body.as_bytes(), PATIENCE) {
            Ok((200, _)) => Outcome::Answered,
            Ok((status, said)) => Outcome::Failed(format!("{status} {}", String::from_utf8_lossy(&said))),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// All terminals ask for so long.
pub(super) fn closed(terminals: Vec<HttpTerminal>, bodies: &[String], lasting: Duration) -> Result<Seen> {
    // A box gives a repeat its first answer, also after a restart.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let cut = |body: &String| match body.split_once(NUMBER) {
        Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
        None => (body.clone(), None),
    };
    let bodies: Arc<Vec<_>> = Arc::new(bodies.iter().map(cut).collect());
    // A client waits on its thread: as many threads as clients, and one for whoever waits for them.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(terminals.len() + 1)
        .enable_all()
        .build()?;
    let clients =
        terminals.into_iter().map(|terminal| Client { terminal, bodies: Arc::clone(&bodies), run }).collect();
    let (_, loaded) = runtime.block_on(locus_measure::closed(clients, load(lasting)))?;
    Seen::of(&loaded)
}
