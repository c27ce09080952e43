//! Load in closed and open loop.
//!
//! In a closed loop somebody who waits asks nothing: while the server stalls, nobody counts how long the others would
//! have waited ("coordinated omission", G. Tene, "How NOT to measure latency", 2013). In an open loop requests are due
//! when a plan says so, whatever became of the ones before, and each one's time counts from then. The closed loop says
//! how much a server does, the open one how long people wait.

use std::{future::Future, sync::Arc, thread, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep},
};

use crate::{Gaps, Latencies, SHARES};

/// What an asker waits in a closed loop after anything but an answer: who is sent away at once does not ask a million times
/// a second.
const AFTER_NO_ANSWER: Duration = Duration::from_millis(10);
/// Most requests of an open loop's plan.
const MOST: f64 = 10_000_000.0;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer: its time counts.
    Answered,
    /// Not now, with the server's words.
    Refused(String),
    /// Anything else, with a reason.
    Failed(String),
}

/// Somebody with a connection, who asks one request at a time.
pub trait Ask: Send + 'static {
    /// Asks and waits, no longer than it is patient; `number` is of this request alone in this run.
    fn ask(&mut self, number: u64) -> impl Future<Output = Outcome> + Send;
}

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub lasting: Duration,
}

/// What a run gave: of the requests that were sent (closed) or due (open) after the warm-up and before the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// Length of what counts.
    pub seconds: f64,
    /// Of those that were answered, from when they were sent (closed) or due (open); and of what nobody sent any more,
    /// how long it had been due: less than it would have waited.
    pub latencies: Latencies,
    /// From when a request was due to when it was sent: what the harness itself is late, and what nobody was free for.
    /// Empty in a closed loop. It is part of `latencies`.
    pub late: Latencies,
    /// Answers that came in each second.
    pub answers_per_second: Vec<u64>,
    /// Requests.
    pub asked: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Told to come back.
    pub refused: u64,
    /// Failed.
    pub failed: u64,
    /// Due, and not sent within the run's length after its end: the rate was more than the server does.
    pub abandoned: u64,
    /// What the first refusal and the first failure said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An asker ended by a defect.
    #[error("an asker ended by a defect: {0}")]
    Asker(#[from] tokio::task::JoinError),
    /// No plan.
    #[error("got {got}, expected {expected}")]
    Plan {
        /// What was asked for.
        got: String,
        /// What can be done.
        expected: &'static str,
    },
    /// The thread that says what is due cannot be started.
    #[error("starting the thread that says what is due: {0}")]
    Thread(#[from] std::io::Error),
}

impl Loaded {
    /// Answers a second: those that came within the time that counts.
    pub fn rate(&self) -> f64 {
        let came: u64 = self.answers_per_second.iter().sum();
        if self.seconds > 0.0 { came as f64 / self.seconds } else { 0.0 }
    }

    /// In one line, for people.
    pub fn summary(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let times = SHARES.map(|(name, share)| format!("{name} {:.3}", ms(self.latencies.percentile(share))));
        let mut text =
            format!("{:.1}/s, {}, max {:.3} ms", self.rate(), times.join(", "), ms(self.latencies.max()));
        let others = [("refused", self.refused), ("failed", self.failed), ("abandoned", self.abandoned)];
        for (what, count) in others.into_iter().filter(|(_, count)| *count > 0) {
            text += &format!("; {count} {what}");
        }
        for reason in &self.reasons {
            text += &format!(" ({reason})");
        }
        text
    }

    /// Takes the parts of several askers together.
    fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.late.merge(&other.late);
        for (all, own) in self.answers_per_second.iter_mut().zip(&other.answers_per_second) {
            *all += own;
        }
        self.asked += other.asked;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        for reason in &other.reasons {
            self.note(reason);
        }
    }

    fn note(&mut self, reason: &str) {
        if self.reasons.len() < 2 && !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

/// The time that counts.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn starting(started: Instant, load: Load) -> Self {
        let from = started + load.warm_up;
        Self { from, until: from + load.lasting }
    }

    fn holds(&self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }

    fn empty(&self) -> Loaded {
        let lasting = self.until - self.from;
        let seconds = lasting.as_secs_f64();
        Loaded { seconds, answers_per_second: vec![0; seconds.ceil() as usize], ..Loaded::default() }
    }

    /// One outcome; its time runs from `from` to now.
    fn note(&self, loaded: &mut Loaded, from: Instant, outcome: Outcome) {
        let now = Instant::now();
        if outcome == Outcome::Answered && self.holds(now) {
            let second = (now - self.from).as_secs() as usize;
            if let Some(answers) = loaded.answers_per_second.get_mut(second) {
                *answers += 1;
            }
        }
        if !self.holds(from) {
            return;
        }
        loaded.asked += 1;
        match outcome {
            Outcome::Answered => {
                loaded.answered += 1;
                loaded.latencies.record(now - from);
            }
            Outcome::Refused(reason) => {
                loaded.refused += 1;
                loaded.note(&reason);
            }
            Outcome::Failed(reason) => {
                loaded.failed += 1;
                loaded.note(&reason);
            }
        }
    }
}

fn plan(got: impl Into<String>, expected: &'static str) -> LoadError {
    LoadError::Plan { got: got.into(), expected }
}

/// One caller that waits for each answer before it asks again, on this thread: for what is called, not sent to.
pub fn blocking(load: Load, mut ask: impl FnMut(u64) -> Outcome) -> Loaded {
    let window = Window::starting(Instant::now(), load);
    let mut loaded = window.empty();
    for number in 0.. {
        let sent = Instant::now();
        if sent >= window.until {
            break;
        }
        let outcome = ask(number);
        let answered = outcome == Outcome::Answered;
        window.note(&mut loaded, sent, outcome);
        if !answered {
            thread::sleep(AFTER_NO_ANSWER);
        }
    }
    loaded
}

/// Each asker waits for its answer before it asks again. Gives the askers back, in their order.
///
/// # Errors
/// An asker panics.
pub async fn closed<A: Ask>(askers: Vec<A>, load: Load) -> Result<(Vec<A>, Loaded), LoadError> {
    let (window, step) = (Window::starting(Instant::now(), load), askers.len() as u64);
    let tasks: Vec<_> = askers
        .into_iter()
        .zip(0_u64..)
        .map(|(mut asker, first)| {
            tokio::spawn(async move {
                let (mut loaded, mut number) = (window.empty(), first);
                loop {
                    let sent = Instant::now();
                    if sent >= window.until {
                        return (asker, loaded);
                    }
                    let outcome = asker.ask(number).await;
                    let answered = outcome == Outcome::Answered;
                    window.note(&mut loaded, sent, outcome);
                    if !answered {
                        sleep(AFTER_NO_ANSWER).await;
                    }
                    number += step;
                }
            })
        })
        .collect();
    together(window, tasks).await
}

/// Requests that come as those of independent people do, `rate` a second on average (a Poisson process drawn from
/// `seed`); whoever of the askers is free takes the next one that is due. The time of a request counts from when it was
/// due, also where nobody was free to send it. What is still not sent after the run's length beyond its end is abandoned. Gives
/// the askers back, in their order.
///
/// # Errors
/// An asker panics, there is none, or the rate is none or gives more than ten million requests.
pub async fn open<A: Ask>(
    askers: Vec<A>,
    rate: f64,
    seed: u64,
    load: Load,
) -> Result<(Vec<A>, Loaded), LoadError> {
    if askers.is_empty() {
        return Err(plan("no asker", "at least one"));
    }
    let whole = load.warm_up + load.lasting;
    if !(rate.is_finite() && rate > 0.0 && rate * whole.as_secs_f64() <= MOST) {
        let got = format!("a rate of {rate} over {} s", whole.as_secs_f64());
        return Err(plan(got, "a positive rate with at most ten million requests"));
    }
    let mut at = Duration::ZERO;
    let gaps = Gaps::new(Duration::from_secs_f64(1.0 / rate), seed);
    let due = gaps.map_while(|gap| {
        at += gap;
        (at < whole).then_some(at)
    });
    let due: Vec<Duration> = due.collect();
    let (tell, told) = mpsc::channel(due.len().max(1));
    let (told, started) = (Arc::new(Mutex::new(told)), Instant::now());
    let window = Window::starting(started, load);
    // A thread that sleeps wakes to some tens of microseconds; the runtime's own timer has steps of a millisecond.
    thread::Builder::new().name("due".into()).spawn(move || {
        for (at, number) in due.into_iter().map(|at| started + at).zip(0_u64..) {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if tell.blocking_send((at, number)).is_err() {
                break;
            }
        }
    })?;
    let tasks: Vec<_> = askers
        .into_iter()
        .map(|mut asker| {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let (mut loaded, patience) = (window.empty(), window.until + load.lasting);
                loop {
                    let Some((due, number)) = told.lock().await.recv().await else { return (asker, loaded) };
                    let sent = Instant::now();
                    let counts = window.holds(due);
                    if sent >= patience {
                        if counts {
                            loaded.asked += 1;
                            loaded.abandoned += 1;
                            loaded.latencies.record(sent - due);
                        }
                        continue;
                    }
                    if counts {
                        loaded.late.record(sent - due);
                    }
                    let outcome = asker.ask(number).await;
                    window.note(&mut loaded, due, outcome);
                }
            })
        })
        .collect();
    together(window, tasks).await
}

async fn together<A>(
    window: Window,
    tasks: Vec<tokio::task::JoinHandle<(A, Loaded)>>,
) -> Result<(Vec<A>, Loaded), LoadError> {
    let (mut askers, mut all) = (Vec::new(), window.empty());
    for task in tasks {
        let (asker, loaded) = task.await?;
        all.merge(&loaded);
        askers.push(asker);
    }
    Ok((askers, all))
}

#[cfg(test)]
mod tests;
