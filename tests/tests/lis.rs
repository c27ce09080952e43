//! LIS01-A2 and LIS02-A2 over a pseudo-terminal into a real box: whole exchanges, and a terminal that does it wrong.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, time::Duration};

use locus_edge::transport::serial;
use locus_tests::{Daemon, Rig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_serial::SerialStream;

const PATIENCE: Duration = Duration::from_secs(30);
const LINE: &str = "protocol = \"lis\"\nlis = { reply_ms = 10000, frame_ms = 3000, busy_ms = 50, contention_ms = 2000, patient_as_subject = true }\n\
    [engine]\norder = [\"tract\"]\n[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n";

const STX: u8 = 0x02;
const EOT: u8 = 0x04;
const ENQ: u8 = 0x05;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;

fn a_box() -> (Rig, Daemon, Terminal) {
    let rig = Rig::new(LINE).unwrap();
    rig.small_genome().unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let port = serial::open(&rig.path("serial-terminal"), 115_200).unwrap();
    (rig, daemon, Terminal(port))
}

fn order(id: &str, change: &str) -> String {
    format!(
        "H|\\^&|{id}||ANALYSER^1|||||LOCUS||P|LIS2-A2|20261126120000\rP|1|patient-12\rO|1|s-1||^^^51969-4|R\r\
         R|1|^^^48018-6|GENE|||||F\rR|2|^^^48004-6|{change}|||||F\rL|1|N\r"
    )
}

/// A frame as the standard has it.
fn frame(number: u8, text: &str, last: bool) -> Vec<u8> {
    let mut frame = vec![STX, b'0' + number % 8];
    frame.extend_from_slice(text.as_bytes());
    frame.push(if last { 0x03 } else { 0x17 });
    let sum = frame[1..].iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
    frame.extend_from_slice(format!("{sum:02X}\r\n").as_bytes());
    frame
}

struct Terminal(SerialStream);

impl Terminal {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn byte(&mut self) -> u8 {
        timeout(PATIENCE, self.0.read_u8()).await.unwrap().unwrap()
    }

    /// Sends a message, a record in a frame, as analysers do.
    async fn tell(&mut self, message: &str) {
        self.send(&[ENQ]).await;
        assert_eq!(self.byte().await, ACK);
        for (n, record) in message.split_inclusive('\r').enumerate() {
            self.send(&frame((n + 1) as u8, record, true)).await;
            assert_eq!(self.byte().await, ACK, "{record}");
        }
        self.send(&[EOT]).await;
    }

    async fn frame(&mut self) -> Vec<u8> {
        let mut frame = vec![self.byte().await];
        assert_eq!(frame[0], STX, "{frame:?}");
        while frame.last() != Some(&b'\n') {
            frame.push(self.byte().await);
        }
        frame
    }

    /// Takes a message; `spoil` refuses each frame so many times first.
    async fn take(&mut self, spoil: usize) -> String {
        assert_eq!(self.byte().await, ENQ);
        self.send(&[ACK]).await;
        let mut text = String::new();
        for number in 1_u8.. {
            let got = match self.byte().await {
                EOT => break,
                STX => {
                    let mut got = vec![STX];
                    while got.last() != Some(&b'\n') {
                        got.push(self.byte().await);
                    }
                    got
                }
                other => panic!("got {other:#x}"),
            };
            let end = got[got.len() - 5];
            let part = str::from_utf8(&got[2..got.len() - 5]).unwrap();
            assert_eq!(got, frame(number, part, end == 0x03));
            text.push_str(part);
            for _ in 0..spoil {
                self.send(&[NAK]).await;
                assert_eq!(self.frame().await, got);
            }
            self.send(&[ACK]).await;
        }
        text
    }
}

fn result(message: &str, code: &str) -> Option<String> {
    let mut lines = message.split('\r').filter(|line| line.starts_with("R|"));
    let line = lines.find(|line| line.split('|').nth(2).unwrap().split('^').nth(3) == Some(code))?;
    line.split('|').nth(3).map(str::to_owned)
}

fn refusals(daemon: &Daemon, reason: &str) -> u64 {
    let metrics = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    let line = format!("locus_refused_total{{transport=\"lis\",reason=\"{reason}\"}}");
    metrics.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_is_asked_about_and_the_answer_is_sent_once_the_line_is_free() {
    let (rig, daemon, mut terminal) = a_box();
    terminal.tell(&order("l-1", "t1:c.12T>A")).await;
    let answer = terminal.take(0).await;
    assert!(answer.starts_with("H|\\^&|l-1||LOCUS^box-1|||||ANALYSER^1||P|LIS2-A2|"), "{answer}");
    assert!(answer.ends_with("\rL|1|N\r") && answer.contains("\rO|1|s-1||"), "{answer}");
    assert!(answer.contains("not a diagnosis"));
    assert_eq!(result(&answer, "48004-6").unwrap(), "t1:c.12T>A");
    assert!(result(&answer, "prediction").unwrap().contains("prediction"));
    assert!(result(&answer, "receipt").unwrap().contains("index "));
    // The same question again, over a line that spoils every frame of the answer six times: the same answer.
    terminal.tell(&order("l-1", "t1:c.12T>A")).await;
    let again = terminal.take(6).await;
    assert_eq!(result(&again, "receipt"), result(&answer, "receipt"));
    // Faults say what to do.
    for (id, change, code, end) in [
        ("l-2", "t9:c.12T>A", "unknown_transcript", "Q"),
        ("l-1", "t1:c.13G>A", "id_reused", "Q"),
        ("", "x", "bad_request", "Q"),
    ] {
        terminal.tell(&order(id, change)).await;
        let fault = terminal.take(0).await;
        assert!(
            fault.contains(&format!("\rC|1|I|{code}^")) && fault.ends_with(&format!("\rL|1|{end}\r")),
            "{fault}"
        );
    }
    assert!(daemon.terminate().unwrap().success());
    let kept = rig.exported().unwrap();
    assert_eq!(kept.len(), 1);
    let entry = kept[0].to_string();
    assert!(
        entry.contains("\"lis\"") && entry.contains("\"ward-3\"") && entry.contains("patient-12"),
        "{entry}"
    );
    let log = fs::read_to_string(rig.path("locusd.log")).unwrap();
    assert!(!log.contains("patient-12") && !log.contains("l-1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_does_it_wrong_is_told_and_the_next_message_is_taken() {
    let (_rig, daemon, mut terminal) = a_box();
    // Bytes without an enquiry; a wrong checksum; a wrong number; a frame twice.
    terminal.send(b"noise\r\n").await;
    terminal.send(&[ENQ]).await;
    assert_eq!(terminal.byte().await, ACK);
    let message = order("l-3", "t1:c.12T>A");
    let (head, rest) = message.split_at(100);
    let mut wrong = frame(1, head, false);
    wrong[20] ^= 1;
    for (bytes, expected) in [
        (wrong, NAK),
        (frame(2, head, false), NAK),
        (frame(1, head, false), ACK),
        (frame(1, head, false), ACK),
        (frame(2, rest, true), ACK),
    ] {
        terminal.send(&bytes).await;
        assert_eq!(terminal.byte().await, expected);
    }
    terminal.send(&[EOT]).await;
    // Both enquire at once: the box gives way, and its answer comes later.
    assert_eq!(terminal.byte().await, ENQ);
    terminal.send(&[ENQ]).await;
    terminal.tell(&order("l-4", "t1:c.13G>A")).await;
    assert_eq!(result(&terminal.take(0).await, "48004-6").unwrap(), "t1:c.12T>A");
    let second = terminal.take(0).await;
    assert!(second.contains("|l-4|"), "{second}");
    // A terminal that is busy is asked again; one that never takes the answer is left, and asks again.
    terminal.tell(&message).await;
    for _ in 0..3 {
        assert_eq!(terminal.byte().await, ENQ);
        terminal.send(&[NAK]).await;
    }
    terminal.tell(&message).await;
    terminal.take(0).await;
    // A terminal that stops in the middle: after the time-out the line is free.
    terminal.send(&[ENQ]).await;
    assert_eq!(terminal.byte().await, ACK);
    terminal.send(&frame(1, head, false)[..40]).await;
    let late = std::time::Instant::now();
    while refusals(&daemon, "slow") == 0 {
        assert!(late.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    terminal.tell(&message).await;
    terminal.take(0).await;
    assert_eq!((refusals(&daemon, "framing"), refusals(&daemon, "unanswered")), (2, 1));
    assert!(daemon.terminate().unwrap().success());
}
