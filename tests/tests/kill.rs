//! `kill -9` under load: what was answered is in the journal, the journal verifies, the box comes back.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Outcome, ReceiptInfo};
use locus_tests::{Rig, facts};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

const SEED: u64 = 20_261_124;
const TRANSPORTS: [&str; 3] = ["http", "mqtt", "serial"];
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered, and how often on each transport.
#[derive(Default)]
struct Answered {
    receipts: Mutex<HashMap<String, ReceiptInfo>>,
    counts: [AtomicU64; 3],
}

/// Asks without pause until the box is gone; the request in flight is asked again in the next round.
async fn ask_on(mut terminal: Terminal, transport: usize, answered: Arc<Answered>, gone: Arc<AtomicBool>) {
    let facts = facts().variants;
    loop {
        let n = answered.counts[transport].load(Ordering::Acquire);
        let id = format!("{}-{n}", TRANSPORTS[transport]);
        let request = facts[n as usize % facts.len()].request(&id);
        match terminal.ask(&request, Duration::from_millis(400)).await {
            Ok(Outcome::Answer(answer)) => {
                answered.receipts.lock().unwrap().insert(id, answer.receipt.unwrap());
                answered.counts[transport].fetch_add(1, Ordering::AcqRel);
            }
            Ok(Outcome::Fault(fault)) if fault.retryable => {}
            Ok(Outcome::Fault(fault)) => panic!("{}: {}", fault.code.as_str(), fault.message),
            Err(_) if gone.load(Ordering::Acquire) => return,
            Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_load_lose_no_answer() {
    kills(50, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "1,000 kills among 200,000 answers take an hour"]
async fn a_thousand_kills_under_load_lose_no_answer() {
    kills(1_000, 134).await;
}

/// Kills the box so often, each time after `answers` at most on each transport.
async fn kills(times: u32, answers: u64) {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let answered = Arc::new(Answered::default());
    let counts = || [0, 1, 2].map(|transport| answered.counts[transport].load(Ordering::Acquire));
    let mut ready_ms = Vec::new();
    for kill in 0..times {
        let started = Instant::now();
        let daemon = rig.start().unwrap();
        ready_ms.push(started.elapsed().as_millis());
        let terminals = [
            Terminal::Http(daemon.http("ward-1").unwrap()),
            Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap())),
            Terminal::Serial(Box::new(rig.serial().unwrap())),
        ];
        let wanted = counts().map(|count| count + rng.random_range(0..=answers));
        let gone = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = terminals
            .into_iter()
            .enumerate()
            .map(|(n, terminal)| tokio::spawn(ask_on(terminal, n, Arc::clone(&answered), Arc::clone(&gone))))
            .collect();
        let waiting = Instant::now();
        while counts().iter().zip(wanted).any(|(count, wanted)| *count < wanted) {
            assert!(waiting.elapsed() < PATIENCE, "before kill {kill}: {:?}, expected {wanted:?}", counts());
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        gone.store(true, Ordering::Release);
        daemon.signal(Signal::KILL).unwrap();
        daemon.wait().unwrap();
        for asking in asking {
            asking.await.unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        }
    }
    let daemon = rig.start().unwrap();
    assert!(daemon.terminate().unwrap().success());
    let report = rig.ctl(&["journal", "verify", "--json"]).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["findings"], serde_json::json!([]));
    let mut kept = HashMap::new();
    for record in rig.exported().unwrap() {
        kept.insert(record["receipt"]["index"].as_u64().unwrap(), record);
    }
    let receipts = answered.receipts.lock().unwrap();
    for (id, receipt) in &*receipts {
        let record = kept.get(&receipt.index).unwrap_or_else(|| panic!("answer {id} is not in the journal"));
        assert_eq!(record["record"]["request"]["id"], id.as_str());
        assert_eq!(record["receipt"], serde_json::to_value(receipt).unwrap());
    }
    let counts = counts();
    assert_eq!(receipts.len() as u64, counts.iter().sum::<u64>());
    ready_ms.sort_unstable();
    println!(
        "seed {SEED}: {times} kills, {counts:?} answers on {TRANSPORTS:?}, {} records, {} lost unanswered, ready again in {} ms (median), {} ms (p99), {} ms (worst)",
        kept.len(),
        report["recovered_losses"],
        ready_ms[ready_ms.len() / 2],
        ready_ms[ready_ms.len() * 99 / 100],
        ready_ms[ready_ms.len() - 1],
    );
}
