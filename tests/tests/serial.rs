//! Serial lines with a key: who does not have it, or has only heard it, is not answered.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use locus_edge::{
    client::{ClientError, SerialTerminal},
    transport::serial,
};
use locus_firmware_config::{
    message::{MAX_MESSAGE_BYTES, Outcome},
    wire::{CHALLENGE_BYTES, Decoder, Direction, Frame, FrameType, Key, MAX_FRAME, encode, fragments},
};
use locus_tests::{Daemon, Rig, facts};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_serial::SerialStream;

const PATIENCE: Duration = Duration::from_secs(20);
const SESSION: u32 = 77;

fn a_box_with_a_key() -> (Rig, Daemon, Key) {
    let rig = Rig::new("key_file = \"line.key\"\n").unwrap();
    rig.ctl(&["line-key", "--out", rig.path("line.key").to_str().unwrap()]).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let key = serial::read_key(&rig.path("line.key")).unwrap();
    (rig, daemon, key)
}

fn terminal(rig: &Rig, key: Option<&Key>) -> SerialTerminal {
    SerialTerminal::open_with(&rig.path("serial-terminal"), 115_200, key.cloned()).unwrap()
}

fn metric(daemon: &Daemon, line: &str) -> u64 {
    let metrics = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    metrics.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |value| value.trim().parse().unwrap())
}

fn refused(daemon: &Daemon, reason: &str) -> u64 {
    metric(daemon, &format!("locus_refused_total{{transport=\"serial\",reason=\"{reason}\"}}"))
}

/// Frames of a message, ready to be sent, and sent again by who recorded them.
fn bytes(key: Option<&Key>, kind: FrameType, seq: u16, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in fragments(kind, SESSION, seq, message).unwrap() {
        let mut out = [0; MAX_FRAME];
        let frame = key.map_or(frame, |key| key.seal(&frame, Direction::ToBox));
        let n = encode(&frame, &mut out).unwrap();
        bytes.extend_from_slice(&out[..n]);
    }
    bytes
}

/// Waits for the last frame of a message of one kind that opens with a key: its payload.
async fn hear(port: &mut SerialStream, key: &Key, kind: FrameType) -> Vec<u8> {
    let (mut decoder, mut input, mut heard) = (Decoder::new(), [0; 4_096], None);
    while heard.is_none() {
        let n = timeout(PATIENCE, port.read(&mut input)).await.unwrap().unwrap();
        decoder.push(&input[..n], |frame| {
            let frame: Frame<'_> = frame.unwrap();
            if frame.kind == kind && frame.fragment + 1 == frame.fragments {
                assert!(key.opens(&frame, Direction::ToTerminal), "{frame:?}");
                heard = Some(frame.payload.to_vec());
            }
        });
    }
    heard.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_key_is_answered_and_nobody_else() {
    let (rig, daemon, key) = a_box_with_a_key();
    let request = facts().variants[0].request("keyed");
    let without = terminal(&rig, None).ask(&request, PATIENCE).await;
    assert!(matches!(without, Err(ClientError::Rejected)), "{without:?}");
    let wrong = Key::new([9; 32]);
    let wrong = terminal(&rig, Some(&wrong)).ask(&request, Duration::from_secs(3)).await;
    assert!(matches!(wrong, Err(ClientError::Rejected)), "{wrong:?}");
    assert!(refused(&daemon, "no_key") > 0 && refused(&daemon, "wrong_key") > 0);
    let mut right = terminal(&rig, Some(&key));
    for id in ["keyed", "keyed-again"] {
        let outcome = right.ask(&facts().variants[0].request(id), PATIENCE).await.unwrap();
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    }
    // The box forgets its sessions when it starts anew; the terminal learns that and greets.
    daemon.terminate().unwrap();
    let daemon = rig.start().unwrap();
    let outcome = right.ask(&facts().variants[1].request("after"), PATIENCE).await.unwrap();
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    daemon.terminate().unwrap();
    assert_eq!(rig.exported().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_not_taken_once_more() {
    let (rig, daemon, key) = a_box_with_a_key();
    let mut port = serial::open(&rig.path("serial-terminal"), 115_200).unwrap();
    let hello = bytes(Some(&key), FrameType::Hello, 0, &[]);
    port.write_all(&hello).await.unwrap();
    let challenge = hear(&mut port, &key, FrameType::Hello).await;
    let session = key.of_session(SESSION, challenge.first_chunk::<CHALLENGE_BYTES>().unwrap());
    let mut message = vec![0; MAX_MESSAGE_BYTES];
    // Without an id: taken twice it would be answered twice.
    let request = locus_firmware_config::message::Request { id: None, ..facts().variants[0].request("x") };
    let message = postcard::to_slice(&request, &mut message).unwrap().to_vec();
    let recorded = bytes(Some(&session), FrameType::Request, 1, &message);
    port.write_all(&recorded).await.unwrap();
    hear(&mut port, &session, FrameType::Answer).await;
    for _ in 0..3 {
        port.write_all(&recorded).await.unwrap();
        hear(&mut port, &session, FrameType::Ack).await;
    }
    assert!(refused(&daemon, "replayed") >= 3);
    // A recorded greeting does not bring the recorded session back, nor end the present one.
    port.write_all(&hello).await.unwrap();
    let another = hear(&mut port, &key, FrameType::Hello).await;
    assert_ne!(another, challenge);
    port.write_all(&bytes(Some(&session), FrameType::Request, 2, &message)).await.unwrap();
    hear(&mut port, &session, FrameType::Answer).await;
    // A frame of one's own without the key, and one that the box sent.
    port.write_all(&bytes(None, FrameType::Request, 3, &message)).await.unwrap();
    hear(&mut port, &key, FrameType::Reject).await;
    daemon.terminate().unwrap();
    assert_eq!(rig.exported().unwrap().len(), 2);
}

#[test]
fn a_box_without_the_key_that_its_configuration_names_does_not_start() {
    let rig = Rig::new("key_file = \"nowhere.key\"\n").unwrap();
    rig.flash().unwrap();
    let error = rig.start().unwrap_err().to_string();
    assert!(error.contains("nowhere.key"), "{error}");
}
