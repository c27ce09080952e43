//! Terminals that speak HL7 v2 over MLLP, or LIS01-A2 and LIS02-A2 on a line.

use std::sync::OnceLock;

use locus_edge::transport::{lis, mllp};
use locus_firmware_config::message::{Answer, Fault, MAX_MESSAGE_BYTES, Request};

use super::messages::quotes_no_sequence;
use crate::seeds;

/// Longest fault that is repeated, with what may be escaped in it.
const SAID: usize = 32 << 10;

fn answered() -> &'static Answer {
    static ANSWER: OnceLock<Answer> = OnceLock::new();
    ANSWER.get_or_init(|| serde_json::from_value(seeds::answer()).expect("an answer"))
}

fn checked(request: &Result<Request, Fault>) {
    match request {
        Ok(request) => assert!(request.clone().check().is_ok(), "what was taken can be asked"),
        Err(fault) => quotes_no_sequence(fault),
    }
}

/// The bytes themselves where the first one is even, else what they are as a message of the protocol.
fn come(bytes: &[u8], message: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    match bytes.split_first() {
        Some((mode, rest)) if mode & 1 == 0 => rest.to_vec(),
        Some((_, rest)) => message(rest),
        None => Vec::new(),
    }
}

/// Every question is answered by whole messages: nothing that a peer sends becomes a segment or a block of the box's.
pub(super) fn hl7(bytes: &[u8]) {
    let stream = come(bytes, |message| [b"\x0b", message, b"\x1c\r"].concat());
    mllp::overhear(&stream, answered(), &mut |request, said| {
        checked(&request);
        assert_eq!(said.len(), 1 + usize::from(request.is_ok()), "an acknowledgement, and an answer");
        said.iter().for_each(|message| is_whole(message));
    });
}

fn is_whole(message: &[u8]) {
    const NAMES: [&[u8]; 8] = [b"MSH", b"MSA", b"ERR", b"PID", b"OBR", b"OBX", b"NTE", b"ORC"];
    assert!(message.len() < SAID && message.ends_with(b"\r"));
    assert!(message.iter().all(|&byte| byte >= 0x20 || byte == b'\r'), "no control character gets in");
    for (number, segment) in message.split(|&byte| byte == b'\r').filter(|s| !s.is_empty()).enumerate() {
        let name = segment.split(|&byte| byte == b'|').next().unwrap_or_default();
        assert!(NAMES.contains(&name) && (number == 0) == (name == b"MSH"), "{segment:?}");
    }
}

/// What the box says is frames, of which every message is made whole again by the same rules.
pub(super) fn lis(bytes: &[u8]) {
    let stream = come(bytes, lis::transmission);
    let (asked, said) = lis::overhear(&stream, answered());
    asked.iter().for_each(checked);
    assert!(asked.len() <= stream.len().div_ceil(4), "no more questions than transmissions");
    assert!(said.len() <= 4 * stream.len() + asked.len() * SAID, "bounded by what came");
    if stream.len() < MAX_MESSAGE_BYTES {
        assert_eq!(lis::overhear(&stream, answered()).1, said, "the same every time");
    }
}

const HL7_ORDER: &str = "MSH|^~\\&|LAB|ST-ANNA|LOCUS|BOX|20261126120000||ORU^R01^ORU_R01|m-1|P|2.5.1\r\
    PID|1||12345^^^ST-ANNA^MR\rOBR|1|p-1|f-1|51969-4^Genetic analysis report^LN\r\
    OBX|1|CWE|48018-6^Gene^LN||HGNC:1100^BRCA1^HGNC||||||F\rOBX|2|CWE|48004-6^c.HGVS^LN||NM_007294.4:c.5096G>A||||||F\r";
const HL7_ACKNOWLEDGEMENT: &str =
    "MSH|^~\\&|LAB|ST-ANNA|LOCUS|BOX|20261126120000||ACK^R01|x|P|2.5.1\rMSA|AA|a-1\r";
const LIS_ORDER: &str = "H|\\^&|l-1||ANALYSER^1|||||LOCUS||P|LIS2-A2|20261126120000\rP|1|12345\rO|1|s-1||^^^51969-4|R\r\
    R|1|^^^48018-6|BRCA1|||||F\rR|2|^^^48004-6|NM_007294.4:c.5096G>A|||||F\rL|1|N\r";

fn both(messages: &[&str], sent: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let described = messages.iter().map(|message| [b"\x01", message.as_bytes()].concat());
    let raw: Vec<u8> = messages.iter().flat_map(|message| sent(message.as_bytes())).collect();
    described.chain([[&b"\x00"[..], &raw].concat()]).collect()
}

/// The first files of [`hl7`].
pub(crate) fn hl7_seeds() -> Vec<Vec<u8>> {
    both(&[HL7_ORDER, HL7_ACKNOWLEDGEMENT], |message| [b"\x0b", message, b"\x1c\r"].concat())
}

/// The first files of [`lis`].
pub(crate) fn lis_seeds() -> Vec<Vec<u8>> {
    both(&[LIS_ORDER, &LIS_ORDER.replace("l-1", "l-2")], lis::transmission)
}
