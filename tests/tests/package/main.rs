//! What the packages and manifests are made of, read by the programs that will read it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod installed;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use locus_tests::{peer, program, python, root};

/// Most exposure that the unit may have by `systemd-analyze security`, in tenths: alone, and with the drop-in for GPUs.
const EXPOSURE: [(&str, u32); 2] = [("CPU", 25), ("GPU", 40)];

fn packaging() -> PathBuf {
    root().join("edge/packaging")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The unit in a folder, with the drop-in or without.
fn unit(folder: &Path, gpu: bool) -> PathBuf {
    let unit = folder.join("locusd.service");
    fs::copy(packaging().join("debian/locusd.service"), &unit).unwrap();
    if gpu {
        let dropped = folder.join("locusd.service.d");
        fs::create_dir_all(&dropped).unwrap();
        fs::copy(packaging().join("debian/gpu.conf"), dropped.join("gpu.conf")).unwrap();
    }
    unit
}

#[test]
fn the_unit_is_read_without_a_word_and_is_as_little_exposed_as_it_must_be() {
    let Some(analyze) = peer("the unit", "systemd-analyze") else { return };
    for (profile, bar) in EXPOSURE {
        let folder = tempfile::tempdir().unwrap();
        let unit = unit(folder.path(), profile == "GPU");
        let scored = Command::new(&analyze)
            .args(["security", "--no-pager", "--offline=yes", &format!("--threshold={bar}")])
            .arg(&unit)
            .output()
            .unwrap();
        assert!(scored.status.success(), "{profile}: {}", said(&scored));
        assert!(said(&scored).contains("Overall exposure level for locusd.service"), "{}", said(&scored));
        // Here the program is elsewhere; everything else must be as systemd knows it.
        let text = fs::read_to_string(&unit).unwrap();
        let locusd = program("locusd").get_program().to_string_lossy().into_owned();
        assert!(text.contains("ExecStart=/usr/bin/locusd\n"));
        fs::write(&unit, text.replace("/usr/bin/locusd", &locusd)).unwrap();
        let read = Command::new(&analyze).arg("verify").arg(&unit).output().unwrap();
        assert!(read.status.success(), "{profile}: {}", said(&read));
        let about_it: Vec<String> =
            said(&read).lines().filter(|line| line.contains("locusd")).map(str::to_owned).collect();
        assert!(about_it.is_empty(), "{profile}: {about_it:?}");
    }
}

/// A folder with a configuration, and the two keys that it names.
fn configured(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (tool, name) in [("locus", "publisher"), ("locusctl", "hospital")] {
        let made = program(tool).args(["keygen", "--out"]).arg(folder.path().join(name)).output().unwrap();
        assert!(made.status.success(), "{}", said(&made));
    }
    fs::write(folder.path().join("locusd.toml"), text).unwrap();
    folder
}

fn checked(folder: &Path) -> Output {
    program("locusd")
        .arg("--config")
        .arg(folder.join("locusd.toml"))
        .args(["config", "check"])
        .output()
        .unwrap()
}

#[test]
fn the_configuration_that_is_shipped_is_good_once_its_keys_are_there() {
    let text = fs::read_to_string(packaging().join("debian/locusd.toml")).unwrap();
    for profile in ["cpu-x86", "cpu-arm"] {
        let folder = configured(&text.replace("@PROFILE@", profile));
        let output = checked(folder.path());
        assert!(output.status.success(), "{}", said(&output));
        fs::remove_file(folder.path().join("hospital.pub")).unwrap();
        let output = checked(folder.path());
        assert!(!output.status.success() && said(&output).contains("hospital.pub"), "{}", said(&output));
    }
    // What a new box asks for in words is there to be found.
    assert!(text.contains("\"CHANGE-ME\""));
}

/// The configurations of the manifests, by their place in them.
fn configurations() -> Vec<(String, String)> {
    let compose = fs::read_to_string(packaging().join("container/locusd.toml")).unwrap();
    let mut all = vec![("compose".to_owned(), compose)];
    let manifest = fs::read_to_string(packaging().join("kubernetes/configuration.yaml")).unwrap();
    let mut name = None;
    for line in manifest.lines() {
        if let Some(key) = line.strip_prefix("  ").and_then(|l| l.strip_suffix(": |")) {
            name = key.strip_suffix(".toml").map(str::to_owned);
            if let Some(name) = &name {
                all.push((name.clone(), String::new()));
            }
        } else if name.is_some()
            && let Some(text) = line.strip_prefix("    ")
            && let Some((_, so_far)) = all.last_mut()
        {
            so_far.push_str(text);
            so_far.push('\n');
        }
    }
    all
}

#[test]
fn the_configurations_of_the_manifests_are_good() {
    let all = configurations();
    assert_eq!(all.len(), 3, "{all:?}");
    for (name, text) in all {
        // Certificates of a broker: whose they are is not looked at here.
        let folder = configured(&text.replace("/broker/", "broker/"));
        let broker = folder.path().join("broker");
        fs::create_dir(&broker).unwrap();
        let own = rcgen::generate_simple_self_signed(["broker".to_owned()]).unwrap();
        for (file, pem) in [
            ("ca.crt", own.cert.pem()),
            ("box.crt", own.cert.pem()),
            ("box.key", own.signing_key.serialize_pem()),
        ] {
            fs::write(broker.join(file), pem).unwrap();
        }
        let output = checked(folder.path());
        assert!(output.status.success(), "{name}: {}", said(&output));
        if name != "compose" {
            assert!(text.contains(&format!("box = \"{name}\"")), "{name} is another box's");
        }
    }
}

#[test]
fn the_scripts_of_the_packages_can_be_read_by_a_shell() {
    for entry in fs::read_dir(packaging().join("debian")).unwrap() {
        let path = entry.unwrap().path();
        if fs::read(&path).unwrap().starts_with(b"#!/bin/sh") {
            let read = Command::new("sh").arg("-n").arg(&path).output().unwrap();
            assert!(read.status.success(), "{}: {}", path.display(), said(&read));
        }
    }
}

#[test]
fn every_kubernetes_manifest_is_what_the_schemas_say() {
    let Some(python) = python("kubernetes", &["kubernetes-validate==1.37.0"], "import kubernetes_validate")
    else {
        return;
    };
    let mut manifests: Vec<PathBuf> =
        fs::read_dir(packaging().join("kubernetes")).unwrap().map(|entry| entry.unwrap().path()).collect();
    manifests.sort();
    assert!(manifests.len() >= 5, "{manifests:?}");
    let validate = |files: &[PathBuf]| {
        let program = python.with_file_name("kubernetes-validate");
        Command::new(program).args(["--strict", "-k", "1.33"]).args(files).output().unwrap()
    };
    let output = validate(&manifests);
    assert!(output.status.success(), "{}", said(&output));
    // The check finds what it is for.
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("statefulset.yaml");
    let good = fs::read_to_string(packaging().join("kubernetes/statefulset.yaml")).unwrap();
    fs::write(&broken, good.replace("readinessProbe:", "readyProbe:")).unwrap();
    assert!(!validate(&[broken]).status.success());
}

#[test]
fn the_compose_file_is_what_the_schema_says() {
    let Some(python) = python("compose", &["check-jsonschema==0.39.0"], "import check_jsonschema") else {
        return;
    };
    let validate = |file: &Path| {
        let program = python.with_file_name("check-jsonschema");
        Command::new(program).args(["--builtin-schema", "vendor.compose-spec"]).arg(file).output().unwrap()
    };
    let file = packaging().join("container/compose.yaml");
    let output = validate(&file);
    assert!(output.status.success(), "{}", said(&output));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("compose.yaml");
    fs::write(&broken, fs::read_to_string(&file).unwrap().replace("read_only:", "readonly:")).unwrap();
    assert!(!validate(&broken).status.success());
}
