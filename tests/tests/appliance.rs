//! The journal of a box that is kept for a year, over the real programs: proved, erased, recalled, copied elsewhere,
//! exported, backed up, without room, without a clock, and at last destroyed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Answer, Fault, FaultCode, Outcome, Request};
use locus_tests::{Daemon, Rig, facts, program, python};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A box whose `[journal]` section has more lines.
fn a_box(journal: &str, extra: &str) -> Rig {
    let rig = Rig::new(extra).unwrap();
    let text = fs::read_to_string(rig.config()).unwrap();
    let recipients = "recipients = [\"hospital.pub\"]\n";
    fs::write(rig.config(), text.replace(recipients, &format!("{recipients}{journal}"))).unwrap();
    rig.flash().unwrap();
    rig
}

fn request(n: usize, subject: Option<&str>) -> Request {
    let facts = &facts().variants;
    Request { subject: subject.map(str::to_owned), ..facts[n % facts.len()].request(&format!("r-{n}")) }
}

async fn ask(terminal: &mut Terminal, request: &Request) -> Result<Answer, Fault> {
    match terminal.ask(request, PATIENCE).await.unwrap() {
        Outcome::Answer(answer) => Ok(*answer),
        Outcome::Fault(fault) => Err(fault),
    }
}

fn http(daemon: &Daemon) -> Terminal {
    Terminal::Http(daemon.http("ward-1").unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn status(rig: &Rig) -> Value {
    json(&String::from_utf8_lossy(&rig.ctl_output(&["status"]).unwrap().stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_proved_erased_recalled_and_copied_while_the_box_answers() {
    let rig = a_box("rotate_records = 4\n", "");
    let daemon = rig.start().unwrap();
    let mut terminal = http(&daemon);
    let mut answers = Vec::new();
    for n in 0..10 {
        let subject = if n % 2 == 0 { "sample-a" } else { "sample-b" };
        answers.push(ask(&mut terminal, &request(n, Some(subject))).await.unwrap());
    }
    // A proof, for somebody with the device's public key and the answer, and nothing else.
    let away = tempfile::tempdir().unwrap();
    let file = |name: &str| away.path().join(name).display().to_string();
    fs::copy(rig.path("state/keys/device.key.pub"), file("device.pub")).unwrap();
    for (n, answer) in answers.iter().enumerate() {
        fs::write(file("answer.json"), serde_json::to_string(answer).unwrap()).unwrap();
        fs::write(
            file("proof.json"),
            rig.ctl(&["journal", "prove", "--receipt", &file("answer.json")]).unwrap(),
        )
        .unwrap();
        let check = |receipt: &str| {
            program("locusctl")
                .args(["--config", "/none", "journal", "check-proof", &file("proof.json")])
                .args(["--device-key", &file("device.pub"), "--receipt", receipt])
                .output()
                .unwrap()
        };
        let proved = check(&file("answer.json"));
        assert!(proved.status.success(), "{}", said(&proved));
        let other = serde_json::to_string(&answers[(n + 1) % answers.len()]).unwrap();
        fs::write(file("other.json"), other).unwrap();
        assert_eq!(check(&file("other.json")).status.code(), Some(1));
    }
    // A withdrawn model: every answer of it, by receipt, without a key that opens one.
    let digest = &answers[0].model.digest;
    let listed =
        rig.ctl(&["journal", "recall", "--model", digest, "--terminal", "ward-1", "--json"]).unwrap();
    let listed: Vec<Value> = listed.lines().map(json).collect();
    assert_eq!(listed.len(), 10);
    for (line, answer) in listed.iter().zip(&answers) {
        assert_eq!(line["receipt"]["leaf"], answer.receipt.as_ref().unwrap().leaf.as_str());
        assert_eq!(line["terminal_name"], "ward-1");
    }
    assert_eq!(rig.ctl(&["journal", "recall", "--model", "00000000", "--json"]).unwrap(), "");
    // A subject is erased while the box runs, in finished segments and in the open one.
    let erased = json(&rig.ctl(&["journal", "erase", "--subject", "sample-a", "--json"]).unwrap());
    assert_eq!((&erased["records"], &erased["segments"]), (&5.into(), &3.into()), "{erased}");
    let again = json(&rig.ctl(&["journal", "erase", "--subject", "sample-a", "--json"]).unwrap());
    assert_eq!(again["records"], 0);
    let exported = rig.exported().unwrap();
    let unreadable = exported.iter().filter(|record| record["unreadable"] == "shredded").count();
    assert_eq!((exported.len(), unreadable), (10, 5));
    // Finished segments go to another disk, and what is left verifies with and without them.
    let copy = file("copy");
    let offloaded = json(&rig.ctl(&["journal", "offload", "--to", &copy, "--json"]).unwrap());
    assert_eq!(
        (&offloaded["segments"], &offloaded["freed"]["records"]),
        (&2.into(), &8.into()),
        "{offloaded}"
    );
    answers.push(ask(&mut terminal, &request(10, None)).await.unwrap());
    let kept: Vec<String> = answers.iter().map(|answer| serde_json::to_string(answer).unwrap()).collect();
    fs::write(file("kept.jsonl"), kept.join("\n")).unwrap();
    let verify = ["journal", "verify", "--receipts", &file("kept.jsonl"), "--json"];
    let alone = json(&rig.ctl(&verify).unwrap());
    assert_eq!((&alone["records"], &alone["freed"][0]["why"]), (&3.into(), &"copied".into()), "{alone}");
    let whole = json(&rig.ctl(&[&verify[..], &["--with", &copy]].concat()).unwrap());
    assert_eq!((&whole["records"], whole["freed"].as_array().unwrap().len()), (&11.into(), 0), "{whole}");
    let health = status(&rig);
    assert_eq!(
        (&health["journal"]["freed_records"], &health["journal"]["copied_to_segment"]),
        (&8.into(), &2.into())
    );
    assert_eq!(
        (&health["clock"]["state"], &health["journal"]["storage_full"]),
        (&"trusted".into(), &false.into())
    );
    drop(terminal);
    assert!(daemon.terminate().unwrap().success());
    let audit = rig.ctl(&["audit"]).unwrap();
    assert!(audit.contains("5 records") && audit.contains("2 segments copied"), "{audit}");
    assert!(!audit.contains("sample-a"), "the trail names no subject");
    assert!(fs::read_to_string(rig.path("locusd.log")).unwrap().find("sample-").is_none());
    // The next start goes on, and remembers.
    let daemon = rig.start().unwrap();
    let mut terminal = http(&daemon);
    let repeated = ask(&mut terminal, &request(10, None)).await.unwrap();
    assert!(repeated.warnings.iter().any(|warning| warning.contains("record 10")), "{:?}", repeated.warnings);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_everybody_is_told_and_the_box_comes_back_by_itself() {
    let probe = tempfile::tempdir().unwrap();
    let free = locus_edge::vfs::free_bytes(probe.path()).unwrap();
    let margin = (free / 8).min(4 << 30);
    let rig = a_box(&format!("reserve_bytes = {}\n", free - margin), "");
    let daemon = rig.start().unwrap();
    let mut terminal = http(&daemon);
    let first = ask(&mut terminal, &request(0, None)).await.unwrap();
    let ballast = fs::File::create(probe.path().join("ballast")).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    if let Err(error) = rustix::fs::fallocate(&ballast, flags, 0, margin * 2) {
        println!("skipped: room: this file system allocates nothing in advance ({error})");
        return;
    }
    let filled = Instant::now();
    let mut n = 1;
    let fault = loop {
        match ask(&mut terminal, &request(n, None)).await {
            Err(fault) => break fault,
            Ok(_) => assert!(filled.elapsed() < Duration::from_secs(2), "it goes on without room"),
        }
        n += 1;
    };
    println!("refused {:?} after the room was gone", filled.elapsed());
    assert_eq!(fault.code, FaultCode::StorageFull);
    assert!(fault.retryable && fault.retry_after_ms.is_some());
    let health = status(&rig);
    assert_eq!((&health["ready"], &health["status"]), (&false.into(), &"storage_full".into()), "{health}");
    assert!(health["notices"].to_string().contains("nothing new is taken"), "{health}");
    // What is durable already is still told.
    assert_eq!(ask(&mut terminal, &request(0, None)).await.unwrap().receipt, first.receipt);
    fs::remove_file(probe.path().join("ballast")).unwrap();
    drop(ballast);
    let freed = Instant::now();
    let answer = loop {
        match ask(&mut terminal, &request(n, None)).await {
            Ok(answer) => break answer,
            Err(_) => assert!(freed.elapsed() < Duration::from_secs(10), "it does not come back"),
        }
    };
    assert_eq!(answer.receipt.unwrap().index, n as u64, "nothing was kept that was refused");
    assert_eq!(status(&rig)["status"], "ok");
    assert!(daemon.terminate().unwrap().success());
    assert!(rig.ctl(&["journal", "verify"]).unwrap().contains("intact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_nobody_has_set_is_said_in_health_answers_and_journal() {
    let rig = a_box("", "[clock]\nsynchronized_file = \"/nowhere/synchronized\"\n");
    let daemon = rig.start().unwrap();
    let answer = ask(&mut http(&daemon), &request(0, None)).await.unwrap();
    assert!(answer.warnings.iter().any(|warning| warning.contains("does not trust its clock")));
    let health = status(&rig);
    assert_eq!(
        (&health["clock"]["state"], &health["clock"]["doubt"]),
        (&"untrusted".into(), &"not_synchronised".into())
    );
    let clock = rig.ctl_output(&["clock", "--accept"]).unwrap();
    assert_eq!(clock.status.code(), Some(1), "a typed word does not set a clock: {}", said(&clock));
    daemon.terminate().unwrap();
    assert_eq!(rig.exported().unwrap()[0]["clock_trusted"], false);
    assert!(rig.ctl(&["journal", "verify"]).unwrap().contains("1 records were written while"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_read_by_other_programs() {
    let rig = a_box("", "");
    let daemon = rig.start().unwrap();
    let mut terminal = http(&daemon);
    let mut abstained = 0;
    for n in 0..6 {
        let mut request = request(n, Some("sample, \"9\""));
        if n == 5 {
            request.transcript = None;
        }
        let answer = ask(&mut terminal, &request).await.unwrap();
        abstained += usize::from(answer.abstained);
    }
    assert!(abstained > 0);
    daemon.terminate().unwrap();
    let key = rig.path("hospital.key").display().to_string();
    let export =
        |format: &str| rig.ctl(&["journal", "export", "--identity", &key, "--format", format]).unwrap();
    let table = export("csv");
    assert_eq!(table.lines().count(), 7);
    assert!(table.starts_with("index,time,clock_trusted,terminal,"));
    assert!(table.contains("\"sample, \"\"9\"\"\""));
    let bundles = export("fhir");
    assert_eq!(bundles.lines().count(), 6);
    let sequence = facts().variants[0].request("x").sequence.unwrap();
    assert!(!bundles.contains(&sequence[..60]) && !table.contains(&sequence[..60]));
    // The classes of FHIR R4B in Python refuse what is not of the right shape; R4's are these, less some fields.
    let packages = ["fhir.resources==8.3.0"];
    let Some(python) = python("fhir", &packages, "import fhir.resources.R4B.bundle") else { return };
    fs::write(rig.path("bundles.jsonl"), &bundles).unwrap();
    let script = "
import sys, json
from fhir.resources.R4B.bundle import Bundle
kinds = set()
for line in open(sys.argv[1]):
    bundle = Bundle.model_validate_json(line)
    assert bundle.type == 'collection'
    kinds |= {type(entry.resource).__name__ for entry in bundle.entry}
assert kinds == {'Device', 'DiagnosticReport', 'Observation'}, kinds
";
    let checked = std::process::Command::new(python)
        .args(["-c", script])
        .arg(rig.path("bundles.jsonl"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

fn private_files(folder: &Path, out: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            private_files(&entry.path(), out);
        } else if meta.is_file()
            && (meta.mode() & 0o077 == 0 || entry.path().to_string_lossy().contains("/journal/"))
        {
            out.push(entry.path().display().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_put_back_from_its_backup_and_destroyed_at_its_end() {
    let rig = a_box("rotate_records = 2\n", "");
    let daemon = rig.start().unwrap();
    let mut terminal = http(&daemon);
    for n in 0..5 {
        ask(&mut terminal, &request(n, Some("s"))).await.unwrap();
    }
    let (backup, hospital) = (rig.path("b.locus-backup").display().to_string(), rig.path("hospital.pub"));
    let hospital = hospital.display().to_string();
    let refused = rig.ctl_output(&["backup", "--to", &backup]).unwrap();
    assert!(said(&refused).contains("--recipient"), "without one there is none");
    let made = json(&rig.ctl(&["backup", "--to", &backup, "--recipient", &hospital, "--json"]).unwrap());
    let secrets = made["secrets"].to_string();
    for secret in ["state/keys/device.key", "state/keys/index.key", "state/access/ca.key"] {
        assert!(secrets.contains(secret), "{made}");
    }
    let files = made["files"].to_string();
    for file in ["state/slots/record", "state/audit/", "config/locusd.toml", "config/publisher.pub"] {
        assert!(files.contains(file), "{file}: {files}");
    }
    assert!(!files.contains("journal") && !files.contains("bundles"), "{files}");
    let bytes = fs::read(&backup).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
    drop(terminal);
    daemon.terminate().unwrap();
    // On another machine, from the file and the recipient's key alone.
    let other = tempfile::tempdir().unwrap();
    let config = other.path().join("locusd.toml").display().to_string();
    let state = other.path().join("state").display().to_string();
    let key = rig.path("hospital.key").display().to_string();
    let restore = |extra: &[&str]| {
        program("locusctl")
            .args(["--config", &config, "restore", "--from", &backup, "--identity", &key, "--state", &state])
            .args(extra)
            .output()
            .unwrap()
    };
    let public = rig.path("state/keys/device.key.pub").display().to_string();
    let put_back = restore(&["--device-key", &public]);
    assert!(put_back.status.success(), "{}", said(&put_back));
    assert_eq!(fs::read(&public).unwrap(), fs::read(format!("{state}/keys/device.key.pub")).unwrap());
    let slots = |config: &str| program("locusctl").args(["--config", config, "slots"]).output().unwrap();
    assert_eq!(slots(&config).stdout, slots(&rig.config().display().to_string()).stdout);
    let audit = program("locusctl").args(["--config", &config, "audit"]).output().unwrap();
    assert!(audit.status.success() && said(&audit).contains("restore"), "{}", said(&audit));
    assert!(rig.ctl(&["audit"]).unwrap().contains("opened by"), "the backup is written down");
    // The end: for the right box, and not while results are nowhere else.
    let end = |extra: &[&str]| rig.ctl_output(&[&["decommission"], extra].concat()).unwrap();
    assert!(said(&end(&["--confirm", "box-2"])).contains("nothing was destroyed"));
    let unsaved = end(&["--confirm", "box-1"]);
    assert!(said(&unsaved).contains("5 records in 3 segments have no verified copy"), "{}", said(&unsaved));
    let copy = rig.path("copy").display().to_string();
    rig.ctl(&["journal", "offload", "--to", &copy]).unwrap();
    let device = rig.path("device.pub").display().to_string();
    fs::copy(&public, &device).unwrap();
    let ended = end(&["--confirm", "box-1"]);
    assert!(ended.status.success() && said(&ended).contains("stay readable to"), "{}", said(&ended));
    let mut left = Vec::new();
    private_files(&rig.path("state"), &mut left);
    assert!(left.is_empty() && !rig.path("state/access/local.token").exists(), "{left:?}");
    assert!(end(&["--confirm", "box-1"]).status.success(), "done again, it is done");
    let start = program("locusd").arg("--config").arg(rig.config()).output().unwrap();
    assert!(!start.status.success() && said(&start).contains("decommissioned"), "{}", said(&start));
    let read =
        rig.ctl(&["journal", "export", "--identity", &key, "--dir", &copy, "--device-key", &device]).unwrap();
    assert_eq!(read.lines().count(), 5, "what was copied stays readable to the hospital");
}
