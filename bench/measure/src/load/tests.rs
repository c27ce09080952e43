//! Loads on servers that are known. Times are real: what is asserted holds on a slow machine too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const MS: Duration = Duration::from_millis(1);
const STALL: Duration = Duration::from_millis(600);
const LOAD: Load = Load { warm_up: Duration::from_millis(200), lasting: Duration::from_millis(2_000) };

/// A server that takes 2 ms for an answer, one after the other; the first that it begins after `stalls_at` takes 600 ms.
#[derive(Clone)]
struct Server {
    busy: Arc<Mutex<()>>,
    stalled: Arc<AtomicBool>,
    stalls_at: Option<Instant>,
}

impl Server {
    fn calm() -> Self {
        Self { busy: Arc::default(), stalled: Arc::default(), stalls_at: None }
    }

    fn stalling() -> Self {
        Self { stalls_at: Some(Instant::now() + Duration::from_secs(1)), ..Self::calm() }
    }
}

impl Ask for Server {
    async fn ask(&mut self, _: u64) -> Outcome {
        let _alone = self.busy.lock().await;
        let now = self.stalls_at.is_some_and(|at| Instant::now() >= at);
        if now && !self.stalled.swap(true, Ordering::AcqRel) {
            sleep(STALL).await;
        }
        sleep(2 * MS).await;
        Outcome::Answered
    }
}

/// How many took longer than this.
fn longer(latencies: &Latencies, than: Duration) -> u64 {
    let within =
        latencies.cumulative().iter().filter(|(time, _)| *time <= than).map(|(_, share)| *share).next_back();
    ((1.0 - within.unwrap_or_default()) * latencies.count() as f64).round() as u64
}

#[tokio::test]
async fn a_stall_shows_in_the_open_loop_for_all_who_were_due_and_hides_in_the_closed_one() {
    let (_, closed) = closed(vec![Server::stalling()], LOAD).await.unwrap();
    let (_, open) = open(vec![Server::stalling(); 4], 100.0, 7, LOAD).await.unwrap();
    // Both servers stalled once, for as long. The closed loop has one slow request, whatever else it asked.
    assert!(closed.latencies.max() >= STALL && open.latencies.max() >= STALL);
    assert!((1..=3).contains(&longer(&closed.latencies, STALL / 3)), "{closed:?}");
    // 60 are due while it stalls, and two thirds of them more than 200 ms before its end.
    assert!(longer(&open.latencies, STALL / 3) >= 20, "{open:?}");
    assert!(open.latencies.percentile(0.9) >= STALL / 3, "{open:?}");
    // Four were sent and wait for the server; for the others nobody was free, and that is part of their times.
    assert!(longer(&open.late, STALL / 3) >= 16, "{open:?}");
    assert_eq!((open.asked, open.late.count()), (open.answered, open.answered));
}

#[tokio::test]
async fn all_that_a_plan_says_is_asked_and_each_once() {
    let (askers, open) = open(vec![Server::calm(); 3], 100.0, 1, LOAD).await.unwrap();
    let mut at = Duration::ZERO;
    let due = Gaps::new(10 * MS, 1).map(|gap| {
        at += gap;
        at
    });
    let whole = LOAD.warm_up + LOAD.lasting;
    let planned = due.take_while(|at| *at < whole).filter(|at| *at >= LOAD.warm_up).count() as u64;
    assert_eq!((open.asked, open.answered, open.abandoned), (planned, planned, 0));
    assert_eq!((askers.len(), open.answers_per_second.len(), open.seconds), (3, 2, 2.0));
    assert!(open.rate() > 0.0);
}

#[tokio::test]
async fn what_is_more_than_the_server_does_ends_and_is_told() {
    let load = Load { warm_up: Duration::ZERO, lasting: Duration::from_millis(500) };
    // 3,000 a second at a server that does at most 500.
    let (_, open) = open(vec![Server::calm(); 2], 3_000.0, 1, load).await.unwrap();
    assert!(open.abandoned > 0 && open.asked == open.answered + open.abandoned, "{open:?}");
    // What was due last waited for the 500 ms of patience at least, and it counts.
    assert_eq!(open.latencies.count(), open.asked);
    assert!(open.latencies.max() >= load.lasting && open.rate() <= 500.0, "{open:?}");
}

/// Answers, refuses and fails in turn.
struct Moody(Arc<AtomicU64>);

impl Ask for Moody {
    async fn ask(&mut self, number: u64) -> Outcome {
        self.0.fetch_add(1, Ordering::Relaxed);
        sleep(2 * MS).await;
        match number % 3 {
            0 => Outcome::Answered,
            1 => Outcome::Refused("busy".into()),
            _ => Outcome::Failed("gone".into()),
        }
    }
}

#[tokio::test]
async fn refusals_and_failures_are_counted_apart_and_their_times_do_not_count() {
    let asked = Arc::new(AtomicU64::new(0));
    let load = Load { warm_up: Duration::from_millis(300), lasting: Duration::from_millis(600) };
    let (_, loaded) = closed(vec![Moody(Arc::clone(&asked))], load).await.unwrap();
    assert_eq!(loaded.latencies.count(), loaded.answered);
    assert_eq!(loaded.asked, loaded.answered + loaded.refused + loaded.failed);
    assert!(loaded.answered > 0 && loaded.refused > 0 && loaded.failed > 0, "{loaded:?}");
    assert_eq!(loaded.reasons.len(), 2);
    // The warm-up was asked and does not count.
    assert!(asked.load(Ordering::Relaxed) > loaded.asked);
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_refused() {
    for (rate, lasting, askers) in [(0.0, 1, 1), (f64::NAN, 1, 1), (-1.0, 1, 1), (1e7, 10, 1), (1.0, 1, 0)] {
        let load = Load { warm_up: Duration::ZERO, lasting: Duration::from_secs(lasting) };
        let refused = open(vec![Server::calm(); askers], rate, 1, load).await;
        assert!(matches!(refused, Err(LoadError::Plan { .. })), "{rate} {askers}");
    }
}

#[test]
fn a_caller_on_its_own_thread_is_counted_from_call_to_return() {
    let load = Load { warm_up: Duration::ZERO, lasting: Duration::from_millis(100) };
    let mut calls = 0;
    let loaded = blocking(load, |number| {
        assert_eq!(number, calls);
        calls += 1;
        thread::sleep(MS);
        Outcome::Answered
    });
    assert_eq!((loaded.answered, loaded.latencies.count()), (calls, calls));
    assert!(loaded.latencies.percentile(0.0) >= MS);
}
