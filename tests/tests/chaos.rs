//! Brokers that restart again and again: every request has one outcome, and the box comes back each time.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_tests::{Daemon, Mosquitto, Rig, facts, load::ask_until, peer};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 20_261_126;
const TERMINALS: usize = 4;
/// Times that a terminal asks again before a request counts as lost; a broker is away for part of them.
const REPEATS: usize = 60;
const PATIENCE: Duration = Duration::from_millis(500);
/// Time in which the box is answering again.
const RECOVERY: Duration = Duration::from_secs(5);

/// What one terminal was told: indexes of records by id.
type Told = HashMap<String, u64>;

async fn ask_on(
    mut terminal: Terminal,
    name: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Told {
    let facts = facts().variants;
    let mut told = Told::new();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("{name}-{n}");
        let request = facts[n % facts.len()].request(&id);
        let (answer, _) = ask_until(&mut terminal, &request, REPEATS, PATIENCE).await.unwrap();
        assert!(told.insert(id, answer.receipt.unwrap().index).is_none());
        count.fetch_add(1, Ordering::AcqRel);
    }
    told
}

/// Every answer is in the journal under its id; more records of one id are repeats of it.
fn check(rig: &Rig, told: &Told) -> (usize, usize) {
    let mut by_id: HashMap<String, Vec<(u64, Option<u64>)>> = HashMap::new();
    let records = rig.exported().unwrap();
    for record in &records {
        let id = record["record"]["request"]["id"].as_str().unwrap().to_owned();
        by_id
            .entry(id)
            .or_default()
            .push((record["receipt"]["index"].as_u64().unwrap(), record["repeat_of"].as_u64()));
    }
    for (id, index) in told {
        let kept = &by_id[id];
        assert!(kept.iter().any(|(at, _)| at == index), "{id}: record {index} is not in the journal");
        let firsts = kept.iter().filter(|(_, repeat_of)| repeat_of.is_none()).count();
        assert_eq!(firsts, 1, "{id} was answered anew: {kept:?}");
    }
    (records.len(), records.len() - by_id.len())
}

/// Restarts something again and again while terminals ask, `answers` in all or so, and looks at what came of it.
async fn restarts(
    what: &str,
    rig: &Rig,
    daemon: Daemon,
    times: usize,
    answers: usize,
    mut restart: impl FnMut(Daemon) -> Daemon,
) {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut asking = Vec::new();
    for n in 0..TERMINALS {
        let terminal = Terminal::Mqtt(Box::new(daemon.mqtt(&format!("ward-{n}")).await.unwrap()));
        asking.push(tokio::spawn(ask_on(terminal, n.to_string(), Arc::clone(&stop), Arc::clone(&count))));
    }
    let reached = async |wanted: usize, at: usize| {
        let waiting = Instant::now();
        while count.load(Ordering::Acquire) < wanted {
            assert!(waiting.elapsed() < 12 * RECOVERY, "no answers any more at restart {at}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waiting.elapsed()
    };
    let (mut rng, mut daemon, mut recovery) = (ChaCha8Rng::seed_from_u64(SEED), daemon, Vec::new());
    for at in 0..times {
        reached(count.load(Ordering::Acquire) + 1 + rng.random_range(0..=2 * answers / times), at).await;
        daemon = restart(daemon);
        // As many as were on their way may have been answered before; with one more the box is answering again.
        recovery.push(reached(count.load(Ordering::Acquire) + TERMINALS + 1, at).await);
    }
    stop.store(true, Ordering::Release);
    let mut told = Told::new();
    for asking in asking {
        told.extend(asking.await.unwrap());
    }
    daemon.terminate().unwrap();
    let (records, repeats) = check(rig, &told);
    recovery.sort_unstable();
    let slow = recovery.iter().filter(|time| **time > RECOVERY).count();
    println!(
        "seed {SEED}: {times} restarts of {what}, {} requests with one outcome each, {records} records, {repeats} of them repeats, \
         answering again in {:?} (median), {:?} (worst); {slow} took longer than {RECOVERY:?}",
        told.len(),
        recovery[recovery.len() / 2],
        recovery[recovery.len() - 1],
    );
}

async fn mosquitto_restarts(test: &str, times: usize, answers: usize) {
    let Some(server) = peer(test, "mosquitto") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (broker, port) = Mosquitto::start_anywhere(&server, folder.path()).unwrap();
    let rig = Rig::new(&format!("[mqtt]\nmode = \"external\"\nport = {port}\n")).unwrap();
    rig.fake(0, 32).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut broker = Some(broker);
    restarts("mosquitto", &rig, daemon, times, answers, |daemon| {
        drop(broker.take());
        broker = Some(Mosquitto::start(&server, folder.path(), port).unwrap());
        daemon
    })
    .await;
}

/// The embedded broker restarts with its box.
async fn boxes_restart(times: usize, answers: usize) {
    let rig = Rig::new(&format!("[mqtt]\nport = {}\n", locus_tests::free_port())).unwrap();
    rig.fake(0, 32).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    restarts("a box with its broker", &rig, daemon, times, answers, |daemon| {
        assert!(daemon.terminate().unwrap().success());
        rig.start().unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_again_and_again_costs_no_request() {
    mosquitto_restarts("a_broker_that_restarts_again_and_again_costs_no_request", 8, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_restarts_with_its_broker_costs_no_request() {
    boxes_restart(3, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "500 restarts of mosquitto among 50,000 requests take minutes"]
async fn five_hundred_restarts_of_mosquitto_cost_no_request() {
    mosquitto_restarts("five_hundred_restarts_of_mosquitto_cost_no_request", 500, 50_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "500 restarts of a box with its broker take minutes"]
async fn five_hundred_restarts_of_a_box_cost_no_request() {
    boxes_restart(500, 50_000).await;
}
