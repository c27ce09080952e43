//! What terminals ask and are answered.

use std::sync::OnceLock;

use locus_edge::{
    control::Order,
    names,
    pipeline::{Genome, encode},
};
use locus_firmware_config::{
    message::{Answer, Fault, MAX_MESSAGE_BYTES, Outcome, Request},
    terminal::{AnswerRef, FaultRef, RequestRef},
};
use locus_genome::{KmerTokenizer, VariantEncoder};

use super::genome::{FASTA, GFF};

/// Most bases in a row that a message may quote: an allele or a codon, not a sequence.
const QUOTED: usize = 12;

/// A fault goes into answers, logs and metrics: it must quote no sequence.
pub(super) fn quotes_no_sequence(fault: &Fault) {
    let code = |byte: u8| b"ACGTURYSWKMBDHVN".contains(&byte.to_ascii_uppercase());
    for text in [Some(&fault.message), fault.id.as_ref()].into_iter().flatten() {
        let longest = text.as_bytes().split(|byte| !code(*byte)).map(<[u8]>::len).max();
        assert!(longest.unwrap_or(0) <= QUOTED, "a fault quotes {longest:?} bases in a row");
        assert!(text.len() < 2_000, "a fault of {} bytes", text.len());
    }
}

/// A request that was taken is taken again in either form, as the same; one that was refused was refused without
/// quoting it.
fn taken(request: Result<Request, Fault>) {
    match request {
        Err(fault) => quotes_no_sequence(&fault),
        Ok(request) => {
            let binary = postcard::to_allocvec(&request).expect("it serialises");
            let borrowed = postcard::to_allocvec(&RequestRef::from(&request)).expect("it serialises");
            assert_eq!(binary, borrowed, "both ends write the same bytes");
            if binary.len() <= MAX_MESSAGE_BYTES {
                assert!(Request::from_postcard(&binary).as_ref() == Ok(&request), "the same as postcard");
            }
            let text = serde_json::to_vec(&request).expect("it serialises");
            if text.len() <= MAX_MESSAGE_BYTES {
                assert!(Request::from_json(&text) == Ok(request), "the same as JSON");
            }
        }
    }
}

pub(super) fn request_json(bytes: &[u8]) {
    taken(Request::from_json(bytes));
}

pub(super) fn request_postcard(bytes: &[u8]) {
    taken(Request::from_postcard(bytes));
}

/// What was read is written and read again as the same.
pub(super) fn outcome_json(bytes: &[u8]) {
    if let Ok(outcome) = Outcome::from_json(bytes) {
        let again = Outcome::from_json(&outcome.to_json());
        assert_eq!(again.expect("what was written is read"), outcome);
    }
}

/// The terminal without an allocator and the one with it read the same.
pub(super) fn outcome_postcard(bytes: &[u8]) {
    let fault: Result<Fault, _> = postcard::from_bytes(bytes);
    assert_eq!(fault.is_ok(), postcard::from_bytes::<FaultRef<'_>>(bytes).is_ok(), "faults");
    let answer: Result<Answer, _> = postcard::from_bytes(bytes);
    assert_eq!(answer.is_ok(), postcard::from_bytes::<AnswerRef<'_>>(bytes).is_ok(), "answers");
    if let Ok(answer) = answer {
        let again = postcard::to_allocvec(&answer).expect("it serialises");
        let read: Answer = postcard::from_bytes(&again).expect("what was written is read");
        assert_eq!(postcard::to_allocvec(&read).expect("it serialises"), again);
    }
}

fn reader() -> &'static (VariantEncoder, Genome) {
    static READER: OnceLock<(VariantEncoder, Genome)> = OnceLock::new();
    READER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (fasta, gff) = (folder.path().join("a.fa"), folder.path().join("a.gff3"));
        std::fs::write(&fasta, FASTA).expect("a file");
        std::fs::write(&gff, GFF).expect("a file");
        let tokenizer = KmerTokenizer::new(3, 1).expect("a tokenizer");
        (VariantEncoder::new(tokenizer, 127), Genome::open(&fasta, &gff, "GRCh38").expect("a genome"))
    })
}

/// A request that is read becomes a model's input of equal lengths and finite numbers, or a fault that quotes nothing.
pub(super) fn encoded(bytes: &[u8]) {
    let (encoder, genome) = reader();
    let Ok(request) = Request::from_json(bytes) else { return };
    for genome in [Some(genome), None] {
        match encode(encoder, genome, &request) {
            Err(fault) => quotes_no_sequence(&fault),
            Ok(variant) => {
                assert_eq!(variant.ref_ids.len(), variant.alt_ids.len());
                assert_eq!(variant.ref_ids.len(), variant.track.len());
                assert!(variant.features.iter().all(|feature| feature.is_finite()));
                assert!(variant.ref_ids.len() <= encoder.window_kmers() + 2);
            }
        }
    }
}

/// Topics and orders of the control socket.
pub(super) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(terminal) = names::terminal_of("clinic", text) {
        assert_eq!(names::request_topic("clinic", terminal), text);
        let own = names::answer_topic("clinic", terminal, None).expect("its own");
        assert_eq!(names::answer_topic("clinic", terminal, Some(&own)).as_ref(), Ok(&own));
    }
    if let Ok(topic) = names::answer_topic("clinic", "bed-3", Some(text)) {
        assert!(topic.starts_with("locus/v1/clinic/response/bed-3"));
        assert!(!topic.contains(['#', '+']));
    }
    if let Ok(order) = serde_json::from_str::<Order>(text) {
        let again = serde_json::to_string(&order).expect("it serialises");
        assert!(serde_json::from_str::<Order>(&again).is_ok());
    }
}
