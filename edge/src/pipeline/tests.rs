mod disk;
mod keeping;

use std::path::{Path, PathBuf};

use locus_engine::{Bundle, EngineKind, LoadOptions, Trust};
use locus_firmware_config::{
    manifest::Manifest,
    message::{Answer, Band, EngineInfo, ModelInfo, Timing},
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
            if round % 3 == 0 { pipeline.go_back(MODEL) } else { pipeline.confirm(MODEL) }
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

#[tokio::test(flavor = "multi_thread")]
async fn going_back_without_a_trial_changes_nothing() {
    let made = a_box(Limits::default(), FaultyVfs::new());
    made.pipeline.swap(scorer()).unwrap();
    made.pipeline.go_back(MODEL);
    assert!(made.pipeline.active(MODEL).is_none(), "before the first model there was none");
    made.pipeline.swap(scorer()).unwrap();
    made.pipeline.confirm(MODEL);
    // A model that fails its proof is never on trial; who flashed it says that it is to go back all the same.
    made.pipeline.go_back(MODEL);
    index(&made.ask(request("a")).await);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_a_model_is_not_answered_by_the_one_that_came_meanwhile() {
    let made = Box_::new();
    let held = made.hold().await;
    let digest = made.pipeline.active(MODEL).unwrap().info.digest.clone();
    let asked = made.queue(Request { model: Some(digest), ..request("a") }).await;
    let whichever = made.queue(request("b")).await;
    let another = variation(|manifest| manifest.version = "9.0.0".parse().unwrap());
    let (done, changed) = crossbeam_channel::bounded(1);
    made.pipeline.control.send(Control::Swap { loaded: another, done }).unwrap();
    drop(held);
    assert_eq!(code(&asked.await.unwrap()), FaultCode::UnknownModel);
    assert!(matches!(&*whichever.await.unwrap(), Outcome::Answer(answer) if answer.model.version == "9.0.0"));
    changed.recv().unwrap().unwrap();
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
async fn a_genome_of_another_assembly_answers_no_variant() {
    let folder = tempfile::tempdir().unwrap();
    let (fasta, gff) = (folder.path().join("p.fa"), folder.path().join("p.gff3"));
    std::fs::write(&fasta, format!(">chr1:1001-1400\n{}\n", "ACGGTCATTGCA".repeat(40)[..400].to_owned()))
        .unwrap();
    std::fs::write(&gff, "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=g\nchr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\n").unwrap();
    let variant = |id: &str| Request {
        id: Some(id.into()),
        variant: Some("chr1-1201-T-A".into()),
        ..Request::default()
    };
    for (assembly, answered) in [("grch38", true), ("GRCh37", false)] {
        let genome = Some(Genome::open(&fasta, &gff, assembly).unwrap());
        let made = Setup { genome, ..Setup::default() }.start();
        made.pipeline.swap(scorer()).unwrap();
        let outcome = made.ask(variant("a")).await;
        if answered {
            index(&outcome);
            assert_eq!(made.pipeline.notices(), Vec::<String>::new());
        } else {
            assert_eq!(code(&outcome), FaultCode::WrongAssembly);
            let notice = made.pipeline.notices().remove(0);
            assert!(notice.contains("GRCh37") && notice.contains("GRCh38"), "{notice}");
        }
        index(&made.ask(request("b")).await);
        made.stop();
    }
}

/// A genome of one region, in which `base` stands at position 1201.
fn genome(folder: &Path, name: &str, base: char) -> Genome {
    let (fasta, gff) = (folder.join(name), folder.join(format!("{name}.gff3")));
    let mut bases: Vec<char> = "ACGGTCATTGCA".repeat(40).chars().take(400).collect();
    bases[200] = base;
    std::fs::write(&fasta, format!(">chr1:1001-1400\n{}\n", bases.iter().collect::<String>())).unwrap();
    std::fs::write(&gff, "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=GENE\nchr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\nchr1\t.\tCDS\t1190\t1249\t.\t+\t0\tParent=t1\n").unwrap();
    Genome::open(&fasta, &gff, "hg38").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_by_half_of_a_genome_while_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { genome: Some(genome(folder.path(), "t.fa", 'T')), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let (pipeline, path) = (made.pipeline.clone(), folder.path().to_owned());
    let swapping = tokio::task::spawn_blocking(move || {
        for n in 0..60 {
            let (name, base) = if n % 2 == 0 { ("g.fa", 'G') } else { ("t.fa", 'T') };
            pipeline.set_genome(Some(genome(&path, name, base)));
        }
        pipeline.set_genome(None);
    });
    let (mut answered, mut refused, mut n) = (0, 0, 0);
    loop {
        n += 1;
        let variant = Some("t1:c.12T>A".to_owned());
        let outcome = made.ask(Request { id: Some(n.to_string()), variant, ..Request::default() }).await;
        match &*outcome {
            Outcome::Answer(answer) => {
                let reference = answer.reference.as_ref().unwrap();
                assert_eq!((reference.name.as_str(), answer.hgvs_c.as_deref()), ("t.fa", Some("t1:c.12T>A")));
                answered += 1;
            }
            Outcome::Fault(fault) if fault.code == FaultCode::NoReference => break,
            Outcome::Fault(fault) => {
                assert_eq!(fault.code, FaultCode::RefMismatch, "{fault:?}");
                refused += 1;
            }
        }
    }
    swapping.await.unwrap();
    assert!(answered + refused > 0);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_genes_and_assemblies_are_read_and_an_explanation_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { genome: Some(genome(folder.path(), "t.fa", 'T')), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let by = |id: &str, variant: &str| Request {
        id: Some(id.into()),
        variant: Some(variant.into()),
        assembly: Some("hg38".into()),
        ..Request::default()
    };
    let said = |outcome: Arc<Outcome>| match &*outcome {
        Outcome::Answer(answer) => (**answer).clone(),
        Outcome::Fault(fault) => panic!("{fault:?}"),
    };
    let all = [
        by("a", "chr1-1201-T-A"),
        by("b", "t1:c.12T>A"),
        by("c", "GENE:c.12T>A"),
        Request { gene: Some("gene".into()), ..by("d", "c.12T>A") },
        by("e", "chr1:g.1201T>A"),
        Request { explain: Some(true), ..by("f", "t1:c.12T>A") },
    ];
    for (n, request) in all.into_iter().enumerate() {
        let explained = request.explain.is_some();
        let answer = said(made.ask(request).await);
        assert_eq!(answer.hgvs_c.as_deref(), Some("t1:c.12T>A"), "{n}");
        assert!(answer.hgvs_p.as_deref().is_some_and(|p| p.starts_with("p.(") && p.contains('4')), "{n}");
        assert_eq!(answer.assembly.as_deref(), Some("GRCh38"), "{n}");
        let chosen = answer.warnings.iter().any(|w| w.contains("first one in the reference pack"));
        assert_eq!(chosen, [2, 3].contains(&n), "{n}: {:?}", answer.warnings);
        assert_eq!(answer.attribution.len(), if explained { 20 } else { 0 }, "{n}");
        let around = answer.around.as_ref().map(|around| (around.gene.as_deref(), around.codons.len() > 9));
        assert_eq!(around, explained.then_some((Some("GENE"), true)), "{n}");
        assert!(!answer.predicted_description.starts_with("pathogenic"));
    }
    let insertion = said(made.ask(by("g", "t1:c.12dup")).await);
    assert!(insertion.abstained && insertion.out_of_distribution, "{insertion:?}");
    assert_eq!(insertion.consequence.as_deref(), Some("frameshift_variant"));
    for (id, variant, expected) in [
        ("h", "t1:c.12G>A", FaultCode::RefMismatch),
        ("i", "t9:c.12T>A", FaultCode::UnknownTranscript),
        ("j", "t1:c.99T>A", FaultCode::BadMutation),
        ("k", "NC_000001.10:g.1201T>A", FaultCode::WrongAssembly),
        ("l", "c.12T>A", FaultCode::BadMutation),
        ("m", "t1:p.Met4Lys", FaultCode::BadMutation),
    ] {
        assert_eq!(code(&made.ask(by(id, variant)).await), expected, "{variant}");
    }
    let other = Request { assembly: Some("hg19".into()), ..by("n", "t1:c.12T>A") };
    assert_eq!(code(&made.ask(other).await), FaultCode::WrongAssembly);
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

fn coding() -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/coding.locus");
    scored_by(&Bundle::open(path, &Trust::AllowUnsigned).unwrap())
}

/// Name and digest of the model that answered, or the fault.
fn by(outcome: &Arc<Outcome>) -> Result<(String, String), (FaultCode, String)> {
    match &**outcome {
        Outcome::Answer(answer) => Ok((answer.model.name.clone(), answer.model.digest.clone())),
        Outcome::Fault(fault) => Err((fault.code, fault.message.clone())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_a_request_chooses_among_models_and_a_name_is_kept_to() {
    let made = Box_::new();
    let alone = |id: &str| Request { mutation: None, ..request(id) };
    let (code, message) = by(&made.ask(alone("a")).await).unwrap_err();
    assert!(
        code == FaultCode::BadRequest && message.contains("(variant-effect) judge variants"),
        "{message}"
    );
    made.pipeline.swap(coding()).unwrap();
    made.pipeline.confirm("coding");
    let digest = made.pipeline.active("coding").unwrap().info.digest.clone();
    let answered = made.ask(alone("b")).await;
    assert_eq!(by(&answered).unwrap(), ("coding".to_owned(), digest.clone()));
    let Outcome::Answer(answer) = &*answered else { panic!("a fault") };
    assert_eq!(
        (answer.input_mode.as_str(), answer.band, answer.predicted_label),
        ("sequence", Band::None, None)
    );
    assert!(answer.abstained == answer.prediction.is_none(), "{answer:?}");
    assert_eq!(by(&made.ask(request("c")).await).unwrap().0, MODEL);
    for asked in ["coding", &digest] {
        let named = Request { model: Some(asked.to_owned()), ..alone(asked) };
        assert_eq!(by(&made.ask(named).await).unwrap().1, digest);
        let wrong = Request { model: Some(asked.to_owned()), ..request(&format!("w{}", &asked[..6])) };
        let (code, message) = by(&made.ask(wrong).await).unwrap_err();
        assert!(code == FaultCode::BadRequest && message.contains("expected a sequence alone"), "{message}");
    }
    made.pipeline.swap(variation(|manifest| manifest.name = "other-effect".into())).unwrap();
    let (code, message) = by(&made.ask(request("d")).await).unwrap_err();
    assert!(
        code == FaultCode::BadRequest && message.contains("one of other-effect, variant-effect"),
        "{message}"
    );
    let other = Request { model: Some("other-effect".into()), ..request("e") };
    assert_eq!(by(&made.ask(other).await).unwrap().0, "other-effect");
    made.pipeline.go_back("other-effect");
    assert_eq!(by(&made.ask(request("f")).await).unwrap().0, MODEL, "its trial ended, the others serve on");
    made.pipeline.remove("coding");
    assert_eq!(
        by(&made.ask(Request { model: Some("coding".into()), ..alone("g") }).await).unwrap_err().0,
        FaultCode::UnknownModel
    );
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_two_models_in_one_queue_are_each_answered_by_their_own() {
    let made = Box_::new();
    made.pipeline.swap(coding()).unwrap();
    let held = made.hold().await;
    let mut queued = Vec::new();
    for n in 0..20 {
        let asked = Request { mutation: (n % 3 != 0).then(|| "A42G".to_owned()), ..request(&n.to_string()) };
        queued.push((if n % 3 == 0 { "coding" } else { MODEL }, made.queue(asked).await));
    }
    let gone = made.queue(Request { mutation: None, ..request("gone") }).await;
    drop(held);
    for (model, asked) in queued {
        assert_eq!(by(&asked.await.unwrap()).unwrap().0, model);
    }
    assert_eq!(by(&gone.await.unwrap()).unwrap().0, "coding");
    assert_eq!(made.pipeline.tried("coding"), Some((8, 0)), "a trial counts its own answers");
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_marked_before_its_first_run_and_no_more_once_it_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { unproven: Unproven::open(folder.path()).unwrap(), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let mark = folder.path().join(&made.pipeline.active(MODEL).unwrap().info.digest);
    // Whoever writes to a pipe waits for its reader: so the mark holds the first run up.
    let pipe = || assert!(std::process::Command::new("mkfifo").arg(&mark).status().unwrap().success());
    pipe();
    let pipeline = made.pipeline.clone();
    let asked = tokio::spawn(async move { pipeline.ask("ward-1", "loopback", Ok(request("a"))).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!asked.is_finished() && made.pipeline.proved().is_empty(), "it ran unmarked");
    let path = mark.clone();
    let reader = tokio::task::spawn_blocking(move || std::fs::File::open(path).unwrap());
    index(&asked.await.unwrap());
    reader.await.unwrap();
    assert!(!mark.exists() && made.pipeline.proved() == [MODEL]);
    pipe();
    index(&made.ask(request("b")).await);
    assert!(mark.exists(), "what has proved itself is left alone");
    made.stop();
}
