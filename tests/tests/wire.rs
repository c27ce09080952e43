//! Serial: golden bytes of every frame and of every way to be wrong, over a real line into a real box.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::PathBuf, time::Duration};

use locus_edge::{client::SerialTerminal, transport::serial};
use locus_firmware_config::{
    message::{FaultCode, MAX_MESSAGE_BYTES, Outcome, Request},
    wire::{Decoder, Frame, FrameType, MAX_FRAME, WireError, encode},
};
use locus_tests::{Fact, Rig, example, facts, root};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_serial::SerialStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// Name and bytes of every golden file of version 1; they were made without this project's code.
fn golden() -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("tests/fixtures/wire/v1")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), hex::decode(digits).unwrap())
    };
    paths.iter().map(read).collect()
}

/// What the good files say, read off their bytes by hand.
fn meaning(name: &str) -> Frame<'static> {
    const ALL: [u8; 240] = {
        let mut bytes = [0; 240];
        let mut i = 0;
        while i < 240 {
            bytes[i] = i as u8;
            i += 1;
        }
        bytes
    };
    let frame =
        |kind, payload| Frame { kind, session: 7, seq: 9, fragment: 0, fragments: 1, payload, tag: None };
    match name {
        "good-hello" => frame(FrameType::Hello, b""),
        "good-request" => frame(FrameType::Request, b"ACGT"),
        "good-fragment" => Frame { fragment: 254, fragments: 255, ..frame(FrameType::Request, b"ACGT") },
        "good-tag" => Frame {
            tag: Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            ..frame(FrameType::Request, b"ACGT")
        },
        "good-answer" => frame(FrameType::Answer, &ALL),
        "good-fault" => frame(FrameType::Fault, &[0; 3]),
        "good-ack" => Frame { session: u32::MAX, seq: u16::MAX, ..frame(FrameType::Ack, b"") },
        "good-nack" => frame(FrameType::Nack, b""),
        other => panic!("{other} is not known"),
    }
}

/// Reads what has come; a line that is gone ends the test.
async fn hear(port: &mut SerialStream, input: &mut [u8]) -> usize {
    let read = tokio::time::timeout(PATIENCE, port.read(input)).await.expect("an answer in time").unwrap();
    assert_ne!(read, 0, "the line is gone");
    read
}

fn kind_of(error: WireError) -> &'static str {
    match error {
        WireError::Overlong => "overlong",
        WireError::Cobs => "cobs",
        WireError::Length { .. } => "length",
        WireError::Crc { .. } => "crc",
        WireError::Version { .. } => "version",
        WireError::Kind { .. } => "kind",
        WireError::Fragment { .. } => "fragment",
        other => panic!("{other} cannot come of a line"),
    }
}

#[test]
fn golden_frames_are_read_written_again_byte_for_byte_and_refused_for_their_reason() {
    let (mut good, mut bad) = (0, 0);
    for (name, bytes) in golden() {
        let mut seen = Vec::new();
        Decoder::new().push(&bytes, |frame| {
            seen.push(frame.map_err(kind_of).map(|frame| {
                assert_eq!(frame, meaning(&name));
                let mut out = [0; MAX_FRAME];
                let n = encode(&frame, &mut out).unwrap();
                out[..n].to_vec()
            }));
        });
        assert_eq!(seen.len(), 1, "{name}");
        match (name.split('-').next().unwrap(), &seen[0]) {
            ("good", Ok(again)) => {
                assert_eq!(*again, bytes, "{name}");
                good += 1;
            }
            ("bad", Err(reason)) => {
                assert_eq!(*reason, name.split('-').nth(1).unwrap(), "{name}");
                bad += 1;
            }
            (_, other) => panic!("{name} gave {other:?}"),
        }
    }
    assert_eq!((good, bad), (8, 17));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_get_no_answer_and_the_next_request_gets_its_own() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let fact = &facts().variants[0];
    let mut port = serial::open(&rig.path("serial-terminal"), 115_200).unwrap();
    for (n, (name, bytes)) in golden().into_iter().filter(|(name, _)| name.starts_with("bad")).enumerate() {
        let id = format!("after-{name}");
        let request = postcard_of(&fact.request(&id));
        port.write_all(&bytes).await.unwrap();
        port.write_all(&serial::frames(FrameType::Request, 77, n as u16, &request).unwrap()).await.unwrap();
        let (mut decoder, mut input, mut kinds) = (Decoder::new(), [0; 4096], Vec::new());
        let mut answer = Vec::new();
        while !kinds.contains(&FrameType::Answer) || !complete(&answer) {
            let read = hear(&mut port, &mut input).await;
            decoder.push(&input[..read], |frame| {
                let frame: Frame<'_> = frame.unwrap();
                assert_eq!((frame.session, frame.seq), (77, n as u16), "{name}");
                kinds.push(frame.kind);
                if frame.kind == FrameType::Answer {
                    answer.push((frame.fragment, frame.fragments));
                }
            });
        }
        assert!(
            kinds.iter().all(|kind| matches!(kind, FrameType::Ack | FrameType::Answer)),
            "{name}: {kinds:?}"
        );
    }
    let metrics = daemon.operator().unwrap().get("/metrics").unwrap().1;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("locus_serial_broken_frames_total 17"), "{metrics}");
}

fn complete(fragments: &[(u8, u8)]) -> bool {
    fragments.last().is_some_and(|(fragment, of)| fragment + 1 == *of)
}

fn postcard_of(request: &Request) -> Vec<u8> {
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    postcard::to_slice(request, &mut bytes).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_sequence_goes_through_and_a_lost_fragment_is_refused() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut terminal = rig.serial().unwrap();
    let mut request =
        Request { mutation: Some("A29901C".into()), id: Some("long".into()), ..Request::default() };
    request.sequence = Some("ACGT".repeat(12_500));
    match terminal.ask(&request, PATIENCE).await.unwrap() {
        Outcome::Answer(answer) => assert!(answer.abstained, "no transcript"),
        Outcome::Fault(fault) => panic!("{}", fault.message),
    }
    drop(terminal);
    let mut port = serial::open(&rig.path("serial-terminal"), 115_200).unwrap();
    let whole =
        serial::frames(FrameType::Request, 5, 1, &postcard_of(&facts().variants[0].request("cut"))).unwrap();
    let second = whole.iter().position(|b| *b == 0).unwrap() + 1;
    let third = second + whole[second..].iter().position(|b| *b == 0).unwrap() + 1;
    port.write_all(&whole[..second]).await.unwrap();
    port.write_all(&whole[third..]).await.unwrap();
    let (mut decoder, mut input, mut nacks) = (Decoder::new(), [0; 256], 0);
    while nacks == 0 {
        let read = hear(&mut port, &mut input).await;
        decoder.push(&input[..read], |frame| {
            let frame = frame.unwrap();
            assert_eq!((frame.kind, frame.session, frame.seq), (FrameType::Nack, 5, 1));
            nacks += 1;
        });
    }
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_get_a_fault() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let _daemon = rig.start().unwrap();
    let mut port = serial::open(&rig.path("serial-terminal"), 115_200).unwrap();
    port.write_all(&serial::frames(FrameType::Request, 5, 1, &[0xff; 50]).unwrap()).await.unwrap();
    let (mut decoder, mut input, mut fault) = (Decoder::new(), [0; 4096], None);
    while fault.is_none() {
        let read = hear(&mut port, &mut input).await;
        decoder.push(&input[..read], |frame| {
            let frame = frame.unwrap();
            if frame.kind == FrameType::Fault {
                let read: locus_firmware_config::message::Fault =
                    postcard::from_bytes(frame.payload).unwrap();
                fault = Some(read);
            }
        });
    }
    assert_eq!(fault.unwrap().code, FaultCode::BadRequest);
}

/// Three bits in 100,000 are flipped in both directions, so that about every second exchange loses something. Every
/// request has its outcome after some repeats with the same id, most of them by the terminal itself, and it is the outcome
/// that a clean line gives.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_noisy_line_every_answer_is_late_or_right_and_never_wrong() {
    let noisy = Rig::with_cable("", &["--bit-errors", "3e-5", "--seed", "20261124"]).unwrap();
    noisy.flash().unwrap();
    let daemon = noisy.start().unwrap();
    let clean = daemon.operator().unwrap();
    let mut terminal: SerialTerminal = noisy.serial().unwrap();
    let (mut tries, mut most) = (0, 0);
    for (n, fact) in facts().variants.iter().cycle().take(48).enumerate() {
        let right = clean.ask(&fact.request(&n.to_string()), PATIENCE).await.unwrap();
        let Outcome::Answer(right) = right else { panic!("a fault") };
        let mut here = 0;
        let got = loop {
            here += 1;
            assert!(here <= 200, "request {n} never came through");
            match terminal.ask(&fact.request(&format!("noisy-{n}")), Duration::from_millis(300)).await {
                Ok(Outcome::Answer(answer)) => break answer,
                Ok(Outcome::Fault(fault)) if fault.retryable => {}
                Ok(Outcome::Fault(fault)) => panic!("a damaged request was taken: {}", fault.message),
                Err(_) => {}
            }
        };
        tries += here;
        most = most.max(here);
        assert_eq!(got.pathogenic_probability, right.pathogenic_probability);
        assert_eq!(
            (got.band, &got.mutation, &got.consequence),
            (right.band, &right.mutation, &right.consequence)
        );
        assert_eq!(got.id.as_deref(), Some(format!("noisy-{n}").as_str()));
    }
    println!("48 requests at a bit error rate of 3e-5: {tries} tries, at most {most} for one");
    let metrics = String::from_utf8(clean.get("/metrics").unwrap().1).unwrap();
    let broken = metrics.lines().find_map(|line| line.strip_prefix("locus_serial_broken_frames_total "));
    assert!(broken.is_some_and(|count| count != "0"), "the noise was heard: {broken:?}");
}

/// What the microcontroller's terminal prints of an answer over the rig's cable.
fn asked_by_the_example(rig: &Rig, fact: &Fact, id: &str) -> serde_json::Value {
    let request = rig.path("request.json");
    let json = serde_json::to_value(fact.request(id)).unwrap();
    let present = json.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    let present: serde_json::Map<_, _> = present.map(|(key, value)| (key.clone(), value.clone())).collect();
    fs::write(&request, serde_json::to_vec(&present).unwrap()).unwrap();
    let output = example("terminal").args([rig.path("serial-terminal"), request]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_microcontroller_s_terminal_is_answered_as_locusctl_is() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let _daemon = rig.start().unwrap();
    let (port, request) = (rig.path("serial-terminal"), rig.path("request.json"));
    for (n, fact) in facts().variants.iter().take(3).enumerate() {
        let got = asked_by_the_example(&rig, fact, &format!("small-{n}"));
        assert_eq!(got["mutation"], fact.mutation.as_str());
        let ask =
            ["ask", "--json", "--transport", "serial", "--serial-port", port.to_str().unwrap(), "--request"];
        let ask: Vec<&str> = ask.into_iter().chain([request.to_str().unwrap()]).collect();
        // The same id on the same line is the same request: receipt and timing are the first answer's as well.
        let again: serde_json::Value = serde_json::from_str(&rig.ctl(&ask).unwrap()).unwrap();
        assert_eq!(got, again);
    }
}

/// As many flipped bits as in the test above, and the terminal asks again by itself.
#[test]
fn on_a_noisy_line_the_microcontroller_s_terminal_gets_the_right_answer() {
    let noisy = Rig::with_cable("", &["--bit-errors", "3e-5", "--seed", "20261126"]).unwrap();
    noisy.flash().unwrap();
    let _daemon = noisy.start().unwrap();
    for (n, fact) in facts().variants.iter().take(8).enumerate() {
        let id = format!("small-{n}");
        let got = asked_by_the_example(&noisy, fact, &id);
        let request = noisy.path("request.json");
        let over_https = noisy.ctl(&["ask", "--json", "--request", request.to_str().unwrap()]).unwrap();
        let right: serde_json::Value = serde_json::from_str(&over_https).unwrap();
        for key in
            ["id", "mutation", "pathogenic_probability", "band", "consequence", "model", "engine", "warnings"]
        {
            assert_eq!(got[key], right[key], "{key}");
        }
        assert_eq!(got["id"], id.as_str());
    }
}
