mod disk;
mod genome;
mod keeping;
mod models;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use locus_engine::{Bundle, EngineKind, LoadOptions, Trust};
use locus_firmware_config::{
    manifest::Manifest,
    message::{Answer, Band, EngineInfo, Lane, ModelInfo, Outcome, Request, Timing},
    profile::DeviceProfile,
};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    journal::{JournalConfig, Rotation, Witnesses, verify},
    keys::{Identity, load_or_create_device_key, read_device_public},
    vfs::{Fault as DiskFault, FaultyVfs},
};

/// Bytes that the boxes here keep free.
const RESERVE: u64 = 1_000;

/// An answer that says nothing.
pub(crate) fn an_answer() -> Outcome {
    Outcome::Answer(Box::new(Answer {
        id: None,
        r#box: "b".into(),
        mutation: None,
        predicted_label: None,
        predicted_description: String::new(),
        pathogenic_probability: None,
        benign_probability: None,
        prior: None,
        band: Band::None,
        abstained: true,
        input_mode: "sequence_only".into(),
        consequence: None,
        transcript_id: None,
        model: ModelInfo { name: "m".into(), version: "1.0.0".into(), digest: "d".into() },
        engine: EngineInfo { provider: "p".into(), precision: "p".into() },
        timing_us: Timing::default(),
        receipt: None,
        warnings: Vec::new(),
        intended_use: String::new(),
        prediction: None,
        hgvs_c: None,
        hgvs_p: None,
        assembly: None,
        reference: None,
        evidence: None,
        out_of_distribution: false,
        out_of_distribution_reason: None,
        attribution: Vec::new(),
        around: None,
    }))
}

pub(crate) struct Box_ {
    pub(crate) pipeline: Pipeline,
    threads: Option<Threads>,
    vfs: FaultyVfs,
    fatal: Arc<std::sync::Mutex<Vec<String>>>,
}

const MODEL: &str = "variant-effect";

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus")
}

fn scorer() -> Loaded {
    scored_by(&Bundle::open(shipped(), &Trust::AllowUnsigned).unwrap())
}

/// The shipped model under another manifest.
fn variation(change: impl FnOnce(&mut Manifest)) -> Loaded {
    let shipped = Bundle::open(shipped(), &Trust::AllowUnsigned).unwrap();
    let mut manifest = shipped.manifest().clone();
    change(&mut manifest);
    let mut archive = tar::Builder::new(Vec::new());
    let parts = manifest.parts.iter().map(|p| (p.name.as_str(), shipped.part(&p.name).unwrap().to_vec()));
    for (name, bytes) in std::iter::once(("manifest.json", manifest.to_json().unwrap())).chain(parts) {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let bytes = archive.into_inner().unwrap();
    let (size, limits) = (bytes.len() as u64, locus_engine::Limits::default());
    scored_by(&Bundle::read(bytes.as_slice(), size, &Trust::AllowUnsigned, &limits).unwrap())
}

fn scored_by(bundle: &Bundle) -> Loaded {
    let options = LoadOptions { order: vec![EngineKind::Fake], ..LoadOptions::default() };
    Loaded::open(bundle, &DeviceProfile::named("cpu-x86").unwrap(), &options).unwrap()
}

/// What a box is made of, where it matters.
struct Setup {
    limits: Limits,
    vfs: FaultyVfs,
    clock: Arc<dyn Clock>,
    genome: Option<Genome>,
    unproven: Unproven,
}

impl Default for Setup {
    fn default() -> Self {
        let clock = Arc::new(SystemClock::new());
        Self {
            limits: Limits::default(),
            vfs: FaultyVfs::new(),
            clock,
            genome: None,
            unproven: Unproven::default(),
        }
    }
}

impl Setup {
    fn start(self) -> Box_ {
        let Self { limits, vfs, clock, genome, unproven } = self;
        let journal = JournalConfig {
            vfs: Arc::new(vfs.clone()),
            clock,
            device_key: load_or_create_device_key(&vfs, Path::new("/keys/device.key")).unwrap(),
            index_key: IndexKey::load_or_create(&vfs, Path::new("/keys/index.key")).unwrap(),
            recipients: vec![Identity::generate().unwrap().recipient()],
            rotation: Rotation::default(),
            remember: 100,
            accept_damage: false,
            reserve_bytes: RESERVE,
            synchronized: None,
        };
        let fatal = Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = Arc::clone(&fatal);
        let (pipeline, threads) = Pipeline::start(PipelineConfig {
            box_name: "box".into(),
            limits,
            genome,
            index_key: IndexKey::load_or_create(&vfs, Path::new("/keys/index.key")).unwrap(),
            journal: Journal::open(Path::new("/journal"), journal).unwrap().0,
            unproven,
            traces: Traces::default(),
            on_fatal: Box::new(move |reason| told.lock().unwrap().push(reason)),
        })
        .unwrap();
        Box_ { pipeline, threads: Some(threads), vfs, fatal }
    }
}

fn a_box(limits: Limits, vfs: FaultyVfs) -> Box_ {
    Setup { limits, vfs, ..Setup::default() }.start()
}

/// The inference thread stands still, behind the change to a model, until this is dropped.
pub(crate) struct Held(
    #[expect(dead_code, reason = "dropped")] crossbeam_channel::Receiver<Result<(), String>>,
);

pub(crate) async fn until(what: &str, reached: impl Fn() -> bool) {
    let reaching = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reaching).await.unwrap_or_else(|_| panic!("no {what}"));
}

impl Box_ {
    fn new() -> Self {
        Self::of(Limits::default())
    }

    /// A box that serves.
    pub(crate) fn of(limits: Limits) -> Self {
        let made = a_box(limits, FaultyVfs::new());
        made.pipeline.swap(scorer()).unwrap();
        made.pipeline.confirm(MODEL);
        made
    }

    async fn ask(&self, request: Request) -> Arc<Outcome> {
        self.pipeline.ask("ward-1", "loopback", Ok(request)).await
    }

    pub(crate) async fn hold(&self) -> Held {
        let before = self.pipeline.active(MODEL).map(|model| model.generation);
        let (done, held) = crossbeam_channel::bounded(0);
        self.pipeline.control.send(Control::Swap { loaded: scorer(), done }).unwrap();
        until("other model", || self.pipeline.active(MODEL).map(|model| model.generation) != before).await;
        Held(held)
    }

    /// Asks, and waits until that is queued.
    async fn queue(&self, request: Request) -> tokio::task::JoinHandle<Arc<Outcome>> {
        self.queue_from("ward-1", request).await
    }

    async fn queue_from(
        &self,
        terminal: &'static str,
        request: Request,
    ) -> tokio::task::JoinHandle<Arc<Outcome>> {
        let (before, pipeline) = (self.pipeline.load().0, self.pipeline.clone());
        let asked = tokio::spawn(async move { pipeline.ask(terminal, "loopback", Ok(request)).await });
        until("queued request", || self.pipeline.load().0 > before).await;
        asked
    }

    pub(crate) fn stop(mut self) -> FaultyVfs {
        self.pipeline.clone().stop(self.threads.take().unwrap());
        self.vfs
    }
}

pub(crate) const SEQUENCE: &str =
    "ACGTTGCAACGGTACCATGGTTCAGACGTTGCAACGGTACCATGGTTCAGACGTTGCAACGGTACCATGGTTCAGACGTTGCAACGG";

fn request(id: &str) -> Request {
    Request {
        id: Some(id.into()),
        sequence: Some(SEQUENCE.into()),
        mutation: Some("A42G".into()),
        ..Request::default()
    }
}

fn index(outcome: &Arc<Outcome>) -> u64 {
    match &**outcome {
        Outcome::Answer(answer) => answer.receipt.as_ref().unwrap().index,
        Outcome::Fault(fault) => panic!("{}: {}", fault.code.as_str(), fault.message),
    }
}

fn code(outcome: &Arc<Outcome>) -> FaultCode {
    match &**outcome {
        Outcome::Fault(fault) => fault.code,
        Outcome::Answer(_) => panic!("answered"),
    }
}

#[test]
fn the_sequence_of_these_tests_fits_its_mutation() {
    assert_eq!(SEQUENCE.as_bytes()[41], b'A');
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_record_and_a_repeat_has_the_same() {
    let made = Box_::new();
    let first = made.ask(request("a")).await;
    let second = made.ask(request("b")).await;
    assert_eq!((index(&first), index(&second)), (0, 1));
    assert_eq!(index(&made.ask(request("a")).await), 0, "the repeat is answered from memory");
    let other = Request { mutation: Some("A42C".into()), ..request("a") };
    assert_eq!(code(&made.ask(other).await), FaultCode::IdReused);
    let elsewhere = made.pipeline.ask("ward-2", "loopback", Ok(request("a"))).await;
    assert_eq!(index(&elsewhere), 2, "another terminal's id is another request");
    let vfs = made.stop();
    let device = read_device_public(&vfs, Path::new("/keys/device.key.pub")).unwrap();
    let report = verify(&vfs, Path::new("/journal"), &device, &Witnesses::default()).unwrap();
    assert!(report.complete() && report.records == 3, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_repeat_is_computed_again_and_says_so() {
    let made = Box_::new();
    let first = index(&made.ask(request("a")).await);
    let vfs = made.stop();
    let again = a_box(Limits::default(), vfs);
    again.pipeline.swap(scorer()).unwrap();
    let Outcome::Answer(answer) = &*again.ask(request("a")).await else { panic!("a fault") };
    assert!(answer.receipt.as_ref().unwrap().index > first);
    assert!(answer.warnings.iter().any(|w| w.contains("record 0")), "{:?}", answer.warnings);
    let other = Request { mutation: Some("A42C".into()), ..request("a") };
    assert_eq!(code(&again.ask(other).await), FaultCode::IdReused);
    again.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_without_a_model_or_with_another_says_so() {
    let made = a_box(Limits::default(), FaultyVfs::new());
    assert_eq!(code(&made.ask(request("a")).await), FaultCode::NoModel);
    made.pipeline.swap(scorer()).unwrap();
    made.pipeline.confirm(MODEL);
    let asked = |model: &str| Request { model: Some(model.into()), ..request(model) };
    assert_eq!(code(&made.ask(asked("another")).await), FaultCode::UnknownModel);
    let name = made.pipeline.active(MODEL).unwrap().info.name.clone();
    index(&made.ask(asked(&name)).await);
    let assembly = Request { assembly: Some("GRCh37".into()), ..request("c") };
    assert_eq!(code(&made.ask(assembly).await), FaultCode::WrongAssembly);
    let variant = Request { variant: Some("chr1-5-A-T".into()), id: Some("d".into()), ..Request::default() };
    assert_eq!(code(&made.ask(variant).await), FaultCode::NoReference);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_above_the_limit_is_refused_with_a_hint_and_the_rest_is_answered() {
    let limits = Limits { queue_units: 4, ..Limits::default() };
    let made = a_box(limits, FaultyVfs::new());
    made.pipeline.swap(scorer()).unwrap();
    let asked = (0..64).map(|n| {
        let pipeline = made.pipeline.clone();
        tokio::spawn(async move { pipeline.ask("ward-1", "loopback", Ok(request(&n.to_string()))).await })
    });
    let asked: Vec<_> = asked.collect();
    let (mut answered, mut refused) = (0, 0);
    for one in asked {
        match &*one.await.unwrap() {
            Outcome::Answer(_) => answered += 1,
            Outcome::Fault(fault) => {
                assert_eq!((fault.code, fault.retryable), (FaultCode::Busy, true));
                assert!(fault.retry_after_ms.is_some_and(|ms| (20..=5_000).contains(&ms)));
                refused += 1;
            }
        }
    }
    assert!(answered >= 2 && answered + refused == 64, "{answered} answered, {refused} refused");
    let heavy = Request { sequence: Some("A".repeat(40_000)), ..request("heavy") };
    index(&made.ask(heavy).await);
    assert_eq!(made.pipeline.load(), (0, 4));
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_asked_at_once_is_answered_by_one_record() {
    let made = Box_::new();
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let pipeline = made.pipeline.clone();
            tokio::spawn(async move { pipeline.ask("ward-1", "loopback", Ok(request("same"))).await })
        })
        .collect();
    for one in asked {
        assert_eq!(index(&one.await.unwrap()), 0);
    }
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_gives_no_answer_and_stops_the_box() {
    let made = Box_::new();
    index(&made.ask(request("a")).await);
    made.vfs.fail_at(made.vfs.operations() + 1, DiskFault::Lasting(std::io::ErrorKind::StorageFull));
    assert_eq!(code(&made.ask(request("b")).await), FaultCode::JournalFailed);
    assert_eq!(code(&made.ask(request("c")).await), FaultCode::JournalFailed);
    assert_eq!(made.pipeline.failed(), Some(FaultCode::JournalFailed));
    let fatal = Arc::clone(&made.fatal);
    made.stop();
    assert_eq!(fatal.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_and_a_stop_are_told() {
    let made = Box_::new();
    let late = Request { deadline_ms: Some(0), ..request("late") };
    assert_eq!(code(&made.ask(late).await), FaultCode::DeadlineExceeded);
    made.pipeline.drain().await;
    assert_eq!(code(&made.ask(request("a")).await), FaultCode::ShuttingDown);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_asker_is_gone_reaches_no_model() {
    let made = Box_::new();
    let held = made.hold().await;
    let gone = made.queue(request("gone")).await;
    let waits = made.queue(request("waits")).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    drop(held);
    assert_eq!(index(&waits.await.unwrap()), 0, "the only record");
    assert_eq!(index(&made.ask(request("gone")).await), 1, "who asks again asks anew");
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_is_held_does_not_get_on() {
    let made = Box_::new();
    assert!(made.pipeline.gets_on(Duration::from_secs(10)));
    let held = made.hold().await;
    let pipeline = made.pipeline.clone();
    let asked = tokio::task::spawn_blocking(move || pipeline.gets_on(Duration::from_millis(50)));
    assert!(!asked.await.unwrap());
    drop(held);
    assert!(made.pipeline.gets_on(Duration::from_secs(10)));
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_no_bedside_out() {
    let made = a_box(Limits { queue_units: 4, ..Limits::default() }, FaultyVfs::new());
    let held = made.hold().await;
    let batch = |id: &str| Request { lane: Some(Lane::Batch), ..request(id) };
    let mut queued = Vec::new();
    for (terminal, id) in [("ward-1", "a"), ("ward-2", "b"), ("ward-3", "c")] {
        queued.push(made.queue_from(terminal, batch(id)).await);
    }
    assert_eq!(code(&made.ask(batch("d")).await), FaultCode::Busy);
    let pipeline = made.pipeline.clone();
    let bedside = tokio::spawn(async move { pipeline.ask("ward-4", "another", Ok(request("e"))).await });
    until("queued request", || made.pipeline.load().0 == 4).await;
    queued.push(bedside);
    drop(held);
    for asked in queued {
        index(&asked.await.unwrap());
    }
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_is_no_longer_than_its_alleles() {
    let made = Box_::new();
    let long = Request { mutation: Some(format!("A42{}", "G".repeat(2_200))), ..request("a") };
    let outcome = made.ask(long).await;
    assert!(matches!(&*outcome, Outcome::Fault(fault)
        if fault.code == FaultCode::BadMutation && fault.message.contains("2203 characters, expected at most 2200")));
    made.stop();
}
