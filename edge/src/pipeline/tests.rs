use std::path::{Path, PathBuf};

use locus_engine::{Bundle, EngineKind, LoadOptions, Trust};
use locus_firmware_config::{
    message::{Answer, Band, EngineInfo, Timing},
    profile::DeviceProfile,
};

use super::*;
use crate::{
    clock::SystemClock,
    journal::{JournalConfig, Rotation, Witnesses, verify},
    keys::{Identity, load_or_create_device_key, read_device_public},
    vfs::{Fault as DiskFault, FaultyVfs},
};

/// An answer that says nothing.
pub(super) fn an_answer() -> Outcome {
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
    }))
}

struct Box_ {
    pipeline: Pipeline,
    threads: Option<Threads>,
    vfs: FaultyVfs,
    fatal: Arc<std::sync::Mutex<Vec<String>>>,
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus")
}

fn scorer() -> Scorer {
    let bundle = Bundle::open(shipped(), &Trust::AllowUnsigned).unwrap();
    let options = LoadOptions { order: vec![EngineKind::Fake], ..LoadOptions::default() };
    Scorer::open(&bundle, &DeviceProfile::named("x86-cpu").unwrap(), &options).unwrap()
}

fn a_box(limits: Limits, vfs: FaultyVfs) -> Box_ {
    let journal = JournalConfig {
        vfs: Arc::new(vfs.clone()),
        clock: Arc::new(SystemClock::new()),
        device_key: load_or_create_device_key(&vfs, Path::new("/keys/device.key")).unwrap(),
        index_key: IndexKey::load_or_create(&vfs, Path::new("/keys/index.key")).unwrap(),
        recipients: vec![Identity::generate().unwrap().recipient()],
        rotation: Rotation::default(),
        remember: 100,
        accept_damage: false,
    };
    let fatal = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&fatal);
    let (pipeline, threads) = Pipeline::start(PipelineConfig {
        box_name: "box".into(),
        limits,
        genome: None,
        index_key: IndexKey::load_or_create(&vfs, Path::new("/keys/index.key")).unwrap(),
        journal: Journal::open(Path::new("/journal"), journal).unwrap().0,
        on_fatal: Box::new(move |reason| told.lock().unwrap().push(reason)),
    })
    .unwrap();
    Box_ { pipeline, threads: Some(threads), vfs, fatal }
}

impl Box_ {
    fn new() -> Self {
        let made = a_box(Limits::default(), FaultyVfs::new());
        made.pipeline.swap(scorer()).unwrap();
        made
    }

    async fn ask(&self, request: Request) -> Arc<Outcome> {
        self.pipeline.ask("ward-1", "loopback", Ok(request)).await
    }

    fn stop(mut self) -> FaultyVfs {
        self.pipeline.clone().stop(self.threads.take().unwrap());
        self.vfs
    }
}

const SEQUENCE: &str =
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
    made.pipeline.confirm();
    let asked = |model: &str| Request { model: Some(model.into()), ..request(model) };
    assert_eq!(code(&made.ask(asked("another")).await), FaultCode::UnknownModel);
    let name = made.pipeline.active().unwrap().info.name.clone();
    index(&made.ask(asked(&name)).await);
    let assembly = Request { assembly: Some("GRCh37".into()), ..request("c") };
    assert_eq!(code(&made.ask(assembly).await), FaultCode::WrongAssembly);
    let variant = Request { variant: Some("chr1-5-A-T".into()), id: Some("d".into()), ..Request::default() };
    assert_eq!(code(&made.ask(variant).await), FaultCode::NoReference);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_above_the_limit_is_refused_with_a_hint_and_the_rest_is_answered() {
    let limits = Limits { queue_units: 2, ..Limits::default() };
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
    assert_eq!(code(&made.ask(heavy).await), FaultCode::Busy, "long messages cost more than the limit");
    assert_eq!(made.pipeline.load(), (0, 2));
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
    assert!(made.pipeline.failed());
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
async fn models_change_under_load_without_losing_a_request() {
    let made = Box_::new();
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|asker| {
            let (pipeline, stop) = (made.pipeline.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Acquire) {
                    let id = format!("{asker}-{asked}");
                    index(&pipeline.ask("ward-1", "loopback", Ok(request(&id))).await);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for round in 0..20 {
        let pipeline = made.pipeline.clone();
        tokio::task::spawn_blocking(move || {
            pipeline.swap(scorer()).unwrap();
            if round % 3 == 0 { pipeline.go_back() } else { pipeline.confirm() }
        })
        .await
        .unwrap();
    }
    stop.store(true, Ordering::Release);
    for asker in askers {
        assert!(asker.await.unwrap() > 0);
    }
    made.stop();
}
