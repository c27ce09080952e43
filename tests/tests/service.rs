//! What systemd is told: ready, well as long as the box gets on, stopping.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use locus_tests::{Rig, facts};

const PATIENCE: Duration = Duration::from_secs(60);
/// What systemd waits for a sign of life.
const WATCHDOG: Duration = Duration::from_millis(900);

/// Waits for one message.
fn told(socket: &UnixDatagram, what: &str) {
    let started = Instant::now();
    let mut bytes = [0; 512];
    while started.elapsed() < PATIENCE {
        if let Ok(n) = socket.recv(&mut bytes)
            && String::from_utf8_lossy(&bytes[..n]).lines().any(|line| line == what)
        {
            return;
        }
    }
    panic!("systemd was not told {what}");
}

#[test]
fn systemd_hears_of_a_box_only_while_it_gets_on() {
    let rig = Rig::new("").unwrap();
    // One answer keeps the inference thread for longer than systemd waits.
    rig.fake(4_000, 1).unwrap();
    rig.flash().unwrap();
    let socket = UnixDatagram::bind(rig.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (address, limit) = (rig.path("notify"), WATCHDOG.as_micros().to_string());
    let daemon =
        rig.start_with(&[("NOTIFY_SOCKET", address.to_str().unwrap()), ("WATCHDOG_USEC", &limit)]).unwrap();
    told(&socket, "READY=1");
    told(&socket, "WATCHDOG=1");
    told(&socket, "WATCHDOG=1");
    let http = daemon.http("ward-1").unwrap();
    let asking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            locus_edge::client::Terminal::Http(http).ask(&facts().variants[0].request("slow"), PATIENCE).await
        })
    });
    // Silence for as long as systemd would wait.
    let (started, mut heard) = (Instant::now(), Instant::now());
    let mut bytes = [0; 512];
    while heard.elapsed() < WATCHDOG {
        assert!(started.elapsed() < PATIENCE, "the box looked well all the time");
        if socket.recv(&mut bytes).is_ok() {
            heard = Instant::now();
        }
    }
    asking.join().unwrap().unwrap();
    told(&socket, "WATCHDOG=1");
    daemon.terminate().unwrap();
    told(&socket, "STOPPING=1");
}
