//! The tools that are shipped to try a box out: the terminals' simulator and the cable.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use locus_tests::{Rig, facts, program, root};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Every drawn variant as a line of JSON.
fn requests(rig: &Rig) -> String {
    let lines: Vec<String> = facts()
        .variants
        .iter()
        .map(|fact| {
            let value = serde_json::to_value(fact.request("replaced")).unwrap();
            let present = value.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(key, value)| (key.clone(), value.clone())).collect()).to_string()
        })
        .collect();
    let path = rig.path("requests.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

fn simulate(rig: &Rig, arguments: &[&str]) -> (i32, Value) {
    let output = rig.ctl_output(&[&["simulate", "--json"], arguments].concat()).unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let shown = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    (output.status.code().unwrap(), shown)
}

#[test]
fn a_simulation_counts_an_outcome_for_every_request_on_each_transport() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let (file, port) = (requests(&rig), rig.path("serial-terminal").display().to_string());
    let all = ["--requests", &file, "--transport", "http,mqtt,serial", "--serial-port", &port];
    let (code, shown) = simulate(&rig, &[&all[..], &["--terminals", "3", "--count", "60"]].concat());
    assert_eq!((code, &shown["good"], &shown["answers"]), (0, &Value::Bool(true), &60.into()), "{shown}");
    for transport in ["http", "mqtt", "serial"] {
        let ms = &shown["transports"][transport]["ms"];
        let (p50, worst) = (ms["p50"].as_f64().unwrap(), ms["worst"].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= worst, "{shown}");
    }
    // Twice under one tag: the second time the box repeats itself, and keeps nothing new.
    let twice = ["--requests", &file, "--count", "8", "--tag", "t", "--seed", "5"];
    let kept = || {
        let health: Value = serde_json::from_str(&rig.ctl(&["status"]).unwrap()).unwrap();
        health["journal"]["records"].as_u64().unwrap()
    };
    assert_eq!(simulate(&rig, &twice).0, 0);
    let before = kept();
    assert_eq!(simulate(&rig, &twice).1["answers"], 8);
    assert_eq!((before, kept()), (68, 68));
    // At a pace, for a while; for people.
    let paced = ["simulate", "--requests", &file, "--rate", "40", "--duration-s", "0.5", "--terminals", "2"];
    let text = rig.ctl(&paced).unwrap();
    assert!(text.contains("0 missing, 0 with a wrong id") && !text.contains(" 0 requests"), "{text}");
    // A fault is an outcome.
    let (code, shown) = simulate(&rig, &["--variant", "chr1-5-A-T", "--count", "3"]);
    assert_eq!((code, &shown["transports"]["http"]["faults"]["no_reference"]), (0, &3.into()), "{shown}");
    // Nobody answers.
    daemon.terminate().unwrap();
    let short = ["--requests", &file, "--timeout-ms", "300", "--count", "2"];
    let (code, shown) =
        simulate(&rig, &[&short[..], &["--transport", "serial", "--serial-port", &port]].concat());
    assert_eq!((code, &shown["transports"]["serial"]["missing"]), (1, &2.into()), "{shown}");
    let nothing = rig.ctl_output(&["simulate"]).unwrap();
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("expected --requests or --variant"));
}

/// A cable of its own, which tells at its end what it did.
struct Cable {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Cable {
    fn new(rig: &Rig, options: &[&str]) -> Self {
        Self::with(rig, options, Stdio::piped())
    }

    fn with(rig: &Rig, options: &[&str], input: Stdio) -> Self {
        let mut command: Command = program("locusctl");
        command.arg("cable").args([rig.path("own-box"), rig.path("own-terminal")]).args(options);
        let mut child = command.stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        let (input, mut output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "{line}");
        Self { child, input, output }
    }

    fn counts(mut self, by_signal: bool) -> Value {
        if by_signal {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        } else {
            drop(self.input.take());
        }
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn over_a_cable_with_every_fault_each_request_has_its_own_outcome() {
    let rig = Rig::new("").unwrap();
    rig.configure(|text| {
        text.replace("serial-box", "own-box").replace("[[serial]]", "[[serial]]\nreopen_ms = 50")
    })
    .unwrap();
    rig.flash().unwrap();
    let cable = Cable::new(
        &rig,
        &[
            "--bit-errors",
            "1e-5",
            "--lost-bytes",
            "1e-5",
            "--doubled-bytes",
            "1e-5",
            "--lost-frames",
            "0.02",
            "--doubled-frames",
            "0.05",
            "--split-frames",
            "0.05",
            "--split-ms",
            "40",
            "--seed",
            "20261130",
            "--unplug-every-ms",
            "1500",
            "--unplug-for-ms",
            "200",
        ],
    );
    let _daemon = rig.start().unwrap();
    let (file, port): (String, PathBuf) = (requests(&rig), rig.path("own-terminal"));
    let (code, shown) = simulate(
        &rig,
        &[
            "--requests",
            &file,
            "--serial-port",
            port.to_str().unwrap(),
            "--count",
            "40",
            "--timeout-ms",
            "60000",
        ],
    );
    assert_eq!((code, &shown["answers"]), (0, &40.into()), "{shown}");
    let counts = cable.counts(true);
    println!("{shown}\n{counts}");
    for fault in ["lost_frames", "doubled_frames", "split_frames"] {
        let both = ["to_box", "to_terminal"].map(|way| counts[way][fault].as_u64().unwrap());
        assert!(both[0] + both[1] > 0, "{fault}: {counts}");
    }
    assert!(!rig.path("own-box").exists() && !rig.path("own-terminal").exists(), "the links are left behind");
}

#[test]
fn a_clean_cable_changes_nothing_and_ends_with_its_input() {
    let rig = Rig::new("").unwrap();
    let cable = Cable::new(&rig, &[]);
    let counts = cable.counts(false);
    assert_eq!((&counts["plugged"], &counts["to_box"]["bytes"]), (&1.into(), &0.into()), "{counts}");
    // As a job of a script, which has no input.
    let cable = Cable::with(&rig, &[], Stdio::null());
    let end = |name: &str| fs::OpenOptions::new().read(true).write(true).open(rig.path(name)).unwrap();
    let (mut terminal, mut here) = (end("own-terminal"), end("own-box"));
    let mut got = [0; 6];
    terminal.write_all(b"hello\0").unwrap();
    here.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello\0");
    let counts = cable.counts(true);
    assert_eq!((&counts["to_box"]["bytes"], &counts["to_box"]["frames"]), (&6.into(), &1.into()), "{counts}");
    // Nothing but a link is taken away.
    fs::write(rig.path("own-box"), "somebody's file").unwrap();
    let refused = program("locusctl")
        .arg("cable")
        .args([rig.path("own-box"), rig.path("own-terminal")])
        .output()
        .unwrap();
    assert!(!refused.status.success() && rig.path("own-box").exists());
    let wrong = program("locusctl").args(["cable", "a", "b", "--lost-frames", "0.7"]).output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--lost-frames 0.7"));
}

#[test]
fn who_stops_reading_ends_no_command_in_the_middle() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let _daemon = rig.start().unwrap();
    let request = rig.path("request.json");
    fs::write(&request, serde_json::to_string(&facts().variants[0].request("pipe")).unwrap()).unwrap();
    let request = request.display().to_string();
    let config = rig.config().display().to_string();
    let bundle = root().join("models/variant-effect.locus").display().to_string();
    let identity = rig.path("hospital.key").display().to_string();
    let all: [(&str, &[&str]); 6] = [
        ("locusctl", &["--config", &config, "ask", "--request", &request]),
        ("locusctl", &["--config", &config, "ask", "--json", "--request", &request]),
        ("locusctl", &["--config", &config, "status"]),
        ("locusctl", &["--config", &config, "slots"]),
        ("locusctl", &["--config", &config, "journal", "export", "--identity", &identity]),
        ("locus", &["bundle", "inspect", &bundle]),
    ];
    for (name, arguments) in all {
        let mut child =
            program(name).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && !error.contains("panicked"), "{arguments:?}: {error}");
    }
    // Nobody hears the complaint either: `2>&1 | head`. A panic would end with 101.
    let mut unheard = program("locus")
        .args(["bundle", "inspect", "no-such-file"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((unheard.stdout.take(), unheard.stderr.take()));
    assert_eq!(unheard.wait().unwrap().code(), Some(1));
    // A disk that is full is not a reader who is gone.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let slots = program("locusctl").args(["--config", &config, "slots"]).stdout(full).output().unwrap();
    let error = String::from_utf8_lossy(&slots.stderr);
    assert!(slots.status.code() == Some(1) && error.contains("standard output"), "{error}");
    // Writing to who reads on works.
    let mut whole = program("locusctl").args(["ask", "--help"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    whole.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(whole.wait().unwrap().success() && text.contains("--explain") && text.contains("--gene"));
    std::io::stdout().flush().unwrap();
}

#[test]
fn ask_explains_and_takes_a_transcript_and_a_gene() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let _daemon = rig.start().unwrap();
    let fact = &facts().variants[0];
    let transcript = rig.path("transcript.json");
    fs::write(&transcript, serde_json::to_string(&fact.transcript).unwrap()).unwrap();
    let transcript = transcript.display().to_string();
    let ask =
        ["ask", "--sequence", &fact.sequence, "--mutation", &fact.mutation, "--transcript", &transcript];
    let text = rig.ctl(&[&ask[..], &["--explain", "--gene", &fact.gene]].concat()).unwrap();
    assert!(text.contains("missense_variant") && text.contains("what each base around"), "{text}");
    let bases = text.lines().filter(|line| line.trim_start().starts_with(['+', '-'])).count();
    assert!(bases >= 20, "{text}");
    let request = |key: &str| -> Value {
        let with = [&ask[..], &["--json", "--gene", &fact.gene]].concat();
        serde_json::from_str::<Value>(&rig.ctl(&with).unwrap()).unwrap()[key].clone()
    };
    assert_eq!(request("attribution"), serde_json::json!([]), "not unless it is asked for");
    let wrong = rig.path("request.json");
    fs::write(&wrong, "{}").unwrap();
    let wrong = wrong.display().to_string();
    let output =
        rig.ctl_output(&["ask", "--sequence", "ACGT", "--mutation", "A1C", "--transcript", &wrong]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected {\"strand\""));
    let wrong = rig.ctl_output(&["ask", "--variant", "c.1A>T", "--gene", "NONE"]).unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no_reference"));
}
