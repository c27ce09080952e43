//! Boxes that share the requests of a site: more of them answer more, and one may die.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use locus_edge::client::Terminal;
use locus_tests::{Daemon, Mosquitto, Rig, facts, load::ask_until, peer};
use rustix::process::Signal;

const TERMINALS: usize = 8;
const REQUESTS: usize = 60;
/// Answers after which one box is killed.
const BEFORE: usize = 150;
/// Times that a terminal may have to ask again.
const REPEATS: usize = 3;
/// Time that a terminal waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Box `name` at a broker, with what it shows there.
fn a_box(name: &str, port: u16, token: Option<&str>) -> Rig {
    let shown =
        token.map_or(String::new(), |_| format!("username = \"{name}\"\npassword_file = \"token\"\n"));
    let rig = Rig::new(&format!("[mqtt]\nmode = \"external\"\nport = {port}\nsession_expiry_s = 0\n{shown}"))
        .unwrap();
    std::fs::write(rig.path("token"), token.unwrap_or_default()).unwrap();
    rig.configure(|text| text.replace("box-1", name)).unwrap();
    rig.fake(5, 4).unwrap();
    rig.flash().unwrap();
    rig
}

/// Asks everything over one box's broker, kills the other box in the middle, and looks at what came.
async fn one_dies(broker: &str, stays: (&Rig, Daemon), dies: Daemon) {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut asking = Vec::new();
    for n in 0..TERMINALS {
        let mut terminal = Terminal::Mqtt(Box::new(stays.1.mqtt(&format!("ward-{n}")).await.unwrap()));
        let answered = Arc::clone(&answered);
        asking.push(tokio::spawn(async move {
            let facts = facts().variants;
            let mut told = Vec::new();
            for request in 0..REQUESTS {
                let fact = (n + request) % facts.len();
                let asked = facts[fact].request(&format!("{n}-{request}"));
                let (answer, times) = ask_until(&mut terminal, &asked, REPEATS, PATIENCE).await.unwrap();
                answered.fetch_add(1, Ordering::AcqRel);
                told.push((fact, answer, times));
            }
            told
        }));
    }
    while answered.load(Ordering::Acquire) < BEFORE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    dies.signal(Signal::KILL).unwrap();
    dies.wait().unwrap();
    let at_the_kill = answered.load(Ordering::Acquire);
    let (mut by_box, mut numbers, mut repeats) = (HashMap::new(), HashMap::new(), 0);
    for asking in asking {
        for (fact, answer, times) in asking.await.unwrap() {
            *by_box.entry(answer.r#box).or_insert(0) += 1;
            repeats = repeats.max(times - 1);
            let number = answer.pathogenic_probability.map(f64::to_bits);
            let first = *numbers.entry((answer.model.digest, fact)).or_insert(number);
            assert_eq!(number, first, "{broker}: two answers of one bundle differ");
        }
    }
    assert_eq!(by_box.len(), 2, "{broker}: both boxes answered: {by_box:?}");
    assert_eq!(by_box.values().sum::<usize>(), TERMINALS * REQUESTS);
    assert!(at_the_kill < TERMINALS * REQUESTS, "{broker}: the box died too late");
    stays.1.terminate().unwrap();
    assert!(stays.0.exported().unwrap().len() >= by_box["box-1"], "what it answered is kept");
    println!("{broker}: {by_box:?} answers, killed after {at_the_kill}, at most {repeats} repeats");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_dies_at_mosquitto_leaves_no_request_without_an_outcome() {
    let test = "a_box_that_dies_at_mosquitto_leaves_no_request_without_an_outcome";
    let Some(server) = peer(test, "mosquitto") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_mosquitto, port) = Mosquitto::start_anywhere(&server, folder.path()).unwrap();
    let (stays, dies) = (a_box("box-1", port, None), a_box("box-2", port, None));
    let (first, second) = (stays.start().unwrap(), dies.start().unwrap());
    one_dies("mosquitto", (&stays, first), second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_dies_at_the_embedded_broker_leaves_no_request_without_an_outcome() {
    let stays = Rig::new("").unwrap();
    stays.fake(5, 4).unwrap();
    stays.flash().unwrap();
    let first = stays.start().unwrap();
    let token = stays.token("box-2", "box").unwrap();
    let dies = a_box("box-2", first.broker().unwrap().1, Some(token.trim()));
    let second = dies.start().unwrap();
    one_dies("embedded", (&stays, first), second).await;
}
