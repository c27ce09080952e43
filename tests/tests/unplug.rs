//! A serial line that is pulled out and put back, at every stage of an exchange: the box costs nothing while it is gone
//! and is there again at once, and every request has one outcome.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use locus_firmware_config::{
    message::Answer,
    terminal::{Event, Patience, RequestRef, Terminal},
    wire::{MAX_FRAME, MAX_MESSAGE},
};
use locus_tests::{Rig, facts, load::percentile, processor_time};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_serial::{SerialPort as _, SerialStream};

const SEED: u64 = 20_261_126;
/// Time in which any outcome comes.
const PATIENCE: Patience = Patience { ack_ms: 200, answer_ms: 1_000, give_up_ms: 20_000, tries: 100 };
/// What a batch takes, so that a plug can be pulled while the box thinks.
const THINKS_MS: u32 = 20;

/// When the plug is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Before anything is sent.
    Idle,
    /// In the middle of a frame of the request.
    InFrame,
    /// Between two frames of it.
    BetweenFrames,
    /// When all of it is sent.
    Sent,
    /// When the box has said that it has it, and thinks.
    Acknowledged,
    /// In the middle of the answer.
    InAnswer,
    /// When the answer is there.
    Answered,
}

const PHASES: [Phase; 7] = [
    Phase::Idle,
    Phase::InFrame,
    Phase::BetweenFrames,
    Phase::Sent,
    Phase::Acknowledged,
    Phase::InAnswer,
    Phase::Answered,
];

/// A USB converter: it has a stable name, and is another device each time.
struct Plug {
    name: PathBuf,
    log: PathBuf,
    port: Option<(SerialStream, OwnedFd)>,
    /// When it comes back.
    back: Option<Instant>,
    /// Since when it is back, until the box has opened it.
    since: Option<Instant>,
    opened: usize,
    pulls: usize,
    took: Vec<Duration>,
}

impl Plug {
    fn new(rig: &Rig) -> Self {
        let (name, log) = (rig.path("plug"), rig.path("locusd.log"));
        Self { name, log, port: None, back: None, since: None, opened: 0, pulls: 0, took: Vec::new() }
    }

    fn push(&mut self) {
        let (port, user) = SerialStream::pair().unwrap();
        let device = user.name().unwrap();
        let held = rustix::fs::open(&device, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        std::os::unix::fs::symlink(&device, &self.name).unwrap();
        (self.port, self.back, self.since) = (Some((port, held)), None, Some(Instant::now()));
    }

    fn pull(&mut self, out: Duration) {
        fs::remove_file(&self.name).unwrap();
        self.port = None;
        self.pulls += 1;
        self.back = Some(Instant::now() + out);
    }

    /// Puts it back when that is due, and looks whether the box has opened it.
    fn look(&mut self) {
        if self.back.is_some_and(|back| Instant::now() >= back) {
            self.push();
        }
        if let Some(since) = self.since {
            let log = fs::read_to_string(&self.log).unwrap();
            let opened = log.lines().filter(|line| line.contains("line open")).count();
            if opened > self.opened {
                (self.opened, self.since) = (opened, None);
                self.took.push(since.elapsed());
            }
        }
    }

    async fn opened(&mut self) {
        while self.port.is_none() || self.since.is_some() {
            assert!(self.since.is_none_or(|since| since.elapsed() < Duration::from_secs(20)), "never opened");
            self.look();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        if let Some((port, _)) = &mut self.port {
            timeout(Duration::from_secs(5), port.write_all(bytes)).await.unwrap().unwrap();
        }
    }

    /// What comes within a moment.
    async fn read(&mut self, within: Duration, bytes: &mut [u8]) -> usize {
        match &mut self.port {
            Some((port, _)) => timeout(within, port.read(bytes)).await.map_or(0, Result::unwrap),
            None => {
                tokio::time::sleep(within).await;
                0
            }
        }
    }
}

/// What came of the request.
async fn exchange(
    terminal: &mut Terminal<Vec<u8>, Vec<u8>>,
    plug: &mut Plug,
    phase: Phase,
    rng: &mut ChaCha8Rng,
    clock: Instant,
) -> Option<Answer> {
    let now = || u64::try_from(clock.elapsed().as_millis()).unwrap();
    let out = Duration::from_millis(rng.random_range(20..400));
    let (mut pulled, mut sent, mut heard) = (false, 0, 0);
    let (mut frame, mut input) = ([0; MAX_FRAME], [0; 4_096]);
    let in_frame = rng.random_range(0..3);
    if phase == Phase::Idle {
        plug.pull(out);
        pulled = true;
    }
    loop {
        plug.look();
        while let Some(bytes) = terminal.transmit(now(), &mut frame) {
            let bytes = bytes.to_vec();
            if !pulled && sent == in_frame && phase == Phase::InFrame {
                plug.write(&bytes[..rng.random_range(1..bytes.len())]).await;
                (pulled, sent) = (true, sent + 1);
                plug.pull(out);
                continue;
            }
            plug.write(&bytes).await;
            sent += 1;
            if !pulled && sent == in_frame + 1 && phase == Phase::BetweenFrames {
                plug.pull(out);
                pulled = true;
            }
        }
        if !pulled && phase == Phase::Sent {
            plug.pull(out);
            pulled = true;
        }
        let due = match terminal.poll(now()) {
            Some(Event::Answer { bytes, .. }) => return Some(postcard::from_bytes(bytes).unwrap()),
            Some(Event::TimedOut) => return None,
            Some(Event::Busy { .. }) | None => terminal.wake_ms().unwrap().saturating_sub(now()),
            Some(other) => panic!("{phase:?}: {other:?}"),
        };
        let read = plug.read(Duration::from_millis(due.min(4)), &mut input).await;
        if read == 0 {
            continue;
        }
        let mut got = &input[..read];
        // The first that comes says that the box has the request, the next is the answer.
        if !pulled && phase == Phase::InAnswer && heard > 0 {
            got = &got[..rng.random_range(0..got.len())];
        }
        terminal.receive(got, now());
        heard += 1;
        if !pulled && (phase == Phase::Acknowledged || phase == Phase::InAnswer && heard > 1) {
            plug.pull(out);
            pulled = true;
        }
    }
}

async fn unplugged(cycles: usize) {
    let rig = Rig::new("").unwrap();
    rig.fake(THINKS_MS, 8).unwrap();
    rig.configure(|text| text.replace("serial-box", "plug")).unwrap();
    rig.flash().unwrap();
    let mut plug = Plug::new(&rig);
    let daemon = rig.start().unwrap();
    plug.push();
    plug.opened().await;
    plug.took.clear();
    let (mut rng, facts) = (ChaCha8Rng::seed_from_u64(SEED), facts().variants);
    let buffer = || vec![0; MAX_MESSAGE];
    let mut terminal = Terminal::new(rng.random(), buffer(), buffer());
    let (clock, before) = (Instant::now(), processor_time(daemon.pid()).unwrap());
    let (mut answered, mut lost, mut phases) = (Vec::new(), 0, BTreeMap::<Phase, usize>::new());
    for cycle in 0..cycles {
        let mut phase = PHASES[cycle % PHASES.len()];
        let (id, fact) = (format!("cycle-{cycle}"), &facts[cycle % facts.len()]);
        let now = u64::try_from(clock.elapsed().as_millis()).unwrap();
        let request = fact.request(&id);
        terminal.ask(&RequestRef::from(&request), PATIENCE, now).unwrap();
        match exchange(&mut terminal, &mut plug, phase, &mut rng, clock).await {
            Some(answer) => {
                assert_eq!((answer.id.as_deref(), &answer.mutation), (Some(&*id), &request.mutation));
                answered.push(id);
            }
            None => lost += 1,
        }
        // The answer may have been faster than the hand.
        if plug.pulls == cycle {
            phase = Phase::Answered;
            plug.pull(Duration::from_millis(rng.random_range(20..400)));
        }
        *phases.entry(phase).or_default() += 1;
        plug.opened().await;
    }
    let (lasted, after) = (clock.elapsed(), processor_time(daemon.pid()).unwrap());
    let share = (after - before).as_secs_f64() / lasted.as_secs_f64();
    let worst = percentile(&plug.took, 1.0);
    println!(
        "G14: seed {SEED}, {cycles} cycles in {:.0} s {phases:?}: {} answered, {lost} told as lost; the box took {:.2} % of a core; reconnected in {:?} (median), {worst:?} (worst)",
        lasted.as_secs_f64(),
        answered.len(),
        100.0 * share,
        percentile(&plug.took, 0.5),
    );
    assert_eq!(plug.took.len(), cycles, "each time it was opened again");
    assert!(worst <= Duration::from_secs(2), "reconnected after {worst:?}");
    assert!(share <= 0.05, "{:.1} % of a core", 100.0 * share);
    assert_eq!(lost, 0, "with so many tries nothing is lost");
    // Whatever was asked how often: one record each.
    daemon.terminate().unwrap();
    let mut kept: Vec<String> = rig
        .exported()
        .unwrap()
        .iter()
        .map(|record| record["record"]["request"]["id"].as_str().unwrap().to_owned())
        .collect();
    kept.sort_unstable();
    answered.sort_unstable();
    assert_eq!(kept, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_that_is_pulled_at_any_stage_costs_no_answer() {
    unplugged(21).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "500 times take some minutes, and a quiet machine"]
async fn five_hundred_times_unplugged_the_box_is_idle_meanwhile_and_back_within_two_seconds() {
    unplugged(500).await;
}
