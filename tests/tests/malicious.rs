//! Over a hundred kinds of bad bundles, one way to be wrong each, shown to the real code that flashes.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use locus_tests::{
    Rig,
    malicious::{self, Draft, FLOOR, key},
    program,
};
use serde_json::Value;

/// Most memory that a bad bundle may cost the program that refuses it.
const MEMORY_KIB: u64 = 256 << 10;

/// A box that takes what two of three keys have signed, with the shipped model at the floor.
fn rig(issued: &str, expires: &str) -> (Rig, PathBuf) {
    let rig = Rig::new("").unwrap();
    fs::write(rig.path("trust.json"), malicious::trust(issued, expires)).unwrap();
    let config = fs::read_to_string(rig.config()).unwrap();
    fs::write(rig.config(), config.replace("trusted_keys = [\"publisher.pub\"]", "trust = \"trust.json\""))
        .unwrap();
    let good = rig.path("good.locus");
    fs::write(&good, Draft::shipped().unwrap().signed_bundle()).unwrap();
    rig.ctl(&["init"]).unwrap();
    (rig, good)
}

fn flash_each(rig: &Rig, files: &[PathBuf]) -> Vec<Value> {
    let output = program("flash-each").arg(rig.config()).args(files).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_bad_bundle_is_refused_for_its_reason_within_its_memory_and_changes_nothing() {
    let (rig, good) = rig("2026-01-01", "2099-12-31");
    rig.ctl(&["flash", &good.display().to_string()]).unwrap();
    let slots = || serde_json::from_str::<Value>(&rig.ctl(&["slots", "--json"]).unwrap()).unwrap();
    let before = slots();
    assert_eq!(before["models"]["malicious"]["floor"], FLOOR);
    let kinds = malicious::kinds().unwrap();
    let names: BTreeSet<_> = kinds.iter().map(|kind| kind.name).collect();
    assert!(names.len() == kinds.len() && kinds.len() >= 100, "{} kinds", kinds.len());
    let folder = rig.path("bad");
    fs::create_dir(&folder).unwrap();
    let mut wrong = Vec::new();
    let (mut peak, mut worst) = (0, "");
    // A few at a time, so that the disk holds a few at a time; one process, so that memory adds up.
    for (round, some) in kinds.chunks(40).enumerate() {
        let files: Vec<_> =
            (0..some.len()).map(|n| folder.join(format!("{}.locus", round * 40 + n))).collect();
        for (kind, file) in some.iter().zip(&files) {
            malicious::write(kind, file).unwrap();
        }
        let told = flash_each(&rig, &files);
        let (record, told) = told.split_last().unwrap();
        for (kind, told) in some.iter().zip(told) {
            let kib = told["peak_kib"].as_u64().unwrap();
            if kib > peak {
                (peak, worst) = (kib, kind.name);
            }
            match told["error"].as_str() {
                Some(reason) if reason.contains(kind.reason) => {}
                Some(reason) => wrong.push(format!("{}: {reason:?}, expected {:?}", kind.name, kind.reason)),
                None => wrong.push(format!("{}: flashed", kind.name)),
            }
        }
        if record["record"]["models"] != before["models"] {
            wrong.push(format!("the slots say {record}"));
        }
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
    }
    assert!(wrong.is_empty(), "{} of {} kinds:\n{}", wrong.len(), kinds.len(), wrong.join("\n"));
    println!("{} kinds refused, at most {} MiB (after {worst})", kinds.len(), peak >> 10);
    assert!(peak < MEMORY_KIB, "{peak} KiB after {worst}");
    assert_eq!(slots(), before, "neither slots nor floor");
    let trail: Value = serde_json::from_str(&rig.ctl(&["audit", "--json"]).unwrap()).unwrap();
    let refused =
        trail["entries"].as_array().unwrap().iter().filter(|entry| entry["stage"] == "refused").count();
    assert_eq!(
        (refused, &trail["findings"]),
        (kinds.len(), &serde_json::json!([])),
        "each is in the audit trail"
    );
    rig.ctl(&["flash", &good.display().to_string()]).unwrap();
}

#[test]
fn under_an_expired_trust_document_nothing_is_flashed_and_under_a_wrong_clock_it_is_said() {
    let (expired, good) = rig("2020-01-01", "2020-12-31");
    let told = flash_each(&expired, std::slice::from_ref(&good));
    assert!(told[0]["error"].as_str().unwrap().contains("expired on 2020-12-31"), "{}", told[0]);
    let (early, good) = rig("2090-01-01", "2099-12-31");
    let flashed = early.ctl_output(&["flash", &good.display().to_string()]).unwrap();
    let text = String::from_utf8_lossy(&flashed.stderr).into_owned();
    assert!(flashed.status.success() && text.contains("before the trust document was made"), "{text}");
    assert!(early.ctl(&["audit"]).unwrap().contains("set the clock"));
}

#[test]
fn keys_are_rotated_and_revoked_by_the_documents_of_their_roots() {
    let (rig, good) = rig("2026-01-01", "2099-12-31");
    rig.ctl(&["flash", &good.display().to_string()]).unwrap();
    let locus = |arguments: &[&str]| {
        let output = program("locus").args(arguments).output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let path = |name: &str| rig.path(name).display().to_string();
    for seed in [1, malicious::ROOT] {
        fs::write(rig.path(&format!("{seed}.key")), malicious::private_pem(&key(seed))).unwrap();
        fs::write(rig.path(&format!("{seed}.pub")), malicious::public_pem(&key(seed))).unwrap();
    }
    locus(&["keygen", "--out", &path("root-b")]);
    let old_root = path(&format!("{}.pub", malicious::ROOT));
    // A new root beside the old one, key 2 revoked, one signature enough.
    let create = [
        "trust",
        "create",
        "--after",
        &path("trust.json"),
        "--root",
        &old_root,
        "--root",
        &path("root-b.pub"),
        "--root-threshold",
        "2",
        "--signing",
        &path("1.pub"),
        "--revoke",
        &malicious::id(2),
        "--expires",
        "2099-12-31",
        "--out",
        &path("next.json"),
    ];
    locus(&create);
    let refused = |file: &str, reason: &str| {
        let output = rig.ctl_output(&["trust", "update", file]).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(reason), "{text}");
    };
    refused(&path("next.json"), "signed by 0 of its own roots, expected 2");
    locus(&["trust", "sign", "--key", &path("root-b.key"), &path("next.json"), &path("half.json")]);
    refused(&path("half.json"), "signed by 1 of its own roots, expected 2");
    let root_key = path(&format!("{}.key", malicious::ROOT));
    locus(&["trust", "sign", "--key", &root_key, &path("half.json"), &path("whole.json")]);
    assert!(locus(&["trust", "show", &path("whole.json")]).contains("enough of its own roots signed it"));
    let daemon = rig.start().unwrap();
    let told = rig.ctl(&["trust", "update", &path("whole.json")]).unwrap();
    assert!(told.contains("trust document 2 counts"), "{told}");
    refused(&path("whole.json"), "got version 2 of the trust document, expected 3");
    assert!(rig.ctl(&["trust", "show"]).unwrap().contains(&malicious::id(2)));
    // Signed by keys 1 and 2: one good key is enough now.
    rig.ctl(&["flash", &good.display().to_string()]).unwrap();
    let revoked = rig.path("revoked.locus");
    fs::write(&revoked, Draft { signers: vec![2, 3], ..Draft::shipped().unwrap() }.signed_bundle()).unwrap();
    let output = rig.ctl_output(&["flash", &revoked.display().to_string()]).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("is revoked"), "{text}");
    locus(&["bundle", "verify", "--trust", &path("whole.json"), &path("good.locus")]);
    daemon.terminate().unwrap();
    let daemon = rig.start().unwrap();
    assert_eq!(daemon.operator().unwrap().get("/ready").unwrap().0, 200);
    let trail = rig.ctl(&["audit"]).unwrap();
    assert!(trail.contains("trust    done") && trail.contains("version 2"), "{trail}");
}
