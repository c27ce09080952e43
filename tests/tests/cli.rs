//! The commands as an operator meets them: help, exit codes, messages.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use locus_tests::{Rig, facts, program, root, variation};

fn run(name: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = program(name).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_command_explains_itself_and_refuses_what_it_does_not_know() {
    let commands: [(&str, &[&str]); 3] = [
        (
            "locus",
            &[
                "prepare",
                "pretrain",
                "finetune",
                "calibrate",
                "export",
                "bundle",
                "keygen",
                "evaluate",
                "report",
                "structure",
                "align",
                "explain",
                "interchange",
                "score",
                "run",
            ],
        ),
        (
            "locusctl",
            &[
                "init", "keygen", "flash", "slots", "rollback", "status", "ask", "annotate", "simulate",
                "bench", "encode", "cable", "journal",
            ],
        ),
        ("locusd", &["config"]),
    ];
    for (name, expected) in commands {
        let (code, help, _) = run(name, &["--help"]);
        assert_eq!(code, 0);
        for command in expected {
            assert!(
                help.contains(&format!("\n  {command} ")),
                "{name} --help does not show {command}:\n{help}"
            );
            let (code, help, _) = run(name, &[command, "--help"]);
            assert!(code == 0 && help.contains("Usage:"), "{name} {command}");
        }
        let (code, _, error) = run(name, &["--frobnicate"]);
        assert!(code == 2 && error.contains("--frobnicate"), "{name}: {error}");
        let (code, version, _) = run(name, &["--version"]);
        assert!(code == 0 && version.trim() == format!("{name} {}", env!("CARGO_PKG_VERSION")), "{version}");
    }
}

#[test]
fn a_missing_or_wrong_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locusd.toml");
    let path = path.to_str().unwrap();
    for (name, rest) in [("locusd", &["config", "check"][..]), ("locusctl", &["slots"]), ("locusd", &[])] {
        let (code, _, error) = run(name, &[&["--config", path], rest].concat());
        assert!(code == 1 && error.contains(path) && error.contains("--config"), "{error}");
    }
    fs::write(path, "site = \"a\"\nbx = \"b\"\n").unwrap();
    let (code, _, error) = run("locusd", &["--config", path, "config", "check"]);
    assert!(code == 1 && error.contains("line 2") && error.contains("bx"), "{error}");
}

#[test]
fn a_configuration_is_good_once_all_that_it_names_can_be_used() {
    let rig = Rig::new("").unwrap();
    let config = rig.config().display().to_string();
    let written = fs::read_to_string(&config).unwrap();
    let check = || run("locusd", &["--config", &config, "config", "check"]);
    let (code, good, error) = check();
    assert!(code == 0 && good.contains("good"), "{error}");
    fs::write(rig.path("none.pub"), "no key").unwrap();
    for (from, to, named) in [
        ("\"publisher.pub\"", "\"absent.pub\"", "absent.pub"),
        ("\"publisher.pub\"", "\"none.pub\"", "none.pub"),
        ("\"hospital.pub\"", "\"absent.pub\"", "absent.pub"),
        ("\"hospital.pub\"", "\"none.pub\"", "none.pub"),
        ("[http]", "[engine]\norder = [\"steam\"]\n[http]", "steam"),
        ("[http]", "[engine]\nprecision = \"int3\"\n[http]", "int3"),
        ("port = 0\n[http]", "port = 0\nusername = \"u\"\npassword_file = \"absent\"\n[http]", "absent"),
        ("[http]", "[http]\ncertificate = \"absent.pem\"\nkey = \"none.pub\"", "absent.pem"),
        ("[http]", "[http]\ncertificate = \"none.pub\"\nkey = \"none.pub\"", "none.pub"),
        ("[http]", "[reference]\nfasta = \"absent.fa\"\ngff = \"absent.gff3\"\n[http]", "absent.fa"),
    ] {
        fs::write(&config, written.replace(from, to)).unwrap();
        let (code, _, error) = check();
        assert!(code == 1 && error.contains(named), "{to}: {error}");
    }
    let secret = "port = 0\nusername = \"u\"\npassword_file = \"none.pub\"\n[http]";
    fs::write(&config, written.replace("port = 0\n[http]", secret)).unwrap();
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        fs::set_permissions(rig.path("none.pub"), fs::Permissions::from_mode(mode)).unwrap();
        let (code, said, error) = check();
        assert_eq!(
            (code, said.contains("warning: ") && said.contains("none.pub")),
            (0, warned),
            "{said}{error}"
        );
    }
}

#[test]
fn a_start_that_fails_late_leaves_a_closed_journal_and_the_orders_are_the_owners() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let written = fs::read_to_string(rig.config()).unwrap();
    fs::write(rig.config(), written.replace("[http]\nport = 0", &format!("[http]\nport = {port}"))).unwrap();
    let failed = program("locusd").arg("--config").arg(rig.config()).output().unwrap();
    let error = String::from_utf8_lossy(&failed.stderr);
    assert!(failed.status.code() == Some(1) && error.contains(&port.to_string()), "{error}");
    fs::write(rig.config(), written).unwrap();
    let _daemon = rig.start().unwrap();
    let health: serde_json::Value = serde_json::from_str(&rig.ctl(&["status"]).unwrap()).unwrap();
    assert_eq!(health["journal"]["recovered_clean"], true, "{health}");
    let socket = fs::metadata(rig.path("state/run/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["locus", "locusctl"] {
        let base = folder.path().join(name);
        let base = base.to_str().unwrap();
        assert_eq!(run(name, &["keygen", "--out", base]).0, 0);
        let before = fs::read(format!("{base}.key")).unwrap();
        assert_eq!(fs::metadata(format!("{base}.key")).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, _, error) = run(name, &["keygen", "--out", base]);
        assert!(code == 1 && error.contains(base), "{error}");
        assert_eq!(fs::read(format!("{base}.key")).unwrap(), before);
    }
}

#[test]
fn inspect_lists_the_parts_and_verify_needs_the_right_key() {
    let rig = Rig::new("").unwrap();
    let path = |name: &str| rig.path(name).display().to_string();
    let shipped = root().join("models/variant-effect.locus").display().to_string();
    let (code, json, _) = run("locus", &["bundle", "inspect", "--json", &shipped]);
    let manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 0);
    let parts = manifest["parts"].as_array().unwrap();
    assert!(parts.iter().all(|p| p["name"].is_string() && p["size"].is_u64() && p["sha256"].is_string()));
    assert!(parts.iter().any(|p| p["name"] == "int8.onnx"));
    assert!(run("locus", &["bundle", "inspect", &shipped]).1.contains("(not signed)"));
    let (_, signed, _) = run("locus", &["bundle", "inspect", &path("signed.locus")]);
    assert!(signed.contains("claimed signatures by ") && signed.contains("not checked"), "{signed}");
    assert_eq!(
        run("locus", &["bundle", "verify", "--key", &path("publisher.pub"), &path("signed.locus")]).0,
        0
    );
    assert_eq!(run("locus", &["bundle", "verify", "--key", &path("publisher.pub"), &shipped]).0, 1);
    let again = rig.path("again.locus");
    rig.sign(&root().join("models/variant-effect.locus"), &again).unwrap();
    assert_eq!(fs::read(again).unwrap(), fs::read(rig.path("signed.locus")).unwrap(), "byte for byte");
    let mut damaged = fs::read(&shipped).unwrap();
    let at = damaged.len() - 4096;
    damaged[at] ^= 1;
    fs::write(rig.path("damaged.locus"), damaged).unwrap();
    let key = path("publisher.key");
    let (code, _, error) =
        run("locus", &["bundle", "sign", "--key", &key, &path("damaged.locus"), &path("never.locus")]);
    assert!(code == 1 && error.contains("int8-fp16.onnx has SHA-256"), "{error}");
    assert!(!rig.path("never.locus").exists());
    let other_features = variation(|m| m.graph.features[0] = "phylop".into()).unwrap();
    fs::write(rig.path("features.locus"), other_features).unwrap();
    rig.sign(&rig.path("features.locus"), &rig.path("features-signed.locus")).unwrap();
    let verify = ["bundle", "verify", "--key", &path("publisher.pub"), &path("features-signed.locus")];
    let (code, _, error) = run("locus", &verify);
    assert!(code == 1 && error.contains("phylop"), "{error}");
}

#[test]
fn ask_prints_what_a_person_reads_and_a_fault_is_an_exit_code() {
    let rig = Rig::new("").unwrap();
    let nobody =
        rig.ctl_output(&["ask", "--timeout-ms", "300", "--sequence", "ACGT", "--mutation", "A1C"]).unwrap();
    assert!(!nobody.status.success());
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("start locusd"));
    rig.flash().unwrap();
    let _daemon = rig.start().unwrap();
    let fact = &facts().variants[0];
    let request = rig.path("request.json");
    fs::write(&request, serde_json::to_string(&fact.request("cli-1")).unwrap()).unwrap();
    let request = request.display().to_string();
    let text = rig.ctl(&["ask", "--request", &request]).unwrap();
    for word in [
        "A301G: computational prediction",
        "prior of 0.35",
        "missense_variant",
        "receipt 0",
        "not a diagnosis",
    ] {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let bare = rig.ctl(&["ask", "--sequence", &fact.sequence, "--mutation", &fact.mutation]).unwrap();
    assert!(bare.contains("no prediction") && bare.contains("no transcript was given"), "{bare}");
    let wrong = rig.ctl_output(&["ask", "--sequence", &fact.sequence, "--mutation", "C301G"]).unwrap();
    let error = String::from_utf8_lossy(&wrong.stderr);
    assert!(wrong.status.code() == Some(1) && error.contains("ref_mismatch"), "{error}");
    // What no waiting mends is said at once, however long is waited otherwise.
    let forever = ["ask", "--timeout-ms", "3000000", "--transport", "serial", "--request", &request];
    let never = rig.ctl_output(&forever).unwrap();
    assert!(String::from_utf8_lossy(&never.stderr).contains("expected --serial-port"));
    let both = rig.ctl_output(&["ask", "--request", &request, "--subject", "x"]).unwrap();
    assert_eq!(both.status.code(), Some(2), "a whole request says itself whom it is about");
    let nothing = rig.ctl_output(&["ask"]).unwrap();
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("expected --sequence"));
}

#[test]
fn a_changed_journal_is_found_and_two_daemons_do_not_share_one() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let request = rig.path("request.json");
    fs::write(&request, serde_json::to_string(&facts().variants[0].request("j")).unwrap()).unwrap();
    let answer = rig.ctl(&["ask", "--json", "--request", &request.display().to_string()]).unwrap();
    fs::write(rig.path("kept.jsonl"), &answer).unwrap();
    let second = program("locusd").arg("--config").arg(rig.config()).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("locked"));
    daemon.terminate().unwrap();
    let kept = rig.path("kept.jsonl").display().to_string();
    let verify = || rig.ctl_output(&["journal", "verify", "--receipts", &kept]).unwrap();
    assert!(verify().status.success());
    // Away from the box, with a copy of the journal and the device's public key alone.
    let (laptop, none) = (tempfile::tempdir().unwrap(), "/none/locusd.toml");
    let away = |name: &str| laptop.path().join(name).display().to_string();
    fs::create_dir(away("journal")).unwrap();
    for file in fs::read_dir(rig.path("state/journal")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), laptop.path().join("journal").join(file.file_name())).unwrap();
    }
    fs::copy(rig.path("state/keys/device.key.pub"), away("device.pub")).unwrap();
    let (dir, device, hospital) =
        (away("journal"), away("device.pub"), rig.path("hospital.key").display().to_string());
    let place = ["--dir", &dir, "--device-key", &device];
    let (code, text, _) = run("locusctl", &[&["--config", none, "journal", "verify"], &place[..]].concat());
    assert!(code == 0 && text.contains("1 records") && text.contains("closed properly"), "{text}");
    let export = ["--config", none, "journal", "export", "--identity", &hospital];
    let (code, text, _) = run("locusctl", &[&export[..], &place[..]].concat());
    assert!(code == 0 && text.lines().count() == 1, "{text}");
    let (code, _, error) = run("locusctl", &["--config", none, "journal", "verify", "--dir", &dir]);
    assert!(code == 1 && error.contains("both --dir and --device-key") && error.contains(none), "{error}");
    let segment = rig.path("state/journal/00000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let whole = bytes.clone();
    let at = bytes.len() * 2 / 3;
    bytes[at] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    let found = verify();
    assert!(found.status.code() == Some(1) && String::from_utf8_lossy(&found.stdout).contains("DAMAGED"));
    // Rolled back to before the answer: only who kept the receipt can know.
    fs::write(&segment, &whole).unwrap();
    fs::remove_dir_all(rig.path("state/journal")).unwrap();
    drop(rig.start().unwrap());
    let found = verify();
    assert!(found.status.code() == Some(1), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_device_that_is_not_there_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let recipe = root().join("recipes/smoke.toml").display().to_string();
    for command in ["pretrain", "finetune", "run"] {
        // What the tests run is built without CUDA.
        let (code, _, error) = run("locus", &[command, &recipe, "--out", &out, "--device", "cuda:1"]);
        assert_ne!(code, 0);
        assert!(error.contains("cuda:1") && error.contains("cargo xtask cuda"), "{command}: {error}");
        let (code, _, error) = run("locus", &[command, &recipe, "--out", &out, "--device", "gpu"]);
        assert!(code == 2 && error.contains("auto, cpu, cuda or cuda:N"), "{command}: {error}");
    }
    let (code, _, error) = run("locus", &["prepare", &recipe, "--out", &out, "--device", "cpu"]);
    assert!(code == 2 && error.contains("--device"), "only what trains has a device: {error}");
    assert!(!folder.path().join("dataset.bin").exists());
}

#[test]
fn half_precision_without_a_gpu_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(root().join("recipes/smoke.toml")).unwrap();
    let recipe = folder.path().join("recipe.toml");
    fs::write(&recipe, text.replace("[pretrain.train]\n", "[pretrain.train]\nprecision = \"bf16\"\n"))
        .unwrap();
    let (recipe, out) = (recipe.display().to_string(), folder.path().join("out").display().to_string());
    let (code, _, error) = run("locus", &["prepare", &recipe, "--out", &out]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = run("locus", &["pretrain", &recipe, "--out", &out, "--device", "cpu"]);
    assert_ne!(code, 0);
    assert!(error.contains("pretrain.train.precision") && error.contains("--device cuda"), "{error}");
}
