//! Connections that say nothing, or say it slowly, keep nobody out and nobody waiting; and a batch over HTTPS.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::Outcome;
use locus_tests::{Daemon, Rig, facts, vitals};

const PATIENCE: Duration = Duration::from_secs(20);
/// A TLS record that begins a handshake and is never finished.
const HALF: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];

/// Half-open connections to every network listener, one after the other. Those that were closed are opened again.
struct Slow {
    addresses: Vec<String>,
    open: Vec<TcpStream>,
}

impl Slow {
    fn open(daemon: &Daemon, connections: usize) -> Self {
        let http = daemon.endpoints.http.clone().unwrap().replace("https://", "");
        let addresses =
            vec![http, daemon.endpoints.mqtts.clone().unwrap(), daemon.endpoints.mqtt.clone().unwrap()];
        let mut slow = Self { addresses, open: Vec::new() };
        for n in 0..connections {
            slow.one(n);
        }
        slow
    }

    fn one(&mut self, n: usize) {
        let Ok(mut stream) = TcpStream::connect(&self.addresses[n % self.addresses.len()]) else { return };
        // Every second one says the first bytes of something.
        if n.is_multiple_of(2) {
            let _ = stream.write_all(if n % 3 == 2 { b"\x10\x7f\x00\x04MQ" } else { HALF });
        }
        self.open.push(stream);
    }
}

/// The 99th percentile of asking over a connection that is there, in milliseconds.
async fn p99(terminal: &mut Terminal, requests: usize, tag: &str) -> f64 {
    let all = facts().variants;
    let mut times = Vec::new();
    for n in 0..requests {
        let request = all[n % all.len()].request(&format!("{tag}-{n}"));
        let asked = Instant::now();
        let outcome = terminal.ask(&request, PATIENCE).await.unwrap();
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times[(requests * 99).div_ceil(100) - 1]
}

async fn terminals(daemon: &Daemon, n: usize) -> [(&'static str, Terminal); 2] {
    [
        ("http", Terminal::Http(daemon.http(&format!("http-{n}")).unwrap())),
        ("mqtt", Terminal::Mqtt(Box::new(daemon.mqtt(&format!("mqtt-{n}")).await.unwrap()))),
    ]
}

/// Rounds without and with slow connections in turn: the best p99 of each, so that another program's work counts less.
async fn measured(connections: usize, requests: usize, rounds: usize) -> Vec<(&'static str, f64, f64)> {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut old = terminals(&daemon, 0).await;
    let mut best = [("http", f64::MAX, f64::MAX), ("mqtt", f64::MAX, f64::MAX)];
    for round in 0..rounds {
        for (at, (_, terminal)) in old.iter_mut().enumerate() {
            best[at].1 = best[at].1.min(p99(terminal, requests, &format!("calm-{round}")).await);
        }
        let slow = Slow::open(&daemon, connections);
        for (at, (_, terminal)) in old.iter_mut().enumerate() {
            best[at].2 = best[at].2.min(p99(terminal, requests, &format!("slow-{round}")).await);
        }
        // Whoever comes now is let in all the same.
        for (name, mut terminal) in terminals(&daemon, round + 1).await {
            let outcome = terminal.ask(&facts().variants[0].request("new"), PATIENCE).await.unwrap();
            assert!(matches!(outcome, Outcome::Answer(_)), "{name}: {outcome:?}");
        }
        assert!(slow.open.len() > connections / 2);
    }
    let text = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    for transport in ["http", "mqtt"] {
        let line = format!("locus_refused_total{{transport=\"{transport}\",reason=\"crowded\"}}");
        assert!(connections < 400 || text.contains(&line), "{text}");
    }
    assert!(daemon.terminate().unwrap().success());
    best.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_connections_keep_nobody_out() {
    for (transport, calm, slow) in measured(600, 100, 1).await {
        println!("slow: {transport}, 600 half-open connections: p99 {calm:.2} ms without, {slow:.2} ms with");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 1,000 connections, figures that need a quiet machine"]
async fn a_thousand_slow_connections_add_a_fifth_to_the_p99_at_most() {
    for (transport, calm, slow) in measured(1_000, 1_000, 3).await {
        println!(
            "slow: {transport}, 1,000 half-open connections: p99 {calm:.2} ms without, {slow:.2} ms with"
        );
        assert!(slow <= calm * 1.2, "{transport}: {slow:.2} ms instead of {calm:.2} ms");
    }
}

/// A packet of MQTT: its first byte, the length of the rest, the rest.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let low = (left % 128) as u8;
        left /= 128;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            return [packet, body.to_vec()].concat();
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A terminal that subscribes to its answers, asks as fast as the box lets it, and never reads again; how much it asked.
fn ask_and_never_read(address: &str, token: &str) -> (TcpStream, usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let hello = [text("MQTT"), vec![5, 0xc2, 0, 60, 0], text("rude"), text("rude"), text(token)].concat();
    stream.write_all(&packet(0x10, &hello)).unwrap();
    let mut answer = [0; 512];
    assert!(stream.read(&mut answer).unwrap() > 3 && answer[0] == 0x20 && answer[3] == 0, "{answer:?}");
    let subscribe = [vec![0, 1, 0], text("locus/v1/ward/response/rude/#"), vec![1]].concat();
    stream.write_all(&packet(0x82, &subscribe)).unwrap();
    assert!(stream.read(&mut answer).unwrap() > 4 && answer[0] == 0x90);
    let request = serde_json::to_vec(&facts().variants[0].request("x")).unwrap();
    let (mut asked, begun) = (0, std::time::Instant::now());
    while begun.elapsed() < Duration::from_secs(20) {
        asked += 1;
        let number = (asked % 65_000 + 1) as u16;
        let properties = [vec![8], text("locus/v1/ward/response/rude/1"), vec![9, 0, 1, 7]].concat();
        let mut body = text("locus/v1/ward/request/rude");
        body.extend(number.to_be_bytes());
        body.push(properties.len() as u8);
        body.extend(properties);
        // The same id: answered from memory, so that the model is no brake.
        body.extend(&request);
        if stream.write_all(&packet(0x32, &body)).is_err() {
            break;
        }
    }
    (stream, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_reads_costs_little_memory_and_keeps_nobody_out() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let token = rig.token("rude", "terminal").unwrap();
    let daemon = rig.start().unwrap();
    let mut polite = daemon.mqtt("polite").await.unwrap();
    polite.ask(&facts().variants[0].request("first"), PATIENCE).await.unwrap();
    let before = vitals(daemon.pid()).unwrap().rss_kib;
    let address = daemon.endpoints.mqtt.clone().unwrap();
    let rude = tokio::task::spawn_blocking(move || ask_and_never_read(&address, token.trim()));
    let mut answered = 0;
    while !rude.is_finished() {
        let outcome = polite.ask(&facts().variants[1].request(&format!("p-{answered}")), PATIENCE).await;
        // Told to wait is told, too.
        assert!(outcome.is_ok(), "{outcome:?}");
        answered += 1;
    }
    let (_open, asked) = rude.await.unwrap();
    let grown = vitals(daemon.pid()).unwrap().peak_kib.saturating_sub(before) / 1_024;
    println!(
        "slow: {asked} requests whose answers nobody reads: {grown} MiB more, {answered} outcomes of another terminal meanwhile"
    );
    assert!(asked > 1_000 && grown < 96, "{asked} requests, {grown} MiB more");
    let outcome = polite.ask(&facts().variants[2].request("last"), PATIENCE).await.unwrap();
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    assert!(daemon.terminate().unwrap().success());
}

/// What comes back of a batch: (line, status, id).
fn lines(body: &[u8]) -> Vec<(u64, u64, Option<String>)> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = line["outcome"]["id"].as_str().map(str::to_owned);
            (line["line"].as_u64().unwrap(), line["status"].as_u64().unwrap(), id)
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_batch_answers_each_line_by_itself() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let post = |body: &[u8]| http.post_to("/v1/predict:batch", &[], body, PATIENCE).unwrap();
    let all = facts().variants;
    let one = |n: usize| serde_json::to_string(&all[n % all.len()].request(&format!("b-{n}"))).unwrap();
    let many: Vec<String> = (0..300).map(one).collect();
    for body in [many.join("\n"), format!(" [{}]", many.join(","))] {
        let (status, answer) = post(body.as_bytes());
        let told = lines(&answer);
        assert_eq!((status, told.len()), (200, 300));
        for (n, (line, status, id)) in told.into_iter().enumerate() {
            assert_eq!((line, status, id), (n as u64 + 1, 200, Some(format!("b-{n}"))));
        }
    }
    // What is wrong with a line is that line's fault.
    let long = |bases| format!("{{\"sequence\":\"{}\"}}", "A".repeat(bases));
    let mixed = format!(
        "{}\nno json\n\n{}\n{}\n{}\n{}",
        one(400),
        "{\"sequence\":\"ACGT\",\"mutation\":\"A9T\"}",
        long(70_000),
        long(1_000_000),
        one(401)
    );
    let statuses: Vec<u64> = lines(&post(mixed.as_bytes()).1).into_iter().map(|one| one.1).collect();
    assert_eq!(statuses, [200, 400, 422, 413, 413, 200]);
    for bad in ["[{}", "[1,2", &format!("[{}]", many.join(",").repeat(20))] {
        let told = lines(&post(bad.as_bytes()).1);
        assert!(told.len() == 1 && matches!(told[0].1, 400 | 413), "{told:?}");
    }
    assert!(lines(&post(b"").1).is_empty());
    // A handshake that is never finished ends by itself, and the box answers on.
    let address = daemon.endpoints.http.clone().unwrap().replace("https://", "");
    let mut silent = TcpStream::connect(address).unwrap();
    silent.write_all(HALF).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(silent.read(&mut [0; 64]), Ok(0) | Err(_)), "it is closed");
    assert_eq!(post(one(402).as_bytes()).0, 200);
    daemon.terminate().unwrap();
    assert_eq!(rig.exported().unwrap().len(), 303, "a repeated batch is answered from memory");
}
