//! `kill -9` under load: what was answered is in the journal, the journal verifies, the box comes back.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Outcome, ReceiptInfo};
use locus_tests::{Rig, facts};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

/// Kills, each at a random moment.
const KILLS: u32 = 50;
const SEED: u64 = 20_261_124;

type Answered = Arc<Mutex<HashMap<String, ReceiptInfo>>>;

/// Asks without pause until the box is gone; the request in flight is asked again in the next round.
async fn ask_on(mut terminal: Terminal, name: &'static str, first: u64, answered: Answered) -> u64 {
    let facts = facts().variants;
    let mut n = first;
    loop {
        let id = format!("{name}-{n}");
        let request = facts[n as usize % facts.len()].request(&id);
        match terminal.ask(&request, Duration::from_millis(400)).await {
            Ok(Outcome::Answer(answer)) => {
                answered.lock().unwrap().insert(id, answer.receipt.unwrap());
                n += 1;
            }
            Ok(Outcome::Fault(fault)) if fault.retryable => {}
            Ok(Outcome::Fault(fault)) => panic!("{}: {}", fault.code.as_str(), fault.message),
            Err(_) => return n,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_load_lose_no_answer() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let answered = Answered::default();
    let mut next = [0; 3];
    let mut ready_ms = Vec::new();
    for kill in 0..KILLS {
        let started = Instant::now();
        let daemon = rig.start().unwrap();
        ready_ms.push(started.elapsed().as_millis());
        let terminals = [
            ("http", Terminal::Http(daemon.http("ward-1").unwrap())),
            ("mqtt", Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap()))),
            ("serial", Terminal::Serial(Box::new(rig.serial().unwrap()))),
        ];
        let asking: Vec<_> = terminals
            .into_iter()
            .zip(next)
            .map(|((name, terminal), first)| {
                tokio::spawn(ask_on(terminal, name, first, Arc::clone(&answered)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..200))).await;
        daemon.signal(Signal::KILL).unwrap();
        daemon.wait().unwrap();
        for (next, asking) in next.iter_mut().zip(asking) {
            *next = asking.await.unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
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
    let answered = answered.lock().unwrap();
    for (id, receipt) in &*answered {
        let record = kept.get(&receipt.index).unwrap_or_else(|| panic!("answer {id} is not in the journal"));
        assert_eq!(record["record"]["request"]["id"], id.as_str());
        assert_eq!(record["receipt"], serde_json::to_value(receipt).unwrap());
    }
    ready_ms.sort_unstable();
    println!(
        "seed {SEED}: {KILLS} kills, {} answers on {next:?} requests, {} records, {} lost unanswered, ready again in {} ms (median), {} ms (worst)",
        answered.len(),
        kept.len(),
        report["recovered_losses"],
        ready_ms[ready_ms.len() / 2],
        ready_ms[ready_ms.len() - 1],
    );
    for (transport, asked) in ["http", "mqtt", "serial"].iter().zip(next) {
        assert!(asked > u64::from(KILLS) / 2, "{transport} asked only {asked} times");
    }
}
