//! Requests in, decrypted journal out, over the real programs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::HashMap, time::Duration};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Answer, FaultCode, Outcome, Request};
use locus_tests::{Rig, facts};

const PATIENCE: Duration = Duration::from_secs(20);

fn answered(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answer(answer) => *answer,
        Outcome::Fault(fault) => panic!("{}: {}", fault.code.as_str(), fault.message),
    }
}

/// What must be the same on every transport.
fn essence(answer: &Answer) -> Answer {
    Answer { id: None, receipt: None, timing_us: Default::default(), ..answer.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_transports_give_one_answer_and_the_journal_holds_them_all() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut terminals = [
        ("http", Terminal::Http(daemon.http("ward-1").unwrap())),
        ("mqtt", Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap()))),
        ("serial", Terminal::Serial(Box::new(rig.serial().unwrap()))),
    ];
    let mut receipts = HashMap::new();
    for (n, fact) in facts().variants.iter().enumerate() {
        let mut first = None;
        for (name, terminal) in &mut terminals {
            let id = format!("{name}-{n}");
            let answer = answered(terminal.ask(&fact.request(&id), PATIENCE).await.unwrap());
            assert_eq!(answer.id.as_deref(), Some(id.as_str()));
            assert_eq!(answer.pathogenic_probability.is_some(), !answer.abstained);
            assert!(answer.timing_us.infer > 0 && answer.timing_us.journal > 0);
            assert!(answer.intended_use.contains("not a diagnosis"));
            assert_eq!(answer.transcript_id.as_deref(), Some(fact.transcript_id.as_str()));
            let first = first.get_or_insert_with(|| essence(&answer));
            assert_eq!(essence(&answer), *first, "{name} answers as the others do");
            receipts.insert(id, answer.receipt.unwrap());
        }
    }
    drop(terminals);
    assert!(daemon.terminate().unwrap().success());
    assert!(rig.ctl(&["journal", "verify"]).unwrap().contains("36 records"));
    let exported = rig.exported().unwrap();
    assert_eq!((exported.len(), receipts.len()), (36, 36));
    for record in exported {
        let kept = &record["record"];
        let id = kept["request"]["id"].as_str().unwrap();
        let (transport, n) = id.split_once('-').unwrap();
        assert_eq!(kept["transport"], transport);
        let fact = &facts().variants[n.parse::<usize>().unwrap()];
        assert_eq!(kept["request"]["sequence"], fact.sequence.as_str());
        assert_eq!(kept["answer"]["id"], id);
        let receipt = receipts.remove(id).unwrap();
        assert_eq!(record["receipt"], serde_json::to_value(receipt).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_has_the_same_receipt_on_every_transport_and_across_a_restart_says_so() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let fact = &facts().variants[0];
    let mut terminals = [
        Terminal::Http(daemon.http("ward-1").unwrap()),
        Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap())),
        Terminal::Serial(Box::new(rig.serial().unwrap())),
    ];
    for terminal in &mut terminals {
        let first = answered(terminal.ask(&fact.request("r"), PATIENCE).await.unwrap());
        let again = answered(terminal.ask(&fact.request("r"), PATIENCE).await.unwrap());
        assert_eq!(first, again);
        let other = Request { subject: Some("another".into()), ..fact.request("r") };
        match terminal.ask(&other, PATIENCE).await.unwrap() {
            Outcome::Fault(fault) => assert_eq!(fault.code, FaultCode::IdReused),
            Outcome::Answer(_) => panic!("an id was taken for two requests"),
        }
    }
    drop(terminals);
    assert!(daemon.terminate().unwrap().success());
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let later = answered(http.ask(&fact.request("r"), PATIENCE).await.unwrap());
    assert!(later.warnings.iter().any(|warning| warning.contains("record 0")), "{:?}", later.warnings);
    daemon.terminate().unwrap();
    let exported = rig.exported().unwrap();
    assert_eq!(exported.len(), 4);
    assert_eq!(exported[3]["repeat_of"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_tell_what_runs() {
    let rig = Rig::new("").unwrap();
    rig.ctl(&["init"]).unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    assert_eq!(http.get("/ready").unwrap().0, 503, "no model yet");
    let refused = http.ask(&facts().variants[0].request("a"), PATIENCE).await.unwrap();
    assert!(matches!(refused, Outcome::Fault(fault) if fault.code == FaultCode::NoModel && fault.retryable));
    rig.ctl(&["flash", &rig.path("signed.locus").display().to_string()]).unwrap();
    assert_eq!(http.get("/ready").unwrap().0, 200, "flashed while it runs");
    answered(http.ask(&facts().variants[0].request("a"), PATIENCE).await.unwrap());
    assert_eq!(http.get("/health").unwrap().1, br#"{"ready":true}"#, "a terminal is told no more");
    let operator = daemon.operator().unwrap();
    let (status, body) = operator.get("/health").unwrap();
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &health["status"], &health["mqtt_connected"]), (200, &"ok".into(), &true.into()));
    assert_eq!(health["model"]["name"], "variant-effect");
    assert_eq!(health["journal"]["records"], 1);
    assert_eq!(http.get("/metrics").unwrap().0, 403);
    let (status, body) = operator.get("/metrics").unwrap();
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    for line in [
        "locus_requests_total{transport=\"http\",result=\"no_model\"} 1",
        "locus_journal_records_total 1",
        "locus_ready 1",
        "locus_batch_rows_bucket{le=\"1\"} 1",
        "locus_stage_seconds_bucket{stage=\"infer\"",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert_eq!(http.get("/nothing").unwrap().0, 404);
    daemon.terminate().unwrap();
    assert!(rig.ctl_output(&["status"]).unwrap().status.code() == Some(1), "no daemon runs");
}
