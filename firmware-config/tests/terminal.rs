//! The terminal without I/O: on any line its outcome is the box's own, or there is none.
#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "each suite uses a part")]
mod harness;

use harness::{End, Peer, REQUEST, answer, run_over, terminal};
use locus_firmware_config::{
    message::{Answer, Fault, FaultCode, Lane, Request, TranscriptSpec},
    terminal::{
        ANSWER_BYTES, AnswerRef, AskError, Event, FaultRef, MAX_TEXTS, Patience, REQUEST_BYTES, RequestRef,
    },
    wire::{Decoder, FrameType, Key, MAX_FRAME, encode, fragments},
};
use proptest::prelude::*;

fn frames(kind: FrameType, session: u32, seq: u16, message: &[u8]) -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME];
    let frames = fragments(kind, session, seq, message).unwrap();
    let mut encoded = |frame| {
        let n = encode(&frame, &mut out).unwrap();
        out[..n].to_vec()
    };
    frames.map(&mut encoded).collect()
}

/// What a line does to a frame.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    Lost,
    Twice,
    Flipped(usize),
    Cut(usize),
}

fn carry(frame: &[u8], fate: Fate) -> Vec<u8> {
    let mut frame = frame.to_vec();
    match fate {
        Fate::Whole => {}
        Fate::Lost => frame.clear(),
        Fate::Twice => frame.extend(frame.clone()),
        Fate::Flipped(bit) => {
            let bit = bit % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        Fate::Cut(at) => frame.truncate(at % frame.len()),
    }
    frame
}

/// Runs a request to its end over a line whose next frames have these fates.
fn run(request: &RequestRef<'_>, patience: Patience, busy: u32, fates: &[Fate]) -> (End, Peer) {
    run_with(request, patience, Peer::new(busy, None), fates, usize::MAX)
}

/// As [`run`], over a line with the peer's key; the box starts anew after so many frames.
fn run_with(
    request: &RequestRef<'_>,
    patience: Patience,
    peer: Peer,
    fates: &[Fate],
    restart: usize,
) -> (End, Peer) {
    let mut fates = fates.iter().copied();
    run_over(request, patience, peer, |frame| carry(frame, fates.next().unwrap_or(Fate::Whole)), restart)
}

fn a_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Whole),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => any::<usize>().prop_map(Fate::Flipped),
        1 => any::<usize>().prop_map(Fate::Cut),
    ]
}

proptest! {
    #[test]
    fn over_any_line_the_outcome_is_one_that_the_box_sent_or_none(
        fates in proptest::collection::vec(a_fate(), 0..120), busy in 0u32..3, tries in 1u8..20,
        keyed in any::<bool>(), restart in 1usize..40,
    ) {
        let patience = Patience { tries, ..Patience::default() };
        let peer = Peer::new(busy, keyed.then(|| Key::new([5; 32])));
        let (end, peer) = run_with(&REQUEST, patience, peer, &fates, restart);
        match end {
            End::Answer(bytes) | End::Busy(bytes) => prop_assert!(peer.sent.contains(&bytes)),
            End::TimedOut => {}
        }
        prop_assert!(peer.requests <= u32::from(tries) + 1, "taken once a number, and once more by a new box");
    }

    #[test]
    fn a_line_that_gets_well_in_time_brings_the_answer(
        fates in proptest::collection::vec(a_fate(), 0..12), busy in 0u32..3,
        keyed in any::<bool>(), restart in 1usize..40,
    ) {
        let patience = Patience { tries: 200, give_up_ms: 1_000_000, ..Patience::default() };
        let peer = Peer::new(busy, keyed.then(|| Key::new([5; 32])));
        let (end, peer) = run_with(&REQUEST, patience, peer, &fates, restart);
        prop_assert!(matches!(&end, End::Answer(bytes) if peer.sent.contains(bytes)), "{end:?}");
    }

    #[test]
    fn reads_may_be_split_anywhere(cuts in proptest::collection::vec(1usize..300, 0..40)) {
        let mut terminal = terminal();
        terminal.ask(&REQUEST, Patience::default(), 0).unwrap();
        let mut out = [0; MAX_FRAME];
        let mut replies = Vec::new();
        let mut peer = Peer::new(0, None);
        while let Some(bytes) = terminal.transmit(0, &mut out) {
            replies.extend(peer.hear(bytes).concat());
        }
        let mut rest = &replies[..];
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            terminal.receive(now, 1);
            rest = later;
        }
        terminal.receive(rest, 2);
        let answered = matches!(terminal.poll(2), Some(Event::Answer { bytes, .. }) if bytes == peer.sent[0]);
        prop_assert!(answered);
    }

    #[test]
    fn any_bytes_are_survived_and_are_no_outcome(
        bytes in proptest::collection::vec(any::<u8>(), 0..1_000),
        kind in prop::sample::select(vec![FrameType::Ack, FrameType::Nack, FrameType::Answer, FrameType::Fault]),
        session in 6u32..8, seq in 0u16..3, payload in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut terminal = terminal();
        terminal.ask(&REQUEST, Patience { tries: 1, ..Patience::default() }, 0).unwrap();
        terminal.receive(&bytes, 1);
        terminal.receive(&[0], 1);
        for frame in frames(kind, session, seq, &payload) {
            terminal.receive(&frame, 1);
        }
        match terminal.poll(1) {
            None | Some(Event::Unreadable { .. }) => {}
            Some(Event::Fault { fault, .. }) => prop_assert!(matches!(fault.id, None | Some("r-1"))),
            Some(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

/// A request with everything in it.
fn full() -> Request {
    let text = |text: &str| Some(text.to_owned());
    Request {
        id: text("r"),
        sequence: text("ACGT"),
        mutation: text("A1C"),
        variant: text("chr1-5-A-T"),
        subject: text("p-17"),
        model: text("m"),
        assembly: text("GRCh38"),
        gene: text("BRCA1"),
        transcript_id: text("ENST1"),
        lane: Some(Lane::Batch),
        deadline_ms: Some(300),
        explain: Some(true),
        transcript: Some(TranscriptSpec {
            strand: "-".into(),
            exons: vec![(-5, 9), (11, 900)],
            cds: vec![(1, 9, 2)],
        }),
    }
}

#[test]
fn both_forms_of_a_request_are_the_same_bytes() {
    for request in [Request::default(), full()] {
        let bytes = postcard::to_stdvec(&request).unwrap();
        assert_eq!(postcard::to_stdvec(&RequestRef::from(&request)).unwrap(), bytes);
    }
    let shown = format!("{:?}", RequestRef::from(&full()));
    assert!(["ACGT", "chr1", "p-17", "BRCA1", "900"].iter().all(|held| !shown.contains(held)), "{shown}");
}

#[test]
fn both_forms_of_an_answer_and_of_a_fault_say_the_same() {
    let answer = answer("r", 1);
    let bytes = postcard::to_stdvec(&answer).unwrap();
    let read: AnswerRef<'_> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(&answer).unwrap());
    assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes);
    let fault =
        Fault { retry_after_ms: Some(5), ..Fault::new(FaultCode::NoModel, "x") }.for_id(Some("r".into()));
    let bytes = postcard::to_stdvec(&fault).unwrap();
    let read: FaultRef<'_> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(&fault).unwrap());
}

#[test]
fn an_answer_with_more_warnings_than_are_kept_is_read_all_the_same() {
    let long = Answer { warnings: (0..MAX_TEXTS + 3).map(|n| n.to_string()).collect(), ..answer("r", 1) };
    let bytes = postcard::to_stdvec(&long).unwrap();
    let read: AnswerRef<'_> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!((read.warnings.kept().len(), read.warnings.more()), (MAX_TEXTS, 3));
    assert_eq!((read.warnings.kept()[MAX_TEXTS - 1], read.intended_use), ("15", "Research use"));
}

#[test]
fn a_request_without_an_id_is_sent_once() {
    let silent = [Fate::Lost; 400];
    let patience = Patience { tries: 5, ..Patience::default() };
    let lost = |request: &RequestRef<'_>| {
        let mut terminal = terminal();
        terminal.ask(request, patience, 0).unwrap();
        let (mut sent, mut out, mut now) = (0, [0; MAX_FRAME], 0);
        loop {
            while let Some(bytes) = terminal.transmit(now, &mut out) {
                Decoder::new()
                    .push(bytes, |frame| sent += u32::from(frame.unwrap().kind == FrameType::Request));
            }
            if terminal.poll(now).is_some() {
                return sent;
            }
            now = now.max(terminal.wake_ms().unwrap());
        }
    };
    assert_eq!((lost(&REQUEST), lost(&RequestRef { id: None, ..REQUEST })), (5, 1));
    assert_eq!(run(&REQUEST, patience, 0, &silent).0, End::TimedOut);
}

#[test]
fn an_outcome_for_another_id_session_or_number_is_not_taken() {
    let mut terminal = terminal();
    terminal.ask(&REQUEST, Patience::default(), 0).unwrap();
    while terminal.transmit(0, &mut [0; MAX_FRAME]).is_some() {}
    let mut hear = |id: &str, session, seq| {
        let message = postcard::to_stdvec(&answer(id, 1)).unwrap();
        terminal.receive(&frames(FrameType::Answer, session, seq, &message).concat(), 1);
        terminal.poll(1).is_some()
    };
    assert!(!hear("r-0", 7, 1));
    assert!(!hear("r-1", 8, 1));
    assert!(!hear("r-1", 7, 2));
    assert!(!hear("r-1", 7, 0));
    assert!(hear("r-1", 7, 1));
}

#[test]
fn what_does_not_fit_is_said() {
    let sequence = "A".repeat(REQUEST_BYTES);
    let long = RequestRef { sequence: Some(&sequence), mutation: Some("A1C"), variant: None, ..REQUEST };
    let room = REQUEST_BYTES;
    assert_eq!(terminal().ask(&long, Patience::default(), 0), Err(AskError::TooLarge { room }));
    let mut terminal = terminal();
    terminal.ask(&REQUEST, Patience::default(), 0).unwrap();
    while terminal.transmit(0, &mut [0; MAX_FRAME]).is_some() {}
    let long = Answer { warnings: vec!["x".repeat(ANSWER_BYTES)], ..answer("r-1", 1) };
    let message = postcard::to_stdvec(&long).unwrap();
    terminal.receive(&frames(FrameType::Answer, 7, 1, &message).concat(), 1);
    assert_eq!(terminal.poll(1), Some(Event::NoRoom { got: ANSWER_BYTES }));
    assert_eq!(terminal.poll(2), None);
    assert_eq!(terminal.wake_ms(), None);
}

#[test]
fn a_busy_box_is_asked_again_when_it_said() {
    let (end, peer) = run(&REQUEST, Patience::default(), 2, &[]);
    assert_eq!((end, peer.requests), (End::Answer(peer.sent[2].clone()), 3));
    let once = Patience { tries: 1, ..Patience::default() };
    assert!(
        matches!(run(&REQUEST, once, 2, &[]).0, End::Busy(_)),
        "no try is left: the fault is the outcome"
    );
}
