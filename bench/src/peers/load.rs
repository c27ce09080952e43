//! Clients that ask one after the other, each on a connection of its own that stays open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use locus_edge::client::HttpTerminal;

use crate::sample::Sample;

const PATIENCE: Duration = Duration::from_secs(60);
/// Before the clock counts.
const WARM_UP: Duration = Duration::from_millis(1_000);
/// What stands for a number of its own in each body.
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
    /// Of times in their order, and the seconds that they took together.
    pub(super) fn of(sample: &Sample, seconds: f64) -> Self {
        Self {
            p50: sample.percentile(0.5),
            p99: sample.percentile(0.99),
            rate: sample.len() as f64 / seconds,
        }
    }
}

/// All terminals ask for so long; each body is cut where its number goes.
pub(super) fn closed(terminals: Vec<HttpTerminal>, bodies: &[String], lasting: Duration) -> Result<Seen> {
    let cut = |body: &String| match body.split_once(NUMBER) {
        Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
        None => (body.clone(), None),
    };
    let bodies: Arc<Vec<_>> = Arc::new(bodies.iter().map(cut).collect());
    // Numbers of other runs must not come again: a box gives a repeat its first answer.
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let begins = Instant::now() + WARM_UP;
    let ends = begins + lasting;
    let clients: Vec<_> = terminals
        .into_iter()
        .enumerate()
        .map(|(offset, terminal)| {
            let bodies = Arc::clone(&bodies);
            std::thread::spawn(move || -> Result<Vec<Duration>> {
                let (mut times, mut n) = (Vec::new(), offset);
                loop {
                    let (before, after) = &bodies[n % bodies.len()];
                    n += 1;
                    let body = match after {
                        Some(after) => {
                            format!("{before}{}{after}", NUMBERS.fetch_add(1, Ordering::Relaxed))
                        }
                        None => before.clone(),
                    };
                    let started = Instant::now();
                    if started >= ends {
                        return Ok(times);
                    }
                    let (status, said) = terminal.post(body.as_bytes(), PATIENCE)?;
                    let took = started.elapsed();
                    ensure!(status == 200, "got status {status}: {}", String::from_utf8_lossy(&said));
                    if started >= begins {
                        times.push(took);
                    }
                }
            })
        })
        .collect();
    let mut sample = Sample::default();
    for client in clients {
        let times = client.join().map_err(|_| anyhow::anyhow!("a client ended by a defect"))??;
        times.into_iter().for_each(|time| sample.push(time));
    }
    ensure!(sample.len() > 0, "no answer in {lasting:?}");
    Ok(Seen::of(&sample, begins.elapsed().as_secs_f64()))
}
