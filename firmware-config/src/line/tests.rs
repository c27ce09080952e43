#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use crate::wire::{KEY_BYTES, MAX_PAYLOAD};

const SESSION: u32 = 7;

/// What a line said to some bytes.
#[derive(Default)]
struct Said {
    requests: Vec<(Ticket, Vec<u8>)>,
    refused: Vec<&'static str>,
    again: usize,
    out: Vec<u8>,
}

impl Said {
    /// Kinds and payloads of the frames that are to be sent.
    fn frames(&self, key: Option<&Key>) -> Vec<(FrameType, Vec<u8>)> {
        let mut frames = Vec::new();
        Decoder::new().push(&self.out, |frame| {
            let frame = frame.unwrap();
            assert!(key.is_none_or(|key| key.opens(&frame, Direction::ToTerminal)), "{frame:?}");
            frames.push((frame.kind, frame.payload.to_vec()));
        });
        frames
    }
}

fn hear(line: &mut Line, frames: &[Frame<'_>]) -> Said {
    let mut bytes = Vec::new();
    for frame in frames {
        let mut out = [0; MAX_FRAME];
        let n = encode(frame, &mut out).unwrap();
        bytes.extend_from_slice(&out[..n]);
    }
    let (mut said, mut out, mut drawn) = (Said::default(), Vec::new(), 0);
    let mut challenge = || {
        drawn += 1;
        Some([drawn; CHALLENGE_BYTES])
    };
    line.receive(&bytes, &mut challenge, &mut out, &mut |heard| match heard {
        Heard::Request { ticket, message } => said.requests.push((ticket, message.to_vec())),
        Heard::Refused(reason) => said.refused.push(reason),
        Heard::Again => said.again += 1,
        Heard::Broken(error) => panic!("{error}"),
    });
    said.out = out;
    said
}

fn parts(message: &[u8], seq: u16) -> Vec<Frame<'_>> {
    fragments(FrameType::Request, SESSION, seq, message).unwrap().collect()
}

fn nack(seq: u16, payload: &[u8]) -> Frame<'_> {
    Frame { kind: FrameType::Nack, session: SESSION, seq, fragment: 0, fragments: 1, payload, tag: None }
}

#[test]
fn a_message_is_taken_once_and_what_it_lacks_is_said() {
    let message: Vec<u8> = (0..MAX_PAYLOAD * 3 + 10).map(|n| n as u8).collect();
    let (all, mut line) = (parts(&message, 1), Line::new(None, "v"));
    let said = hear(&mut line, &[all[0], all[3]]);
    assert!(said.requests.is_empty());
    assert_eq!(said.frames(None), [(FrameType::Nack, vec![0b1001])]);
    let said = hear(&mut line, &[all[2], all[1], all[3]]);
    assert_eq!(said.requests.len(), 1);
    assert_eq!(said.requests[0].1, message);
    assert_eq!((said.again, said.frames(None).len()), (1, 2), "an acknowledgement, and one more");
    let said = hear(&mut line, &all);
    assert_eq!((said.requests.len(), said.again), (0, 4));
    // Another life of the terminal is another matter.
    let other: Vec<Frame<'_>> = all.iter().map(|frame| Frame { session: 8, ..*frame }).collect();
    assert_eq!(hear(&mut line, &other).requests.len(), 1);
}

#[test]
fn of_an_outcome_that_is_lacked_is_sent_again_and_only_that() {
    let mut line = Line::new(None, "v");
    assert_eq!(hear(&mut line, &[nack(1, &[])]).frames(None), [(FrameType::Reject, vec![2])], "not known");
    let (ticket, _) = hear(&mut line, &parts(b"x", 1)).requests.remove(0);
    assert_eq!(hear(&mut line, &[nack(1, &[])]).frames(None), [(FrameType::Ack, vec![])], "in work");
    let outcome: Vec<u8> = (0..MAX_PAYLOAD * 4).map(|n| (n / MAX_PAYLOAD) as u8).collect();
    let mut out = Vec::new();
    line.outcome(ticket, FrameType::Answer, outcome, &mut out).unwrap();
    let first = |said: Said| said.frames(None).iter().map(|(_, payload)| payload[0]).collect::<Vec<_>>();
    assert_eq!(first(Said { out, ..Said::default() }), [0, 1, 2, 3]);
    assert_eq!(first(hear(&mut line, &[nack(1, &[0b1001])])), [1, 2, 3], "and the last one as the end");
    assert_eq!(first(hear(&mut line, &[nack(1, &[0b0111])])), [3]);
    assert_eq!(first(hear(&mut line, &[nack(1, &[])])), [0, 1, 2, 3]);
    // The latest are kept.
    for seq in 2..20 {
        let (ticket, _) = hear(&mut line, &parts(b"x", seq)).requests.remove(0);
        line.outcome(ticket, FrameType::Answer, vec![9], &mut Vec::new()).unwrap();
    }
    assert_eq!(line.desk.taken.iter().filter(|of| of.outcome.is_some()).count(), KEPT);
    assert_eq!(hear(&mut line, &[nack(1, &[])]).frames(None), [(FrameType::Ack, vec![])]);
}

#[test]
fn a_line_with_a_key_takes_what_was_made_with_it_in_this_session_and_once() {
    let key = Key::new([3; KEY_BYTES]);
    let mut line = Line::new(Some(key.clone()), "v");
    let hello = Frame { kind: FrameType::Hello, ..parts(b"", 0)[0] };
    let plain = parts(b"x", 1)[0];
    for frame in [plain, hello, nack(1, &[])] {
        let said = hear(&mut line, &[frame]);
        assert_eq!((said.refused.as_slice(), said.requests.len()), (&["no_key"][..], 0));
        assert_eq!(said.frames(Some(&key)), [(FrameType::Reject, vec![1])]);
    }
    let greeting = key.seal(&hello, Direction::ToBox);
    let challenge = |said: Said| *said.frames(Some(&key))[0].1.first_chunk::<CHALLENGE_BYTES>().unwrap();
    let first = challenge(hear(&mut line, &[greeting]));
    let session = key.of_session(SESSION, &first);
    let sealed = |key: &Key, seq| key.seal(&parts(b"x", seq)[0], Direction::ToBox);
    assert_eq!(hear(&mut line, &[sealed(&key, 1)]).refused, ["wrong_key"], "it signs greetings only");
    let said = hear(&mut line, &[sealed(&session, 1)]);
    assert_eq!(said.frames(Some(&session)), [(FrameType::Ack, vec![])]);
    let (old, _) = said.requests[0].clone();
    for _ in 0..2 {
        let said = hear(&mut line, &[sealed(&session, 1)]);
        assert_eq!((said.requests.len(), said.again), (0, 1), "a recorded frame");
    }
    for seq in 2..100 {
        assert_eq!(hear(&mut line, &[sealed(&session, seq)]).requests.len(), 1);
    }
    assert_eq!(hear(&mut line, &[sealed(&session, 1)]).again, 1, "also one that is not kept any more");
    // A recorded greeting gives another challenge and leaves the session as it is.
    let mut drawn = 100;
    let mut out = Vec::new();
    let mut again = [0; MAX_FRAME];
    let n = encode(&greeting, &mut again).unwrap();
    line.receive(
        &again[..n],
        &mut || {
            drawn += 1;
            Some([drawn; CHALLENGE_BYTES])
        },
        &mut out,
        &mut |heard| panic!("{heard:?}"),
    );
    let second = challenge(Said { out, ..Said::default() });
    assert_ne!(first, second);
    assert_eq!(hear(&mut line, &[sealed(&session, 100)]).requests.len(), 1);
    // Only who has the key can use it; then numbers begin anew, and nothing of the old session is sent.
    let next = key.of_session(SESSION, &second);
    assert_eq!(hear(&mut line, &[sealed(&next, 1)]).requests.len(), 1);
    let mut out = Vec::new();
    line.outcome(old, FrameType::Answer, vec![1], &mut out).unwrap();
    assert!(out.is_empty(), "the same number, another request");
    assert_eq!(hear(&mut line, &[sealed(&session, 101)]).refused, ["wrong_key"]);
}
