//! `locusctl terminal` and the forms of an answer: on a real pseudo-terminal, in pipes, and as other programs read them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use locus_tests::{Daemon, Rig, SITE, peer, program, python};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: (u16, u16) = (40, 110);

/// A box that reads variants on a small genome.
fn a_box() -> (Rig, Daemon) {
    let rig = Rig::new("[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n").unwrap();
    rig.small_genome().unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    (rig, daemon)
}

/// A program on a terminal of its own, and what is seen there.
struct Screen {
    child: std::process::Child,
    keys: fs::File,
    seen: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    fn of(mut command: Command) -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: SIZE.0, ws_col: SIZE.1, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let other = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let end = || Stdio::from(other.try_clone().unwrap());
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = fs::File::from(master);
        let seen = Arc::new(Mutex::new(vt100::Parser::new(
            SIZE.0.try_into().unwrap(),
            SIZE.1.try_into().unwrap(),
            0,
        )));
        let (mut output, shown) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // Where the other end is closed a read fails.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..n]);
            }
        });
        Self { child, keys, seen }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.seen.lock().unwrap().screen().contents()
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(started.elapsed() < PATIENCE, "{what} is not seen:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn sees(&self, what: &str) -> String {
        self.until(what, |text| text.contains(what))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_screen_is_asked_from_shows_answers_and_faults_and_is_given_back() {
    let (rig, daemon) = a_box();
    let mut command = program("locusctl");
    command.arg("--config").arg(rig.config()).args(["terminal", "--timeout-ms", "3000"]);
    let mut screen = Screen::of(command);
    screen.sees("Type what to ask");
    screen.type_in("GENE c.12T>A\r");
    let answered = screen.sees("receipt 0 of journal");
    assert!(answered.contains("t1:c.12T>A") && answered.contains("Research use"), "{answered}");
    // A VCF line, pasted as terminals paste; explained.
    screen.type_in("\x1bOQ");
    screen.sees("explain on");
    screen.type_in("\x1b[200~chr1\t1201\t.\tT\tA\t.\tPASS\t.\x1b[201~");
    screen.sees("chr1 1201 . T A");
    screen.type_in("\r");
    screen.sees("what each base around");
    // Another base than is there; then the first question again, by the keys.
    screen.type_in("chr1-1201-G-A\r");
    screen.sees("NO ANSWER: ref_mismatch");
    screen.type_in("\x1b[A\x1b[A");
    screen.sees("> GENE c.12T>A");
    screen.type_in("\r");
    screen.sees("receipt 2 of journal");
    // A box that is gone is said, and the question is still there.
    daemon.terminate().unwrap();
    screen.type_in("chr1-1201-T-A\r");
    let gone = screen.sees("Nothing is known of the change");
    assert!(gone.contains("NO ANSWER"), "{gone}");
    screen.type_in("\x1b");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = screen.child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
    screen.until("the shell's own screen", |text| !text.contains("receipt"));
}

fn lines(rig: &Rig, options: &[&str], questions: &str) -> Output {
    let mut child = program("locusctl")
        .arg("--config")
        .arg(rig.config())
        .args([&["terminal"], options].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(questions.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn questions_of_a_pipe_are_answered_in_order_on_every_transport() {
    let (rig, _daemon) = a_box();
    let port = rig.path("serial-terminal").display().to_string();
    let questions = "#CHROM\tPOS\n\nGENE c.12T>A\nchr1\t1201\t.\tT\tA\n";
    for transport in [
        &["--transport", "http"][..],
        &["--transport", "mqtt"],
        &["--transport", "serial", "--serial-port", &port],
    ] {
        let output = lines(&rig, &[transport, &["--format", "json"]].concat(), questions);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let asked: Vec<&str> = answers.iter().map(|answer| answer["mutation"].as_str().unwrap()).collect();
        assert_eq!(asked, ["c.12T>A", "chr1-1201-T-A"], "{transport:?}");
        assert_eq!(answers[0]["hgvs_c"], answers[1]["hgvs_c"]);
    }
    // What is wrong is said on its own line, and the others are answered.
    let long = "A".repeat(70_000);
    let questions =
        format!("nonsense\n{long}\nchr1-1201-G-A\n:model none\nGENE c.12T>A\n:model -\nGENE c.12T>A\n");
    let output = lines(&rig, &[], &questions);
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said.matches("receipt").count(), 1, "{said}");
    for part in ["no question", "over 65536 bytes", "ref_mismatch", "unknown_model", "model is not set"] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
}

/// What the profiles of the Genomics Reporting guide require of a resource: by profile, the path of each element and what it
/// must be, if that is fixed.
fn required(resource: &Value) {
    let profile = resource["meta"]["profile"][0].as_str().unwrap_or_default();
    let has = |list: &str, system: &str, code: &str| {
        let codings = resource[list]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one["coding"].as_array().into_iter().flatten());
        codings.into_iter().any(|coding| coding["system"] == system && coding["code"] == code)
    };
    let code = &resource["code"]["coding"][0];
    let component = |code: &str| {
        let components = resource["component"].as_array().unwrap();
        components.iter().any(|component| component["code"]["coding"][0]["code"] == code)
    };
    assert!(resource["status"].is_string(), "{resource}");
    match profile.rsplit('/').next().unwrap() {
        "genomic-report" => {
            assert!(has("category", "http://terminology.hl7.org/CodeSystem/v2-0074", "GE"));
            assert_eq!((&code["system"], &code["code"]), (&json!("http://loinc.org"), &json!("51969-4")));
            assert!(!resource["result"].as_array().unwrap().is_empty());
            return;
        }
        "variant" => {
            assert_eq!((&code["system"], &code["code"]), (&json!("http://loinc.org"), &json!("69548-6")));
            assert!(resource["valueCodeableConcept"]["coding"][0]["code"].is_string());
            assert!(component("48004-6") && component("48018-6"), "{resource}");
        }
        "molecular-consequence" => {
            assert_eq!(code["code"], "molecular-consequence");
            assert!(component("feature-consequence") && resource["derivedFrom"][0]["reference"].is_string());
        }
        "diagnostic-implication" => {
            assert_eq!(code["code"], "diagnostic-implication");
            assert!(component("53037-8") && resource["derivedFrom"][0]["reference"].is_string());
        }
        other => panic!("a profile that is not looked at: {other}"),
    }
    let categories = "http://terminology.hl7.org/CodeSystem/observation-category";
    assert!(has("category", categories, "laboratory"), "{resource}");
    assert!(has("category", "http://terminology.hl7.org/CodeSystem/v2-0074", "GE"), "{resource}");
}

#[test]
fn an_answer_is_given_as_fhir_and_as_hl7_and_says_what_it_is() {
    let (rig, _daemon) = a_box();
    let ask = |format: &str| {
        rig.ctl(&["ask", "--variant", "c.12T>A", "--gene", "GENE", "--id", "one", "--format", format])
            .unwrap()
    };
    let bundle: Value = serde_json::from_str(&ask("fhir")).unwrap();
    let resources: Vec<&Value> =
        bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]).collect();
    let looked_at = resources.iter().filter(|resource| resource["resourceType"] != "Device");
    assert_eq!(looked_at.map(|resource| required(resource)).count(), 4);
    assert!(bundle.to_string().contains("Computational prediction by"));
    // The journal's export gives every resource the same name.
    let key = rig.path("hospital.key").display().to_string();
    let exported = rig.ctl(&["journal", "export", "--identity", &key, "--format", "fhir"]).unwrap();
    let exported: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    let names = |bundle: &Value| -> Vec<Value> {
        bundle["entry"].as_array().unwrap().iter().map(|entry| entry["fullUrl"].clone()).collect()
    };
    assert_eq!(names(&bundle), names(&exported));
    let message = ask("hl7");
    let segments: Vec<&str> = message.trim_end().split('\r').collect();
    assert!(
        segments[0].starts_with("MSH|^~\\&|LOCUS|") && segments[0].contains("ORU^R01^ORU_R01"),
        "{message}"
    );
    assert!(segments.iter().any(|segment| segment.starts_with("OBX|") && segment.contains("t1:c.12T>A")));
    assert!(message.contains("computational prediction by"));
    let wrong = rig.ctl_output(&["ask", "--variant", "chr1-1201-G-A", "--format", "fhir"]).unwrap();
    assert!(wrong.stdout.is_empty() && wrong.status.code() == Some(1));
    // R4 itself (4.0.1), by its models in Python.
    let packages = ["fhir.resources==6.4.0", "pydantic==1.10.24"];
    let Some(python) = python("fhir-r4", &packages, "import fhir.resources.bundle") else { return };
    fs::write(rig.path("bundle.json"), bundle.to_string()).unwrap();
    let script = "import sys; from fhir.resources.bundle import Bundle; \
                  print(Bundle.parse_file(sys.argv[1]).entry[0].resource.resource_type)";
    let checked = Command::new(python).args(["-c", script]).arg(rig.path("bundle.json")).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert_eq!(said.trim(), "DiagnosticReport", "{wrong}");
}

#[test]
fn shells_complete_every_command_and_each_has_a_manual_page() {
    let run = |arguments: &[&str]| program("locusctl").args(arguments).output().unwrap();
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() > 20 && commands.contains(&"terminal"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        for name in ["locusctl", "locusd"] {
            let output = run(&["completions", shell, "--program", name]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && text.contains(name), "{shell}");
            assert!(name != "locusctl" || commands.iter().all(|command| text.contains(command)), "{shell}");
            let Some(shell) = peer("completions", shell) else { continue };
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("completions"), &text).unwrap();
            let parsed =
                Command::new(shell).arg("-n").arg(folder.path().join("completions")).output().unwrap();
            assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man").display().to_string();
    assert!(run(&["manual", "--out", &out]).status.success());
    for command in &commands {
        if *command == "help" {
            continue;
        }
        let page = fs::read_to_string(folder.path().join(format!("man/locusctl-{command}.1")));
        assert!(page.unwrap_or_else(|error| panic!("{command}: {error}")).contains(".SH"));
    }
    assert!(folder.path().join("man/locusd.1").is_file());
}

#[test]
fn on_another_machine_an_address_and_what_was_enrolled_are_enough() {
    let (rig, daemon) = a_box();
    let base = rig.enrolled("ward-3", "terminal").unwrap();
    rig.token("ward-3", "terminal").unwrap();
    let file = |kind: &str| base.with_added_extension(kind).to_str().unwrap().to_owned();
    let (certificate, key, token) = (file("crt"), file("key"), file("token"));
    let ca = rig.path("state/access/ca.crt").to_str().unwrap().to_owned();
    let port = |address: &Option<String>| address.as_ref().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let https = format!("localhost:{}", port(&daemon.endpoints.http));
    let mqtts = format!("127.0.0.1:{}", port(&daemon.endpoints.mqtts));
    let vcf = rig.path("in.vcf");
    fs::write(
        &vcf,
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t1201\t.\tT\tA\t.\t.\t.\n",
    )
    .unwrap();
    let (vcf, annotated) = (vcf.to_str().unwrap(), rig.path("out.vcf").to_str().unwrap().to_owned());
    let shown = ["--certificate", &certificate, "--key", &key];
    let change = ["--variant", "t1:c.12T>A"];
    // Nowhere near the configuration of the box.
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |arguments: &[&[&str]]| {
        let mut command = program("locusctl");
        command.current_dir(&elsewhere).args(arguments.concat()).stdin(Stdio::null()).output().unwrap()
    };
    let good = |output: Output| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let at = ["--at", &https, "--ca", &ca];
    let answer = good(run(&[&["ask"], &at, &shown, &change]));
    assert!(answer.contains("t1:c.12T>A") && answer.contains("receipt 0"), "{answer}");
    good(run(&[&["ask"], &at, &["--token-file", &token], &change]));
    let broker = ["--transport", "mqtt", "--at", &mqtts, "--ca", &ca, "--site", SITE, "--terminal", "ward-3"];
    good(run(&[&["ask"], &broker, &shown, &change]));
    good(run(&[&["ask"], &broker, &["--token-file", &token], &change]));
    good(run(&[&["simulate", "--count", "3"], &at, &shown, &change]));
    good(run(&[&["annotate", vcf, "--out", &annotated], &at, &shown]));
    assert!(fs::read_to_string(&annotated).unwrap().contains("LOCUS_"));
    assert_eq!(rig.ctl(&["journal", "verify"]).unwrap().matches("8 records").count(), 1);
    // What is missing is named, before anybody is asked.
    for (arguments, missing) in [
        (&[&["ask"][..], &at, &change][..], "--certificate with --key, or --token-file"),
        (&[&["ask", "--transport", "mqtt"], &at, &shown, &change], "--site"),
        (&[&["ask", "--transport", "mqtt", "--site", SITE], &at, &shown, &change], "--terminal"),
        (&[&["ask", "--at", "https://box"], &change], "expected a name or address"),
        (&[&["ask", "--at", "box"], &change], "--ca"),
        (&[&["terminal", "--lines"], &at], "--certificate with --key, or --token-file"),
        (&[&["ask", "--transport", "serial"], &change], "--serial-port"),
        (&[&["ask", "--config", "none.toml"], &change], "cannot read the configuration none.toml"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(missing), "{missing}: {said}");
        assert!(said.matches("os error").count() <= 1, "said once: {said}");
    }
}
