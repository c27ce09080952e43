//! The terminal without I/O: on any line its outcome is the box's own, or there is none.
#![allow(clippy::unwrap_used, reason = "a test")]

use locus_firmware_config::{
    message::{
        Answer, Band, BaseAttribution, EngineInfo, Evidence, Fault, FaultCode, LabelProbability, Lane,
        ModelInfo, Prediction, ReceiptInfo, Request, Timing, TranscriptSpec,
    },
    terminal::{
        ANSWER_BYTES, AnswerRef, AskError, Event, FaultRef, MAX_TEXTS, Patience, REQUEST_BYTES, RequestRef,
        Terminal,
    },
    wire::{Decoder, FrameType, MAX_FRAME, Reassembler, encode, fragments},
};
use proptest::prelude::*;

type Small = Terminal<[u8; REQUEST_BYTES], [u8; ANSWER_BYTES]>;

fn terminal() -> Small {
    Terminal::new(7, [0; REQUEST_BYTES], [0; ANSWER_BYTES])
}

const REQUEST: RequestRef<'static> = RequestRef {
    id: Some("r-1"),
    variant: Some("chr17-43045705-T-A"),
    sequence: None,
    mutation: None,
    subject: None,
    model: None,
    assembly: None,
    gene: None,
    transcript_id: None,
    lane: Some(Lane::Bedside),
    deadline_ms: None,
    explain: None,
    transcript: None,
};

/// An answer of several frames; `index` tells one from another.
fn answer(id: &str, index: u64) -> Answer {
    Answer {
        id: Some(id.into()),
        r#box: "box-1".into(),
        mutation: Some("chr17-43045705-T-A".into()),
        predicted_label: Some(1),
        predicted_description: format!("Pathogenic {index}"),
        pathogenic_probability: Some(0.987_654_321),
        benign_probability: Some(0.012_345_679),
        prior: Some(0.1),
        band: Band::Pathogenic,
        abstained: false,
        input_mode: "transcript".into(),
        consequence: Some("missense_variant".into()),
        transcript_id: None,
        model: ModelInfo { name: "m".into(), version: "1.0.0".into(), digest: "d".repeat(64) },
        engine: EngineInfo { provider: "tract".into(), precision: "fp32".into() },
        timing_us: Timing { queue: index, tokenize: 2, infer: 3, journal: 4 },
        receipt: Some(ReceiptInfo { journal: "j".into(), index, leaf: "l".repeat(64), root: "r".repeat(64) }),
        warnings: vec![format!("warning {index} ").repeat(20), "another".into()],
        intended_use: "Research use".into(),
        prediction: Some(Prediction {
            label: "exon".into(),
            probabilities: vec![LabelProbability { label: "exon".into(), probability: 0.75 }],
            value: None,
        }),
        hgvs_c: Some("LRG_292t1:c.5096G>A".into()),
        hgvs_p: Some("p.(Arg1699Gln)".into()),
        assembly: Some("GRCh38".into()),
        reference: Some(ModelInfo { name: "p".into(), version: "1.0.0".into(), digest: "e".repeat(64) }),
        evidence: Some(Evidence {
            criterion: "PP3".into(),
            strength: "moderate".into(),
            likelihood_ratio: 4.33,
        }),
        out_of_distribution: true,
        out_of_distribution_reason: Some("the window is short".into()),
        attribution: vec![BaseAttribution { offset: -1, base: "A".into(), effect: 0.5 }],
    }
}

fn frames(kind: FrameType, session: u32, seq: u16, message: &[u8]) -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME];
    let frames = fragments(kind, session, seq, message).unwrap();
    let mut encoded = |frame| {
        let n = encode(&frame, &mut out).unwrap();
        out[..n].to_vec()
    };
    frames.map(&mut encoded).collect()
}

/// What a box does with frames, as `edge/src/transport/serial.rs` does it. A request that the line doubled is answered
/// from memory; one under a new number here is not, as if the box had started anew: two answers must never be mixed.
struct Peer {
    decoder: Decoder,
    message: Reassembler<Vec<u8>>,
    busy: u32,
    /// Whole outcomes that were sent.
    sent: Vec<Vec<u8>>,
    requests: u32,
}

impl Peer {
    fn new(busy: u32) -> Self {
        let message = Reassembler::new(vec![0; 60_000]);
        Self { decoder: Decoder::new(), message, busy, sent: Vec::new(), requests: 0 }
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        let Self { decoder, message, busy, sent, requests } = self;
        decoder.push(bytes, |frame| {
            let Ok(frame) = frame else { return };
            let (session, seq) = (frame.session, frame.seq);
            match message.push(&frame) {
                Ok(None) => {}
                Err(_) => replies.extend(frames(FrameType::Nack, session, seq, &[])),
                Ok(Some(whole)) => {
                    let request = Request::from_postcard(whole).expect("a request is whole or refused");
                    *requests += 1;
                    replies.extend(frames(FrameType::Ack, session, seq, &[]));
                    let (kind, outcome) = if *busy > 0 {
                        *busy -= 1;
                        let fault = Fault { retry_after_ms: Some(50), ..Fault::new(FaultCode::Busy, "full") };
                        (FrameType::Fault, postcard::to_stdvec(&fault.for_id(request.id)).unwrap())
                    } else {
                        let answer = answer(&request.id.unwrap_or_default(), u64::from(seq));
                        (FrameType::Answer, postcard::to_stdvec(&answer).unwrap())
                    };
                    replies.extend(frames(kind, session, seq, &outcome));
                    sent.push(outcome);
                }
            }
        });
        replies
    }
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

#[derive(Debug, PartialEq)]
enum End {
    Answer(Vec<u8>),
    Busy(Vec<u8>),
    TimedOut,
}

/// Runs a request to its end over a line whose next frames have these fates.
fn run(request: &RequestRef<'_>, patience: Patience, busy: u32, fates: &[Fate]) -> (End, Peer) {
    let (mut terminal, mut peer, mut now) = (terminal(), Peer::new(busy), 1_000);
    let mut fates = fates.iter().copied();
    let mut fate = || fates.next().unwrap_or(Fate::Whole);
    terminal.ask(request, patience, now).unwrap();
    for _ in 0..100_000 {
        let mut replies = Vec::new();
        let mut out = [0; MAX_FRAME];
        while let Some(bytes) = terminal.transmit(now, &mut out) {
            replies.extend(peer.hear(&carry(bytes, fate())));
        }
        for reply in &replies {
            terminal.receive(&carry(reply, fate()), now);
        }
        now = match terminal.poll(now) {
            Some(Event::Answer { answer, bytes }) => {
                assert_eq!(postcard::to_stdvec(&answer).unwrap(), bytes);
                return (End::Answer(bytes.to_vec()), peer);
            }
            Some(Event::Fault { bytes, .. }) => return (End::Busy(bytes.to_vec()), peer),
            Some(Event::TimedOut) => return (End::TimedOut, peer),
            Some(Event::Busy { again_ms, .. }) => again_ms,
            Some(other) => panic!("{other:?}"),
            None => now.max(terminal.wake_ms().unwrap()),
        };
    }
    panic!("it never ends");
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
    ) {
        let patience = Patience { tries, ..Patience::default() };
        let (end, peer) = run(&REQUEST, patience, busy, &fates);
        match end {
            End::Answer(bytes) | End::Busy(bytes) => prop_assert!(peer.sent.contains(&bytes)),
            End::TimedOut => {}
        }
        prop_assert!(peer.requests <= 2 * u32::from(tries), "sent once a try, doubled by the line at most");
    }

    #[test]
    fn a_line_that_gets_well_in_time_brings_the_answer(
        fates in proptest::collection::vec(a_fate(), 0..12), busy in 0u32..3,
    ) {
        let patience = Patience { tries: 200, give_up_ms: 1_000_000, ..Patience::default() };
        let (end, peer) = run(&REQUEST, patience, busy, &fates);
        prop_assert!(matches!(&end, End::Answer(bytes) if peer.sent.contains(bytes)), "{end:?}");
    }

    #[test]
    fn reads_may_be_split_anywhere(cuts in proptest::collection::vec(1usize..300, 0..40)) {
        let mut terminal = terminal();
        terminal.ask(&REQUEST, Patience::default(), 0).unwrap();
        let mut out = [0; MAX_FRAME];
        let mut replies = Vec::new();
        let mut peer = Peer::new(0);
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
            while terminal.transmit(now, &mut out).is_some() {
                sent += 1;
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
