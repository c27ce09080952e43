//! What is written about the wire: every worked example of `docs/reference/serial.md` against the code, and the sentence that
//! says what an answer is for.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, fmt, fs, path::Path};

use locus_firmware_config::{
    message::{Answer, Fault, FaultCode, INTENDED_USE, Request},
    wire::{
        CHALLENGE_BYTES, Decoder, Direction, Frame, FrameType, KEY_BYTES, Key, MAX_FRAME, MAX_MESSAGE,
        MAX_PAYLOAD, MAX_RAW, encode,
    },
};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// The fenced blocks of a kind: each line's first word with the rest of it.
fn blocks(page: &str, kind: &str) -> Vec<BTreeMap<String, String>> {
    let opens = format!("\n```{kind}\n");
    let found = page.split(opens.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = found.map(|block| {
        block
            .lines()
            .map(|line| {
                let (key, value) = line.split_once(char::is_whitespace).unwrap();
                (key.to_owned(), value.trim().to_owned())
            })
            .collect()
    });
    lines.collect()
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

fn kind(word: &str) -> FrameType {
    match word {
        "hello" => FrameType::Hello,
        "request" => FrameType::Request,
        "answer" => FrameType::Answer,
        "fault" => FrameType::Fault,
        "ack" => FrameType::Ack,
        "nack" => FrameType::Nack,
        "reject" => FrameType::Reject,
        other => panic!("{other} is no type"),
    }
}

/// The two keys of the page, and the direction, as in `line, to the box`.
fn key(page: &str, words: &str, session: u32) -> (Key, Direction) {
    let quoted = |after: &str| {
        let rest = page.split_once(after).unwrap().1;
        unhex(rest.split('`').next().unwrap())
    };
    let line: [u8; KEY_BYTES] = quoted("the line's key `").try_into().unwrap();
    let challenge: [u8; CHALLENGE_BYTES] = quoted("the challenge `").try_into().unwrap();
    let line = Key::new(line);
    let (which, to) = words.split_once(", to the ").unwrap();
    let key = if which == "line" { line } else { line.of_session(session, &challenge) };
    (key, if to == "box" { Direction::ToBox } else { Direction::ToTerminal })
}

#[test]
fn every_example_of_the_description_is_what_the_code_writes_and_reads() {
    let page = page("docs/reference/serial.md");
    let frames = blocks(&page, "frame");
    assert!(frames.len() >= 11, "{}", frames.len());
    let mut signed = 0;
    for block in &frames {
        let payload = block.get("payload").map(|p| unhex(p)).unwrap_or_default();
        let (fragment, fragments) = block["fragment"].split_once(" of ").unwrap();
        let session = block["session"].parse().unwrap();
        let mut frame = Frame {
            kind: kind(&block["type"]),
            session,
            seq: block["seq"].parse().unwrap(),
            fragment: fragment.parse().unwrap(),
            fragments: fragments.parse().unwrap(),
            payload: &payload,
            tag: None,
        };
        if let Some(words) = block.get("key") {
            let (key, direction) = key(&page, words, session);
            frame = key.seal(&frame, direction);
            signed += 1;
        }
        let mut out = [0; MAX_FRAME];
        let n = encode(&frame, &mut out).unwrap();
        assert_eq!(hex::encode(&out[..n]), block["wire"], "{block:?}");
        let mut raw = out[..n - 1].to_vec();
        let decoded = cobs::decode_in_place(&mut raw).unwrap();
        raw.truncate(decoded);
        assert_eq!(raw, unhex(&block["raw"]), "{block:?}");
        let mut read = 0;
        Decoder::new().push(&unhex(&block["wire"]), |again| {
            assert_eq!(again.unwrap(), frame);
            read += 1;
        });
        assert_eq!(read, 1, "{block:?}");
    }
    assert!(signed >= 4, "{signed}");
    for block in blocks(&page, "message") {
        let bytes = unhex(&block["postcard"]);
        if let Some(json) = block.get("request") {
            let request = Request::from_json(json.as_bytes()).unwrap();
            assert_eq!(hex::encode(postcard::to_stdvec(&request).unwrap()), block["postcard"], "{json}");
            assert_eq!(Request::from_postcard(&bytes).unwrap(), request);
        } else {
            let fault: Fault = serde_json::from_str(&block["fault"]).unwrap();
            assert_eq!(hex::encode(postcard::to_stdvec(&fault).unwrap()), block["postcard"], "{fault:?}");
        }
    }
}

/// The keys of a JSON object in the order in which they are written.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[test]
fn fields_codes_and_limits_of_the_description_are_those_of_the_code() {
    let page = page("docs/reference/serial.md");
    let answer: Answer = serde_json::from_value(serde_json::json!({
        "id": null, "box": "b", "mutation": null, "predicted_label": null, "predicted_description": "",
        "pathogenic_probability": null, "benign_probability": null, "prior": null, "band": "none", "abstained": true,
        "input_mode": "transcript", "consequence": null, "transcript_id": null,
        "model": { "name": "m", "version": "1.0.0", "digest": "" }, "engine": { "provider": "", "precision": "" },
        "timing_us": { "queue": 0, "tokenize": 0, "infer": 0, "journal": 0 }, "receipt": null, "warnings": [],
        "intended_use": "",
    }))
    .unwrap();
    let Keys(fields) = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
    let list = page.split_once("**Answer** (type 3)").unwrap().1.split("\n\n").nth(1).unwrap();
    // A field of the answer itself stands outside of parentheses.
    let mut depth = 0_i32;
    let mut outside = String::new();
    for c in list.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            outside.push(c);
        }
    }
    let named: Vec<&str> = outside.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, fields);

    let Keys(fields) = serde_json::from_str(&serde_json::to_string(&Request::default()).unwrap()).unwrap();
    let table = page.split_once("**Request** (type 2):").unwrap().1.split("\n\n").nth(1).unwrap();
    let first = table.lines().skip(2).map(|row| row.split('|').nth(1).unwrap());
    let named: Vec<&str> = first.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(named, fields);

    let codes: Vec<String> =
        FaultCode::ALL.iter().enumerate().map(|(n, code)| format!("{n} `{}`", code.as_str())).collect();
    assert!(page.contains(&codes.join(", ")), "{codes:?}");

    for line in [
        format!("| payload of a frame | {MAX_PAYLOAD} bytes |"),
        format!("| frame before COBS | {MAX_RAW} bytes |"),
        format!("| frame on the wire, with its zero | {MAX_FRAME} bytes |"),
        format!(
            "| message | {},000 bytes, {} fragments |",
            MAX_MESSAGE / 1_000,
            MAX_MESSAGE.div_ceil(MAX_PAYLOAD)
        ),
    ] {
        assert!(page.contains(&line), "{line}");
    }
}

#[test]
fn the_pages_say_what_every_answer_says_it_is_for() {
    assert!(page("docs/intended-use.md").contains(INTENDED_USE));
    assert!(page("README.md").contains(INTENDED_USE));
}
