//! Several models in one box, with the real programs: who answers, who is swapped, who is set back.
#![allow(clippy::unwrap_used, reason = "a test")]

mod swaps;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Answer, FaultCode, Outcome, Request};
use locus_tests::{Daemon, Rig, facts, program, reweighted, root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// Largest difference between two runs of one model in batches of different sizes.
const SAME: f64 = 1e-4;
/// Smallest difference that tells two models apart.
const OTHER: f64 = 5e-3;

/// The signed shipped bundle of a model.
fn shipped(rig: &Rig, model: &str) -> PathBuf {
    let signed = rig.path(&format!("{model}.locus"));
    rig.sign(&root().join("models").join(format!("{model}.locus")), &signed).unwrap();
    signed
}

/// A signed bundle of the same graphs with other weights.
fn weighted(rig: &Rig, model: &str, label: &str, scale: f32) -> PathBuf {
    let bytes = reweighted(model, scale, |manifest| {
        manifest.version = format!("2.0.0-{label}").parse().unwrap();
    });
    let (unsigned, signed) =
        (rig.path(&format!("{label}.unsigned")), rig.path(&format!("{model}-{label}.locus")));
    fs::write(&unsigned, bytes.unwrap()).unwrap();
    rig.sign(&unsigned, &signed).unwrap();
    signed
}

fn flash(rig: &Rig, path: &Path) -> Value {
    serde_json::from_str(&rig.ctl(&["flash", "--json", &path.display().to_string()]).unwrap()).unwrap()
}

fn slots(rig: &Rig) -> Value {
    let record: Value = serde_json::from_str(&rig.ctl(&["slots", "--json"]).unwrap()).unwrap();
    record["models"].clone()
}

fn health(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.operator().unwrap().get("/health").unwrap().1).unwrap()
}

/// Questions to a model, in its own form.
fn questions(model: &str) -> Vec<Request> {
    let facts = facts().variants.into_iter();
    match model {
        "coding" => facts
            .flat_map(|fact| [fact.sequence[..300].to_owned(), fact.sequence[300..].to_owned()])
            .map(|sequence| Request { sequence: Some(sequence), ..Request::default() })
            .collect(),
        _ => facts.map(|fact| Request { id: None, ..fact.request("x") }).collect(),
    }
}

/// Its number: of a variant the probability of pathogenic, of a sequence that of the last label.
fn number(answer: &Answer) -> Option<f64> {
    let last = answer.prediction.as_ref().and_then(|prediction| prediction.probabilities.last());
    answer.pathogenic_probability.or(last.map(|last| last.probability))
}

async fn answered(terminal: &mut Terminal, request: &Request) -> Answer {
    match terminal.ask(request, PATIENCE).await.unwrap() {
        Outcome::Answer(answer) => *answer,
        Outcome::Fault(fault) => panic!("{}: {}", fault.code.as_str(), fault.message),
    }
}

/// What each bundle says of every question, by its digest.
type Voices = BTreeMap<String, Vec<Option<f64>>>;

async fn listen(terminal: &mut Terminal, model: &str, voices: &mut Voices) -> String {
    let (mut said, mut digest) = (Vec::new(), String::new());
    for question in questions(model) {
        let answer = answered(terminal, &question).await;
        assert_eq!(answer.model.name, model);
        said.push(number(&answer));
        digest = answer.model.digest;
    }
    for (other, voice) in &*voices {
        let far =
            said.iter().zip(voice).filter(|(a, b)| a.zip(**b).is_some_and(|(a, b)| (a - b).abs() > OTHER));
        assert!(
            *other == digest || voice.len() != said.len() || far.count() > said.len() / 2,
            "a mix could not be seen"
        );
    }
    voices.insert(digest.clone(), said);
    digest
}

/// Whether an answer is what the bundle that it names says of the question.
fn is_own(answer: &Answer, at: usize, voices: &Voices) {
    let expected = voices.get(&answer.model.digest).unwrap_or_else(|| panic!("{answer:?} of nobody"))[at];
    let same = match (number(answer), expected) {
        (Some(got), Some(expected)) => (got - expected).abs() < SAME,
        (got, expected) => got == expected,
    };
    assert!(same, "a mixed answer: {answer:?}, expected {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_answer_side_by_side_over_every_transport_each_under_its_own_name() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let coding = flash(&rig, &shipped(&rig, "coding"));
    assert_eq!((&coding["name"], &coding["previous"]), (&"coding".into(), &Value::Null));
    let mut http = Terminal::Http(daemon.http("ward-1").unwrap());
    let mut voices = Voices::new();
    for model in ["variant-effect", "coding"] {
        listen(&mut http, model, &mut voices).await;
    }
    let digest = |model: &str| slots(&rig)[model]["active"].as_str().unwrap().to_owned();
    let (variants, sequences) = (digest("variant-effect"), digest("coding"));
    assert!(voices.contains_key(&variants) && voices.contains_key(&sequences));
    let transports = [
        http,
        Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap())),
        Terminal::Serial(Box::new(rig.serial().unwrap())),
    ];
    for mut terminal in transports {
        for (model, digest) in [("variant-effect", &variants), ("coding", &sequences)] {
            for (at, question) in questions(model).into_iter().enumerate().take(4) {
                let named = [None, Some(model.to_owned()), Some(digest.clone())];
                let question = Request { model: named[at % 3].clone(), ..question };
                let answer = answered(&mut terminal, &question).await;
                assert_eq!((answer.model.name.as_str(), &answer.model.digest), (model, digest));
                is_own(&answer, at, &voices);
            }
        }
        let wrong = Request { model: Some("coding".into()), ..questions("variant-effect").remove(0) };
        let Outcome::Fault(fault) = terminal.ask(&wrong, PATIENCE).await.unwrap() else { panic!("answered") };
        assert!(
            fault.code == FaultCode::BadRequest && fault.message.contains("so coding is asked"),
            "{fault:?}"
        );
        let unknown = Request { model: Some("nobody".into()), ..questions("coding").remove(0) };
        let Outcome::Fault(fault) = terminal.ask(&unknown, PATIENCE).await.unwrap() else {
            panic!("answered")
        };
        assert!(
            fault.code == FaultCode::UnknownModel && fault.message.contains("(coding, variant-effect)"),
            "{fault:?}"
        );
    }
    let seen = health(&daemon);
    let names: Vec<_> =
        seen["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!((names.as_slice(), &seen["model"]), (["coding", "variant-effect"].as_slice(), &Value::Null));
    let web = daemon.operator().unwrap();
    let (status, ready) = web.get("/ready").unwrap();
    assert!(status == 200 && String::from_utf8_lossy(&ready).contains("[\"coding\",\"variant-effect\"]"));
    let metrics = String::from_utf8(web.get("/metrics").unwrap().1).unwrap();
    for line in ["locus_model_serves{model=\"coding\"} 1", "locus_answers_total{model=\"coding\"}"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // Restarted, both serve; what was kept of each names its model.
    daemon.terminate().unwrap();
    let kept = rig.exported().unwrap();
    assert!(kept.iter().any(|line| line["record"]["answer"]["model"]["name"] == "coding"));
    let daemon = rig.start().unwrap();
    let mut http = Terminal::Http(daemon.http("ward-1").unwrap());
    for model in ["variant-effect", "coding"] {
        for (at, question) in questions(model).into_iter().enumerate() {
            is_own(&answered(&mut http, &question).await, at, &voices);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_has_its_own_trial_way_back_and_floor_and_can_be_taken_out() {
    let rig = Rig::new("").unwrap();
    let config = fs::read_to_string(rig.config()).unwrap();
    rig.flash().unwrap();
    flash(&rig, &shipped(&rig, "coding"));
    let keys = "trusted_keys = [\"publisher.pub\"]\n";
    fs::write(rig.config(), config.replace(keys, &format!("{keys}confirm_after = 2\n"))).unwrap();
    let before = slots(&rig);
    let daemon = rig.start().unwrap();
    let (one, two) = (weighted(&rig, "variant-effect", "one", 0.6), weighted(&rig, "coding", "two", 0.6));
    assert_eq!(flash(&rig, &one)["on_trial"], true);
    assert_eq!(flash(&rig, &two)["on_trial"], true);
    let which = rig.ctl_output(&["revert"]).unwrap();
    let told = String::from_utf8_lossy(&which.stderr).into_owned();
    assert!(!which.status.success() && told.contains("--model with one of coding, variant-effect"), "{told}");
    // Answers of one are no answers of the other.
    let mut http = Terminal::Http(daemon.http("ward-1").unwrap());
    for question in questions("variant-effect").iter().take(2) {
        assert_eq!(answered(&mut http, question).await.model.version, "2.0.0-one");
    }
    let waited = Instant::now();
    while !slots(&rig)["variant-effect"]["trial"].is_null() {
        assert!(waited.elapsed() < PATIENCE, "{}", slots(&rig));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = slots(&rig);
    assert_eq!(now["variant-effect"]["previous"], before["variant-effect"]["active"]);
    assert!(now["coding"]["trial"].is_string(), "{now}");
    rig.ctl(&["revert"]).unwrap();
    assert_eq!(slots(&rig)["coding"], before["coding"]);
    let which = rig.ctl_output(&["rollback"]).unwrap();
    assert!(String::from_utf8_lossy(&which.stderr).contains("--model with one of coding, variant-effect"));
    let unknown = rig.ctl_output(&["rollback", "--model", "nobody"]).unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("got model \"nobody\""));
    rig.ctl(&["rollback", "--model", "variant-effect"]).unwrap();
    let question = &questions("variant-effect")[0];
    assert_eq!(answered(&mut http, question).await.model.version, "1.2.0");
    rig.ctl(&["remove", "--model", "coding"]).unwrap();
    let Outcome::Fault(fault) = http.ask(&questions("coding")[0], PATIENCE).await.unwrap() else {
        panic!("answered")
    };
    assert!(fault.message.contains("(variant-effect) judge variants"), "{fault:?}");
    assert!(slots(&rig)["coding"]["active"].is_null());
    assert_eq!(health(&daemon)["model"]["name"], "variant-effect");
    let shown = rig.ctl(&["slots", "--model", "variant-effect"]).unwrap();
    assert!(shown.starts_with("variant-effect\n  active"), "{shown}");
    let trail = rig.ctl(&["audit"]).unwrap();
    assert!(trail.contains("remove   done     coding"), "{trail}");
}

#[test]
fn a_model_with_which_the_daemon_dies_while_it_starts_is_set_back_and_the_others_serve() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    flash(&rig, &shipped(&rig, "coding"));
    let good = slots(&rig)["variant-effect"]["active"].clone();
    let bad = flash(&rig, &weighted(&rig, "variant-effect", "one", 0.75))["digest"].clone();
    let mark = rig.path(&format!("state/run/unproven/{}", bad.as_str().unwrap()));
    let endpoints = rig.path("state/run/endpoints.json");
    let (mut deaths, mut starts) = (0, 0);
    while slots(&rig)["variant-effect"]["active"] == bad {
        starts += 1;
        assert!(starts < 12, "{}", slots(&rig));
        let _ = fs::remove_file(&endpoints);
        let mut child = program("locusd")
            .arg("--config")
            .arg(rig.config())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Ended in the middle of its start, as by a crash of the engine; one that was too quick is ended all the same.
        let (started, mut taken) = (Instant::now(), false);
        loop {
            // The mark that the last start left is taken before this one sets its own.
            taken |= !mark.exists();
            if taken && mark.exists() || endpoints.exists() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "it does not start");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        deaths += u32::from(mark.exists());
    }
    let now = slots(&rig)["variant-effect"].clone();
    assert_eq!((&now["active"], &now["set_back"], &now["previous"]), (&good, &bad, &Value::Null));
    assert!(deaths >= 3, "{deaths}");
    let daemon = rig.start().unwrap();
    let shown = rig.ctl(&["slots"]).unwrap();
    assert!(shown.contains(&format!("set back  {}", bad.as_str().unwrap())), "{shown}");
    let names: Vec<Value> =
        health(&daemon)["models"].as_array().unwrap().iter().map(|m| m["digest"].clone()).collect();
    assert!(names.len() == 2 && names.contains(&good), "{names:?}");
    // It may be flashed again: that is an operator's word.
    flash(&rig, &rig.path("variant-effect-one.locus"));
    assert_eq!(slots(&rig)["variant-effect"]["set_back"], Value::Null);
}

#[test]
fn a_box_of_the_time_of_one_model_goes_on_with_it() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let active = slots(&rig)["variant-effect"]["active"].clone();
    let json =
        serde_json::json!({"sequence": 5, "active": active, "previous": null, "trial": null, "floor": 1});
    let mut record = [b"LOCUSSL1".as_slice(), json.to_string().as_bytes()].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&record);
    record.extend(crc.sum().to_le_bytes());
    for name in ["record.0", "record.1"] {
        fs::write(rig.path("state/slots").join(name), &record).unwrap();
    }
    assert!(rig.ctl(&["slots"]).unwrap().contains("(named at the next start)"));
    let daemon = rig.start().unwrap();
    assert_eq!(health(&daemon)["model"]["digest"], active);
    let named = slots(&rig);
    assert_eq!((&named["variant-effect"]["active"], &named["variant-effect"]["floor"]), (&active, &1.into()));
}

#[test]
fn a_flash_says_how_far_it_is_and_is_silent_as_json() {
    let rig = Rig::new("").unwrap();
    rig.ctl(&["init"]).unwrap();
    let coding = shipped(&rig, "coding").display().to_string();
    let signed = rig.path("signed.locus").display().to_string();
    let steps = [
        "verifying signatures and parts",
        "unpacking 3",
        "engine 1 of 4 built, for 128 tokens",
        "engine 4 of 4 built, for 1024 tokens",
        "comparing golden vectors",
        "changing over, on trial",
    ];
    let alone = rig.ctl_output(&["flash", &coding]).unwrap();
    let daemon = rig.start().unwrap();
    rig.ctl(&["remove", "--model", "coding"]).unwrap();
    let told = rig.ctl_output(&["flash", &coding]).unwrap();
    for output in [alone, told] {
        let text = String::from_utf8(output.stderr).unwrap();
        let at: Vec<_> = steps.iter().map(|step| text.find(step)).collect();
        assert!(output.status.success() && at.iter().all(Option::is_some) && at.is_sorted(), "{text}");
    }
    assert!(rig.ctl_output(&["flash", "--json", &signed]).unwrap().stderr.is_empty());
    drop(daemon);
}

#[test]
fn a_delta_has_only_what_changed_and_is_completed_from_the_slots_or_refused() {
    let rig = Rig::new("").unwrap();
    rig.ctl(&["init"]).unwrap();
    let (old, new) = (rig.path("signed.locus"), rig.path("new.locus"));
    // Another calibration of the same graphs: the manifest changes, and no part.
    let bytes = locus_tests::variation(|manifest| {
        manifest.version = "3.0.0".parse().unwrap();
        for mode in manifest.probability.modes.values_mut() {
            mode.temperature *= 2.0;
        }
    });
    fs::write(rig.path("new.unsigned"), bytes.unwrap()).unwrap();
    rig.sign(&rig.path("new.unsigned"), &new).unwrap();
    let weights = weighted(&rig, "variant-effect", "weights", 0.75);
    let delta = |from: &Path, to: &Path, out: &str| {
        let out = rig.path(out);
        let made =
            program("locus").args(["bundle", "delta"]).args([from, to]).arg("--out").arg(&out).output();
        assert!(made.unwrap().status.success());
        out
    };
    let small = delta(&old, &new, "small.locus");
    let larger = delta(&new, &weights, "larger.locus");
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&small) * 50 < size(&new), "{} of {}", size(&small), size(&new));
    assert!(size(&larger) < size(&weights), "{} of {}", size(&larger), size(&weights));
    let refused = rig.ctl_output(&["flash", &small.display().to_string()]).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("leaves out part tokenizer.json"), "{text}");
    assert!(text.contains("flash the whole bundle"), "{text}");
    flash(&rig, &old);
    let daemon = rig.start().unwrap();
    for path in [&small, &larger] {
        let flashed = flash(&rig, path);
        assert_eq!((&flashed["name"], &flashed["unchanged"]), (&"variant-effect".into(), &false.into()));
        assert_eq!(health(&daemon)["model"]["digest"], flashed["digest"]);
    }
    let digest = slots(&rig)["variant-effect"]["active"].clone();
    // The whole bundle is the same one.
    assert_eq!(flash(&rig, &weights)["digest"], digest);
    assert_eq!(flash(&rig, &weights)["unchanged"], true);
    daemon.terminate().unwrap();
    let daemon = rig.start().unwrap();
    assert_eq!(health(&daemon)["model"]["digest"], digest, "what was stored is whole");
}
