//! A terminal and a box without I/O, and the line between them.

use locus_firmware_config::{
    line::{Heard, Line},
    message::{
        Answer, Around, Band, BaseAttribution, CodonInfo, EngineInfo, Evidence, Fault, FaultCode,
        LabelProbability, Lane, ModelInfo, Prediction, ReceiptInfo, Request, Timing,
    },
    terminal::{ANSWER_BYTES, Event, Patience, REQUEST_BYTES, RequestRef, Terminal},
    wire::{CHALLENGE_BYTES, FrameType, Key, MAX_FRAME},
};

pub(crate) type Small = Terminal<[u8; REQUEST_BYTES], [u8; ANSWER_BYTES]>;

pub(crate) fn terminal() -> Small {
    Terminal::new(7, [0; REQUEST_BYTES], [0; ANSWER_BYTES])
}

pub(crate) const REQUEST: RequestRef<'static> = RequestRef {
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
pub(crate) fn answer(id: &str, index: u64) -> Answer {
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
        around: Some(Around {
            gene: Some("BRCA1".into()),
            strand: "-".into(),
            first: -1,
            bases: "ACGT".into(),
            track: vec![6, 7, 8, 2],
            removed: "C".into(),
            added: "T".into(),
            codons: vec![CodonInfo {
                offsets: (-1, 0, 1),
                bases: "ACG".into(),
                residue: "T".into(),
                number: 1_699,
                changed_bases: Some("ATG".into()),
                changed_residue: Some("M".into()),
            }],
        }),
    }
}

/// A box: its own end of the line, and outcomes at once. One that forgot everything begins again with other answers:
/// two must never be mixed.
pub(crate) struct Peer {
    line: Line,
    key: Option<Key>,
    busy: u32,
    /// Whole outcomes that were sent.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) requests: u32,
    drawn: u8,
}

impl Peer {
    pub(crate) fn new(busy: u32, key: Option<Key>) -> Self {
        Self { line: Line::new(key.clone(), "1"), key, busy, sent: Vec::new(), requests: 0, drawn: 0 }
    }

    fn restart(&mut self) {
        self.line = Line::new(self.key.clone(), "1");
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut out, mut requests, drawn) = (Vec::new(), Vec::new(), &mut self.drawn);
        let mut challenge = || {
            *drawn = drawn.wrapping_add(1);
            Some([*drawn; CHALLENGE_BYTES])
        };
        self.line.receive(bytes, &mut challenge, &mut out, &mut |heard| {
            if let Heard::Request { ticket, message } = heard {
                requests.push((ticket, Request::from_postcard(message).expect("it is whole or refused")));
            }
        });
        for (ticket, request) in requests {
            self.requests += 1;
            let (kind, outcome) = if self.busy > 0 {
                self.busy -= 1;
                let fault = Fault { retry_after_ms: Some(50), ..Fault::new(FaultCode::Busy, "full") };
                (FrameType::Fault, postcard::to_stdvec(&fault.for_id(request.id)).unwrap())
            } else {
                let answer = answer(&request.id.unwrap_or_default(), u64::from(self.requests));
                (FrameType::Answer, postcard::to_stdvec(&answer).unwrap())
            };
            self.line.outcome(ticket, kind, outcome.clone(), &mut out).unwrap();
            self.sent.push(outcome);
        }
        out.split_inclusive(|b| *b == 0).map(<[u8]>::to_vec).collect()
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Answer(Vec<u8>),
    Busy(Vec<u8>),
    TimedOut,
}

/// Runs a request to its end over a line that carries frames as it is told; the box starts anew after so many frames.
pub(crate) fn run_over(
    request: &RequestRef<'_>,
    patience: Patience,
    mut peer: Peer,
    mut carry: impl FnMut(&[u8]) -> Vec<u8>,
    restart: usize,
) -> (End, Peer) {
    let (terminal, mut now, mut heard) = (terminal(), 1_000, 0);
    let mut terminal = match &peer.key {
        Some(key) => terminal.with_key(key.clone()),
        None => terminal,
    };
    terminal.ask(request, patience, now).unwrap();
    for _ in 0..100_000 {
        let mut replies = Vec::new();
        let mut out = [0; MAX_FRAME];
        while let Some(bytes) = terminal.transmit(now, &mut out) {
            heard += 1;
            if heard == restart {
                peer.restart();
            }
            replies.extend(peer.hear(&carry(bytes)));
        }
        for reply in &replies {
            terminal.receive(&carry(reply), now);
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
