//! Flashing with the real programs: what is refused, what serves, and what stays after a crash.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use locus_firmware_config::message::Outcome;
use locus_tests::{Rig, facts, program, root, variation};
use rand::{RngExt as _, SeedableRng as _};

const PATIENCE: Duration = Duration::from_secs(20);

fn slots(rig: &Rig) -> serde_json::Value {
    serde_json::from_str(&rig.ctl(&["slots", "--json"]).unwrap()).unwrap()
}

/// A signed model of another name and counter.
fn model(rig: &Rig, name: &str, counter: u64) -> PathBuf {
    let (unsigned, signed) = (rig.path(&format!("{name}.unsigned")), rig.path(&format!("{name}.locus")));
    let bytes = variation(|manifest| {
        manifest.name = name.into();
        manifest.security_counter = counter;
    });
    fs::write(&unsigned, bytes.unwrap()).unwrap();
    rig.sign(&unsigned, &signed).unwrap();
    signed
}

fn refused(rig: &Rig, path: &std::path::Path, reason: &str) {
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
    refused(&rig, &root().join("models/variant-effect.locus"), "signature");
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
    refused(&rig, &foreign, "key");
    let good = fs::read(rig.path("signed.locus")).unwrap();
    for (name, at) in [("manifest", 700), ("part", good.len() / 2), ("end", good.len() - 5_000)] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let path = rig.path(&format!("flipped-{name}.locus"));
        fs::write(&path, bytes).unwrap();
        refused(&rig, &path, "locusctl:");
    }
    let cut = rig.path("cut.locus");
    fs::write(&cut, &good[..good.len() / 3]).unwrap();
    refused(&rig, &cut, "locusctl:");
    refused(&rig, &rig.path("none.locus"), "cannot find");
    assert_eq!(slots(&rig), before, "nothing was touched");
    rig.ctl(&["flash", &model(&rig, "newer", 5).display().to_string()]).unwrap();
    refused(&rig, &model(&rig, "older", 4), "security counter is 4, this box takes 5 or more");
    let after = slots(&rig);
    assert_eq!((&after["floor"], &after["previous"]), (&5.into(), &before["active"]));
    // Going back to below the floor is a downgrade too.
    let back = rig.ctl_output(&["rollback"]).unwrap();
    assert!(!back.status.success());
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
    assert_eq!(daemon.http("x").unwrap().get("/ready").unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_change_while_terminals_ask_and_every_answer_names_its_own() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let paths = [model(&rig, "one", 1), model(&rig, "two", 1)];
    let daemon = rig.start().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..3)
        .map(|asker| {
            let (http, stop) = (daemon.http(&format!("ward-{asker}")).unwrap(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeMap::new();
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let facts = facts().variants;
                    let request = facts[n % facts.len()].request(&n.to_string());
                    match http.ask(&request, PATIENCE).await.unwrap() {
                        Outcome::Answer(answer) => {
                            let digest =
                                seen.entry(answer.model.name.clone()).or_insert(answer.model.digest.clone());
                            assert_eq!(*digest, answer.model.digest, "a mixed answer");
                        }
                        Outcome::Fault(fault) => panic!("{}: {}", fault.code.as_str(), fault.message),
                    }
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
        assert!(seen.contains_key("one") && seen.contains_key("two"), "{seen:?}");
    }
    let health: serde_json::Value =
        serde_json::from_slice(&daemon.http("x").unwrap().get("/health").unwrap().1).unwrap();
    assert_eq!(health["model"]["name"], "one", "back from two");
    daemon.terminate().unwrap();
    let daemon = rig.start().unwrap();
    let health: serde_json::Value =
        serde_json::from_slice(&daemon.http("x").unwrap().get("/health").unwrap().1).unwrap();
    assert_eq!(health["model"]["name"], "one", "and after a restart");
}

#[test]
fn a_flash_killed_at_any_moment_leaves_one_model_that_serves() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let paths = [model(&rig, "one", 1), model(&rig, "two", 1)];
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(20_261_124);
    let mut done = 0;
    for round in 0..40 {
        let mut flash = program("locusctl")
            .arg("--config")
            .arg(rig.config())
            .arg("flash")
            .arg(&paths[round % 2])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(rng.random_range(0..150_000)));
        let _ = flash.kill();
        done += u32::from(flash.wait().unwrap().success());
        let record = slots(&rig);
        let active = record["active"].as_str().unwrap();
        assert!(
            rig.path(&format!("state/slots/bundles/{active}.locus")).is_file(),
            "round {round}: {record}"
        );
    }
    println!("40 flashes, {done} of them quicker than the kill");
    let daemon = rig.start().unwrap();
    assert_eq!(daemon.http("x").unwrap().get("/ready").unwrap().0, 200);
    drop(daemon);
    rig.ctl(&["flash", &rig.path("signed.locus").display().to_string()]).unwrap();
    let left = fs::read_dir(rig.path("state/slots/bundles")).unwrap().count();
    assert!(left <= 3, "{left} files in the slots");
}
