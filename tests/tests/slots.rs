//! Flashing with the real programs: what is refused, what serves, and what stays after a crash.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use locus_edge::client::HttpTerminal;
use locus_firmware_config::message::{Answer, Outcome};
use locus_tests::{Daemon, Rig, facts, program, root, variation};
use rand::{RngExt as _, SeedableRng as _};

const PATIENCE: Duration = Duration::from_secs(20);

/// The slots of the model that these tests are about.
fn slots(rig: &Rig) -> serde_json::Value {
    let record: serde_json::Value = serde_json::from_str(&rig.ctl(&["slots", "--json"]).unwrap()).unwrap();
    record["models"]["variant-effect"].clone()
}

/// What tells one version from another, of an answer or of the health.
fn label(version: &str) -> &str {
    version.strip_prefix("1.2.0-").unwrap_or("shipped")
}

/// A signed version of another label and counter, with its temperature times and its prior over `factor`: what it says
/// is another model's only where that is 1.
fn model(rig: &Rig, name: &str, counter: u64, factor: f64) -> PathBuf {
    let (unsigned, signed) = (rig.path(&format!("{name}.unsigned")), rig.path(&format!("{name}.locus")));
    let bytes = variation(|manifest| {
        manifest.version = format!("1.2.0-{name}").parse().unwrap();
        manifest.security_counter = counter;
        for calibration in manifest.probability.modes.values_mut() {
            calibration.temperature *= factor;
            calibration.prior /= factor;
        }
    });
    fs::write(&unsigned, bytes.unwrap()).unwrap();
    rig.sign(&unsigned, &signed).unwrap();
    signed
}

fn refused(rig: &Rig, path: &Path, reason: &str) {
    let output = rig.ctl_output(&["flash", &path.display().to_string()]).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains(reason), "{}: {text}", path.display());
}

#[test]
fn what_is_not_signed_whole_new_enough_and_right_on_this_device_does_not_serve() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let before = slots(&rig);
    assert!(before["active"].is_string() && before["previous"].is_null());
    refused(
        &rig,
        &root().join("models/variant-effect.locus"),
        "the bundle is unsigned, expected a signature",
    );
    // Signed by a key that this box does not trust.
    let stranger = rig.path("stranger");
    let run = |arguments: &[&std::ffi::OsStr]| {
        assert!(program("locus").args(arguments).stdout(Stdio::null()).status().unwrap().success());
    };
    run(&["keygen".as_ref(), "--out".as_ref(), stranger.as_os_str()]);
    let foreign = rig.path("foreign.locus");
    run(&[
        "bundle".as_ref(),
        "sign".as_ref(),
        "--key".as_ref(),
        rig.path("stranger.key").as_os_str(),
        root().join("models/variant-effect.locus").as_os_str(),
        foreign.as_os_str(),
    ]);
    refused(&rig, &foreign, "signed by ");
    let good = fs::read(rig.path("signed.locus")).unwrap();
    for (name, at, reason) in [
        ("manifest", 700, "does not fit this manifest; the bundle was altered"),
        ("part", good.len() / 2, "part fp32.onnx has SHA-256"),
        ("end", good.len() - 5_000, "part int8-fp16.onnx has SHA-256"),
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let path = rig.path(&format!("flipped-{name}.locus"));
        fs::write(&path, bytes).unwrap();
        refused(&rig, &path, reason);
    }
    let cut = rig.path("cut.locus");
    fs::write(&cut, &good[..good.len() / 3 / 512 * 512]).unwrap();
    refused(&rig, &cut, "part fp32.onnx says ");
    refused(&rig, &rig.path("none.locus"), "cannot find");
    assert_eq!(slots(&rig), before, "nothing was touched");
    rig.ctl(&["flash", &model(&rig, "newer", 5, 1.0).display().to_string()]).unwrap();
    refused(&rig, &model(&rig, "older", 4, 1.0), "security counter is 4, this box takes 5 or more");
    let after = slots(&rig);
    assert_eq!((&after["floor"], &after["previous"]), (&5.into(), &before["active"]));
    // Going back to below the floor is a downgrade too.
    let back = rig.ctl_output(&["rollback"]).unwrap();
    let text = String::from_utf8_lossy(&back.stderr).into_owned();
    assert!(!back.status.success() && text.contains("security counter is 1, this box takes 5"), "{text}");
    assert_eq!(slots(&rig), after);
}

#[test]
fn a_model_whose_golden_answers_are_wrong_here_does_not_serve() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let before = slots(&rig);
    let entries =
        locus_export::split(&fs::read(root().join("models/variant-effect.locus")).unwrap()).unwrap();
    let manifest = locus_firmware_config::manifest::Manifest::from_json(&entries[0].1).unwrap();
    let mut builder = locus_export::BundleBuilder::new(manifest);
    for (name, mut bytes) in entries.into_iter().skip(1) {
        if name == "golden.json" {
            let mut golden: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            for vector in golden.as_array_mut().unwrap() {
                vector["logits_int8"][0] = 50.0.into();
                vector["logits_fp32"][0] = 50.0.into();
            }
            bytes = serde_json::to_vec(&golden).unwrap();
        }
        builder = builder.part(&name, bytes).unwrap();
    }
    fs::write(rig.path("wrong.unsigned"), builder.build().unwrap()).unwrap();
    rig.sign(&rig.path("wrong.unsigned"), &rig.path("wrong.locus")).unwrap();
    refused(&rig, &rig.path("wrong.locus"), "golden vector 0 differs");
    assert_eq!(slots(&rig), before);
    let daemon = rig.start().unwrap();
    refused(&rig, &rig.path("wrong.locus"), "golden vector 0 differs");
    assert_eq!(daemon.operator().unwrap().get("/ready").unwrap().0, 200);
}

/// The label of what serves.
fn serves(daemon: &Daemon) -> String {
    label(health(daemon)["model"]["version"].as_str().unwrap()).to_owned()
}

fn health(daemon: &Daemon) -> serde_json::Value {
    serde_json::from_slice(&daemon.operator().unwrap().get("/health").unwrap().1).unwrap()
}

fn flash(rig: &Rig, path: &Path) -> serde_json::Value {
    serde_json::from_str(&rig.ctl(&["flash", "--json", &path.display().to_string()]).unwrap()).unwrap()
}

#[test]
fn what_is_damaged_in_the_slots_is_told_until_it_is_mended() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let one = model(&rig, "one", 1, 2.0);
    let digest = flash(&rig, &one)["digest"].as_str().unwrap().to_owned();
    let stored = rig.path(&format!("state/slots/bundles/{digest}.locus"));
    let mut bytes = fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stored, bytes).unwrap();
    let daemon = rig.start().unwrap();
    let fallen = health(&daemon);
    let notice = fallen["notices"][0].as_str().unwrap();
    assert!(notice.contains("does not serve, the previous one serves"), "{notice}");
    assert_eq!(serves(&daemon), "shipped");
    refused(&rig, &root().join("models/variant-effect.locus"), "the bundle is unsigned");
    assert_eq!(health(&daemon)["notices"], fallen["notices"], "nothing was mended");
    let mended = flash(&rig, &one);
    assert_eq!((&mended["unchanged"], &mended["digest"]), (&false.into(), &digest.as_str().into()));
    let whole = health(&daemon);
    assert_eq!((serves(&daemon).as_str(), &whole["notices"]), ("one", &serde_json::json!([])));
    daemon.terminate().unwrap();
    fs::write(rig.path("state/slots/record.0"), b"LOCUSSL1 no more").unwrap();
    let shown = rig.ctl_output(&["slots"]).unwrap();
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stderr).contains("record.0 is damaged"));
    let daemon = rig.start().unwrap();
    assert_eq!(flash(&rig, &one)["unchanged"], true);
    let notices = health(&daemon)["notices"].clone();
    assert!(notices[0].as_str().is_some_and(|notice| notice.contains("record.0 is damaged")), "{notices}");
    rig.ctl(&["rollback"]).unwrap();
    assert_eq!(health(&daemon)["notices"], serde_json::json!([]));
    assert!(rig.ctl_output(&["slots"]).unwrap().stderr.is_empty(), "both copies are written");
}

/// What one model says of every variant, and which it is.
struct Voice {
    digest: String,
    /// Prior and probability.
    said: Vec<(Option<f64>, Option<f64>)>,
}

/// Largest difference between two runs of one model in batches of different sizes.
const SAME: f64 = 1e-4;
/// Smallest difference that tells two models apart.
const OTHER: f64 = 1e-2;

impl Voice {
    async fn of(http: &HttpTerminal, name: &str) -> Self {
        let mut voice = Self { digest: String::new(), said: Vec::new() };
        for (n, fact) in facts().variants.iter().enumerate() {
            let answer = answered(http, &fact.request(&format!("{name}-{n}"))).await;
            assert_eq!(label(&answer.model.version), name);
            voice.digest = answer.model.digest;
            voice.said.push((answer.prior, answer.pathogenic_probability));
        }
        voice
    }

    /// How many answers tell the two apart by prior and by probability.
    fn differs(&self, other: &Self) -> usize {
        let other = other.said.iter();
        let far = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| (a - b).abs() > OTHER);
        self.said.iter().zip(other).filter(|(a, b)| far(a.0, b.0) && far(a.1, b.1)).count()
    }
}

async fn answered(http: &HttpTerminal, request: &locus_firmware_config::message::Request) -> Answer {
    match http.ask(request, PATIENCE).await.unwrap() {
        Outcome::Answer(answer) => *answer,
        Outcome::Fault(fault) => panic!("{}: {}", fault.code.as_str(), fault.message),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_change_while_terminals_ask_and_every_answer_is_of_one_alone() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let paths = [model(&rig, "one", 1, 2.0), model(&rig, "two", 1, 4.0)];
    let daemon = rig.start().unwrap();
    let mut voices = BTreeMap::new();
    let http = daemon.http("listener").unwrap();
    voices.insert("shipped", Voice::of(&http, "shipped").await);
    for (name, path) in ["one", "two"].into_iter().zip(&paths) {
        rig.ctl(&["flash", &path.display().to_string()]).unwrap();
        voices.insert(name, Voice::of(&http, name).await);
    }
    for (a, b) in [("shipped", "one"), ("one", "two")] {
        let (a, b) = (&voices[a], &voices[b]);
        assert!(a.differs(b) > a.said.len() / 2, "a mix of the two could not be seen");
    }
    let (stop, voices) = (Arc::new(AtomicBool::new(false)), Arc::new(voices));
    let askers: Vec<_> = (0..3)
        .map(|asker| {
            let (stop, voices) = (Arc::clone(&stop), Arc::clone(&voices));
            let http = daemon.http(&format!("ward-{asker}")).unwrap();
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let facts = facts().variants;
                    let at = n % facts.len();
                    let answer = answered(&http, &facts[at].request(&n.to_string())).await;
                    let voice = &voices[label(&answer.model.version)];
                    let (prior, probability) = voice.said[at];
                    assert_eq!(
                        (&answer.model.digest, answer.prior),
                        (&voice.digest, prior),
                        "a mixed answer"
                    );
                    let same = match (answer.pathogenic_probability, probability) {
                        (Some(got), Some(expected)) => (got - expected).abs() < SAME,
                        (got, expected) => got == expected,
                    };
                    assert!(same, "a mixed answer: {answer:?}, expected {probability:?}");
                    seen.insert(label(&answer.model.version).to_owned());
                }
                seen
            })
        })
        .collect();
    for round in 0..10 {
        rig.ctl(&["flash", &paths[round % 2].display().to_string()]).unwrap();
    }
    rig.ctl(&["rollback"]).unwrap();
    stop.store(true, Ordering::Release);
    for asker in askers {
        let seen = asker.await.unwrap();
        assert!(seen.contains("one") && seen.contains("two"), "{seen:?}");
    }
    let back = health(&daemon);
    assert_eq!(serves(&daemon), "one", "back from two");
    assert!(back["free_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{back}");
    daemon.terminate().unwrap();
    let daemon = rig.start().unwrap();
    assert_eq!(serves(&daemon), "one", "and after a restart");
}

fn start_flash(rig: &Rig, path: &Path) -> Child {
    let mut flash = program("locusctl");
    flash.arg("--config").arg(rig.config()).arg("flash").arg(path);
    flash.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a flash changes on the disk: the record, and which files of bundles there are.
fn traces(rig: &Rig) -> (serde_json::Value, BTreeSet<(std::ffi::OsString, u64)>) {
    let files = fs::read_dir(rig.path("state/slots/bundles")).unwrap().map(Result::unwrap);
    (slots(rig), files.map(|file| (file.file_name(), file.metadata().unwrap().ino())).collect())
}

#[test]
fn a_flash_killed_at_any_moment_leaves_one_model_that_serves() {
    killed_flashes(20);
}

#[test]
#[ignore = "200 killed flashes take minutes"]
fn a_flash_killed_at_two_hundred_moments_leaves_one_model_that_serves() {
    killed_flashes(200);
}

fn killed_flashes(rounds: u32) {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let mut models =
        [model(&rig, "one", 1, 2.0), model(&rig, "two", 1, 4.0)].map(|path| (path, String::new()));
    // The moments are drawn from the time that a flash takes on this machine, now, and a little after it.
    let mut whole = Duration::MAX;
    for n in [0, 1, 0, 1] {
        let started = Instant::now();
        assert!(start_flash(&rig, &models[n].0).wait().unwrap().success());
        whole = whole.min(started.elapsed());
        models[n].1 = slots(&rig)["active"].as_str().unwrap().to_owned();
    }
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(20_261_124);
    let (mut killed, mut midway) = (0, 0);
    for round in 0..rounds {
        let before = traces(&rig);
        let (path, _) = models.iter().find(|(_, digest)| before.0["active"] != digest.as_str()).unwrap();
        let mut flash = start_flash(&rig, path);
        std::thread::sleep(whole.mul_f64(rng.random_range(0.0..1.1)));
        let _ = flash.kill();
        if !flash.wait().unwrap().success() {
            killed += 1;
            midway += u32::from(traces(&rig) != before);
        }
        let record = slots(&rig);
        let active = record["active"].as_str().unwrap();
        assert!(models.iter().any(|(_, digest)| digest == active), "round {round}: {record}");
        assert!(
            rig.path(&format!("state/slots/bundles/{active}.locus")).is_file(),
            "round {round}: {record}"
        );
    }
    let trail: serde_json::Value = serde_json::from_str(&rig.ctl(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!(trail["findings"], serde_json::json!([]), "the audit trail holds");
    let of =
        |stage: &str| trail["entries"].as_array().unwrap().iter().filter(|e| e["stage"] == stage).count();
    // The last one may not be known to be cut until the next attempt.
    assert!(
        of("cut") + of("done") + 1 >= of("begun"),
        "{} begun, {} done, {} cut",
        of("begun"),
        of("done"),
        of("cut")
    );
    println!(
        "{rounds} flashes of {whole:?}: {killed} killed, {midway} of them after they had begun to write"
    );
    assert!(killed >= rounds / 4, "only {killed} kills hit a flash");
    assert!(midway > 0, "no kill came after the flash had begun to write");
    let active = slots(&rig)["active"].clone();
    let daemon = rig.start().unwrap();
    assert_eq!(daemon.operator().unwrap().get("/ready").unwrap().0, 200);
    assert_eq!(health(&daemon)["model"]["digest"], active);
    drop(daemon);
    rig.ctl(&["flash", &rig.path("signed.locus").display().to_string()]).unwrap();
    let left = fs::read_dir(rig.path("state/slots/bundles")).unwrap().count();
    assert!(left <= 3, "{left} files in the slots");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_confirmed_by_answers_or_by_hand_and_ended_by_order_or_by_a_restart() {
    let rig = Rig::new("").unwrap();
    let config = fs::read_to_string(rig.config()).unwrap();
    let watched = rig.path("stick");
    fs::create_dir(&watched).unwrap();
    let with = |words: &str| {
        let keys = "trusted_keys = [\"publisher.pub\"]\n";
        fs::write(rig.config(), config.replace(keys, &format!("{keys}watch = \"stick\"\n{words}\n")))
            .unwrap();
    };
    with("confirm_after = 3");
    rig.flash().unwrap();
    let shipped = slots(&rig)["active"].clone();
    let (one, two) = (model(&rig, "one", 2, 2.0), model(&rig, "two", 3, 4.0));
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward").unwrap();
    let request = |id: &str| facts().variants[0].request(id);
    let trial = flash(&rig, &one);
    assert_eq!((&trial["on_trial"], &trial["floor"]), (&true.into(), &1.into()));
    assert_eq!((&slots(&rig)["active"], &slots(&rig)["trial"]), (&shipped, &trial["digest"]));
    for n in 0..3 {
        assert_eq!(health(&daemon)["trial_answers"], n);
        assert_eq!(answered(&http, &request(&format!("a{n}"))).await.model.version, "1.2.0-one");
    }
    let waited = Instant::now();
    // The record comes first, then the pipeline hears of it.
    while slots(&rig)["active"] != trial["digest"] || !health(&daemon)["trial_answers"].is_null() {
        assert!(waited.elapsed() < PATIENCE, "{}", slots(&rig));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let confirmed = slots(&rig);
    assert_eq!(
        (&confirmed["floor"], &confirmed["previous"], &confirmed["trial"]),
        (&2.into(), &shipped, &serde_json::Value::Null)
    );
    flash(&rig, &two);
    rig.ctl(&["revert"]).unwrap();
    assert_eq!(slots(&rig)["floor"], 2, "a reverted trial does not raise the floor");
    assert_eq!(answered(&http, &request("b")).await.model.version, "1.2.0-one");
    flash(&rig, &two);
    daemon.signal(rustix::process::Signal::KILL).unwrap();
    daemon.wait().unwrap();
    with("confirm_by_hand = true");
    let daemon = rig.start().unwrap();
    assert_eq!(serves(&daemon), "one", "a trial does not outlive its process");
    // A stick with a bundle.
    fs::copy(&two, watched.join("two.locus")).unwrap();
    let waited = Instant::now();
    while serves(&daemon) != "two" {
        assert!(waited.elapsed() < PATIENCE, "{}", health(&daemon));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let http = daemon.http("ward").unwrap();
    for n in 0..5 {
        answered(&http, &request(&format!("c{n}"))).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(slots(&rig)["trial"].is_string(), "it waits for a hand");
    rig.ctl(&["confirm"]).unwrap();
    assert_eq!((&slots(&rig)["floor"], &slots(&rig)["trial"]), (&3.into(), &serde_json::Value::Null));
    assert!(!rig.ctl_output(&["confirm"]).unwrap().status.success(), "no trial is left");
    let trail = rig.ctl(&["audit"]).unwrap();
    for word in ["confirm  done", "revert   done", "start    noted", "flash    done"] {
        assert!(trail.contains(word), "{word}: {trail}");
    }
}
