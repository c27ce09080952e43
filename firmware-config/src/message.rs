//! Request, answer and fault: the same on MQTT, serial and HTTP.
//!
//! As JSON on MQTT and HTTP, as postcard on serial; postcard does not describe itself, so every field is
//! always written (absent ones as null).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::terminal::{RequestRef, TranscriptRef};
pub use crate::words::{Band, FaultCode, Lane, Timing};

/// Largest message on any transport, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 60_000;
/// Longest id, subject or name, in characters.
pub const MAX_NAME: usize = 64;
/// What an answer is for.
pub const INTENDED_USE: &str = "Research use and decision support only: a computational prediction, to be read by a qualified person beside other evidence; not a diagnosis.";

/// What a terminal asks. Exactly one form: `sequence` with `mutation`, `variant`, or `sequence` alone.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The asker's name for this request; a repeat with the same id is the same request.
    pub id: Option<String>,
    /// Wild-type bases; alone, the letters that a sequence model reads.
    pub sequence: Option<String>,
    /// Change in `sequence`, such as `A123T`.
    pub mutation: Option<String>,
    /// Change on the reference pack, such as `chr17-43045705-T-A` or `BRCA1:c.5096G>A`.
    pub variant: Option<String>,
    /// Whom it is about: a pseudonym that only the journal keeps, encrypted.
    pub subject: Option<String>,
    /// Model that must answer: its name, `name@version` or digest. Without one the form of the request chooses.
    pub model: Option<String>,
    /// Genome assembly that the variant is on.
    pub assembly: Option<String>,
    /// Gene; of a variant such as `c.5096G>A` the one whose first transcript is meant.
    pub gene: Option<String>,
    /// Transcript to read.
    pub transcript_id: Option<String>,
    /// Which queue.
    pub lane: Option<Lane>,
    /// Time after which no answer is wanted.
    pub deadline_ms: Option<u32>,
    /// Whether an explanation is wanted.
    pub explain: Option<bool>,
    /// Transcript in the coordinates of `sequence`.
    pub transcript: Option<TranscriptSpec>,
}

/// Lengths only: what it holds is a patient's.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Request");
        for (key, value) in [
            ("id", &self.id),
            ("sequence", &self.sequence),
            ("mutation", &self.mutation),
            ("variant", &self.variant),
            ("subject", &self.subject),
            ("model", &self.model),
            ("assembly", &self.assembly),
            ("gene", &self.gene),
            ("transcript_id", &self.transcript_id),
        ] {
            shown.field(key, &value.as_ref().map(String::len));
        }
        shown
            .field("lane", &self.lane)
            .field("deadline_ms", &self.deadline_ms)
            .field("explain", &self.explain)
            .field("transcript", &self.transcript.as_ref().map(|t| (t.exons.len(), t.cds.len())))
            .finish()
    }
}

impl<'a> From<&'a Request> for RequestRef<'a> {
    fn from(request: &'a Request) -> Self {
        let transcript = request.transcript.as_ref();
        Self {
            id: request.id.as_deref(),
            sequence: request.sequence.as_deref(),
            mutation: request.mutation.as_deref(),
            variant: request.variant.as_deref(),
            subject: request.subject.as_deref(),
            model: request.model.as_deref(),
            assembly: request.assembly.as_deref(),
            gene: request.gene.as_deref(),
            transcript_id: request.transcript_id.as_deref(),
            lane: request.lane,
            deadline_ms: request.deadline_ms,
            explain: request.explain,
            transcript: transcript.map(|t| TranscriptRef { strand: &t.strand, exons: &t.exons, cds: &t.cds }),
        }
    }
}

/// A transcript in the coordinates of the sent sequence, 1-based inclusive; parts may lie beyond it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptSpec {
    /// `+` or `-`.
    pub strand: String,
    /// First and last base of each exon.
    pub exons: Vec<(i64, i64)>,
    /// First base, last base and phase of each coding part.
    pub cds: Vec<(i64, i64, u8)>,
}

/// What the box answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id.
    pub id: Option<String>,
    /// Name of the box.
    pub r#box: String,
    /// What was asked about, as it was asked.
    pub mutation: Option<String>,
    /// 1 pathogenic, 0 benign, null = neither is said.
    pub predicted_label: Option<u8>,
    /// The label in words.
    pub predicted_description: String,
    /// Calibrated probability under `prior`.
    pub pathogenic_probability: Option<f64>,
    /// One less that.
    pub benign_probability: Option<f64>,
    /// Share of pathogenic that the probability assumes.
    pub prior: Option<f64>,
    /// Where the probability lies.
    pub band: Band,
    /// Whether the box declined to say.
    pub abstained: bool,
    /// `transcript` or `sequence_only`.
    pub input_mode: String,
    /// Sequence Ontology terms.
    pub consequence: Option<String>,
    /// Transcript that was read.
    pub transcript_id: Option<String>,
    /// Model that answered.
    pub model: ModelInfo,
    /// What ran it.
    pub engine: EngineInfo,
    /// Time of each stage.
    pub timing_us: Timing,
    /// Proof that the answer is kept.
    pub receipt: Option<ReceiptInfo>,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// What an answer is for.
    pub intended_use: String,
    /// What a sequence model says; null in an answer about a variant, and where it abstains. At the end, so that a
    /// terminal of an earlier version reads what comes before it.
    #[serde(default)]
    pub prediction: Option<Prediction>,
    /// HGVS name of the change on the transcript, such as `LRG_292t1:c.5096G>A`.
    #[serde(default)]
    pub hgvs_c: Option<String>,
    /// HGVS name of the expected change of protein, such as `p.(Arg1699Gln)`.
    #[serde(default)]
    pub hgvs_p: Option<String>,
    /// Assembly that the change was read on; null where the asker sent the sequence.
    #[serde(default)]
    pub assembly: Option<String>,
    /// Reference pack that the change was read on.
    #[serde(default)]
    pub reference: Option<ModelInfo>,
    /// Strength of the prediction as evidence, where the model's manifest has what that takes.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// Whether the input is unlike what the model was trained on, as far as the input and the manifest show it.
    #[serde(default)]
    pub out_of_distribution: bool,
    /// Why.
    #[serde(default)]
    pub out_of_distribution_reason: Option<String>,
    /// What each base around the change does to the score, where the request asked to `explain`.
    #[serde(default)]
    pub attribution: Vec<BaseAttribution>,
    /// What lies around the change, where the request asked to `explain`.
    #[serde(default)]
    pub around: Option<Around>,
}

/// A step of evidence in the sense of PP3 and BP4, by local likelihood ratios on validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `PP3` or `BP4`.
    pub criterion: String,
    /// `supporting`, `moderate`, `strong` or `very strong`.
    pub strength: String,
    /// The likelihood ratio that is reached with 95 % confidence over genes.
    pub likelihood_ratio: f64,
}

/// What a base near the change contributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseAttribution {
    /// Bases from the change, in the sense that the model read.
    pub offset: i32,
    /// The base, in that sense.
    pub base: String,
    /// Logit of the answer less the mean logit with this base replaced by each other one: above 0 it speaks for
    /// pathogenic.
    pub effect: f32,
}

/// What lies around a change, in the sense that the model read. Offsets count from the first base that is removed, or that
/// follows what is inserted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Gene of the transcript.
    pub gene: Option<String>,
    /// `+` where sense is that of the bases as they are given, `-` where it is the other one.
    pub strand: String,
    /// Offset of the first base.
    pub first: i32,
    /// The bases.
    pub bases: String,
    /// What each of them is: the track codes of the graph contract.
    pub track: Vec<u8>,
    /// Bases that are removed.
    pub removed: String,
    /// Bases that come in their place.
    pub added: String,
    /// Codons that are read there.
    pub codons: Vec<CodonInfo>,
}

/// A codon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodonInfo {
    /// Where its bases are; an intron may lie between them.
    pub offsets: (i32, i32, i32),
    /// Its bases.
    pub bases: String,
    /// Its residue; `*` for stop.
    pub residue: String,
    /// Which residue it is, counted from 1.
    pub number: u32,
    /// Its bases after a change of one base.
    pub changed_bases: Option<String>,
    /// Its residue after it.
    pub changed_residue: Option<String>,
}

/// What a sequence model says of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The most probable label; of a model of values the name of the value.
    pub label: String,
    /// Calibrated probability of each label; none of a model of values.
    pub probabilities: Vec<LabelProbability>,
    /// The predicted value.
    pub value: Option<f64>,
}

/// A label and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelProbability {
    /// The label.
    pub label: String,
    /// Its calibrated probability.
    pub probability: f64,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Digest of its bundle.
    pub digest: String,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Engine and provider that serve: the provider started and is asked first.
    pub provider: String,
    /// Precision really in use.
    pub precision: String,
}

/// Proof that a record is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptInfo {
    /// Journal id.
    pub journal: String,
    /// Index of the record.
    pub index: u64,
    /// Hash of the record.
    pub leaf: String,
    /// Head of the chain.
    pub root: String,
}

/// No answer, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The request's id, where it could be read.
    pub id: Option<String>,
    /// Which fault.
    pub code: FaultCode,
    /// What was got, what was expected, what to do.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// When.
    pub retry_after_ms: Option<u32>,
}

impl Fault {
    /// A fault of a code.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self { id: None, code, message: message.into(), retryable: code.retryable(), retry_after_ms: None }
    }

    /// The same for a request's id.
    #[must_use]
    pub fn for_id(mut self, id: Option<String>) -> Self {
        self.id = id;
        self
    }
}

/// Answer or fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An answer.
    Answer(Box<Answer>),
    /// A fault.
    Fault(Fault),
}

impl Outcome {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Self::Answer(a) => serde_json::to_vec(a),
            Self::Fault(f) => serde_json::to_vec(f),
        };
        json.expect("messages hold finite numbers and texts only")
    }

    /// Reads JSON: a fault has a `code`.
    ///
    /// # Errors
    /// Neither an answer nor a fault.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if let Ok(fault) = serde_json::from_slice::<Fault>(bytes) {
            return Ok(Self::Fault(fault));
        }
        serde_json::from_slice(bytes).map(|a| Self::Answer(Box::new(a)))
    }
}

impl Request {
    /// Reads and checks JSON.
    ///
    /// # Errors
    /// A [`Fault`] that says what was got and expected.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Fault> {
        check_size(bytes.len())?;
        // A list would be read as the fields in their order, which nobody means.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
            return Err(Fault::new(
                FaultCode::BadRequest,
                "got a JSON list, expected one JSON object with the keys of the protocol; see docs/operating.md",
            ));
        }
        let request: Self = serde_json::from_slice(bytes).map_err(|e| {
            // serde's own text may quote the input, which may be a patient's sequence.
            let place = format!("line {}, column {}", e.line(), e.column());
            let text = e.to_string();
            let what = if text.starts_with("unknown field") { unknown_field(&text) } else { format!("JSON that is no request ({:?} error at {place})", e.classify()) };
            Fault::new(FaultCode::BadRequest, format!("got {what}, expected one JSON object with the keys of the protocol; see docs/operating.md"))
        })?;
        request.check()
    }

    /// Reads and checks postcard.
    ///
    /// # Errors
    /// A [`Fault`] that says what was got and expected.
    pub fn from_postcard(bytes: &[u8]) -> Result<Self, Fault> {
        check_size(bytes.len())?;
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((request, [])) => request.check(),
            _ => Err(Fault::new(
                FaultCode::BadRequest,
                format!(
                    "got {} bytes that are no postcard request, expected the layout of protocol version 1",
                    bytes.len()
                ),
            )),
        }
    }

    /// Checks what was put together from another protocol's fields.
    ///
    /// # Errors
    /// A [`Fault`] that says what was got and expected.
    pub fn check(self) -> Result<Self, Fault> {
        let id = self.id.clone().filter(|id| name_is_good(id));
        let bad = |message: String| Err(Fault::new(FaultCode::BadRequest, message).for_id(id.clone()));
        for (key, value) in [
            ("id", &self.id),
            ("subject", &self.subject),
            ("model", &self.model),
            ("assembly", &self.assembly),
            ("gene", &self.gene),
            ("transcript_id", &self.transcript_id),
        ] {
            if value.as_ref().is_some_and(|v| !name_is_good(v)) {
                return bad(format!(
                    "got a {key} that is empty, longer than {MAX_NAME} characters, not printable ASCII or a sequence of bases, expected 1 to {MAX_NAME} printable characters"
                ));
            }
        }
        match (&self.sequence, &self.mutation, &self.variant) {
            (Some(_), Some(_), None) => {}
            (None, None, Some(_)) if self.transcript.is_some() => {
                return bad("got a transcript with a variant, expected transcript_id there; a transcript goes with a sequence".into());
            }
            (None, None, Some(_)) => {}
            (Some(_), None, None) if self.transcript.is_some() => {
                return bad("got a transcript with a sequence alone, expected a mutation with both".into());
            }
            (Some(_), None, None) => {}
            _ => {
                return bad(
                    "got no form or several, expected either sequence with mutation, or variant, or sequence alone"
                        .into(),
                );
            }
        }
        if let Some(t) = &self.transcript
            && t.strand != "+"
            && t.strand != "-"
        {
            return bad("got a strand that is neither + nor -; expected one of them".into());
        }
        Ok(self)
    }
}

fn check_size(len: usize) -> Result<(), Fault> {
    if len > MAX_MESSAGE_BYTES {
        return Err(Fault::new(
            FaultCode::TooLarge,
            format!(
                "got {len} bytes, expected at most {MAX_MESSAGE_BYTES}; send a shorter sequence around the mutation"
            ),
        ));
    }
    Ok(())
}

/// Names a key that is not ours, if it looks like a key.
fn unknown_field(text: &str) -> String {
    let name = text.split('`').nth(1).unwrap_or_default();
    if name.len() <= 24 && !holds_bases(name) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        format!("the unknown key {name:?}")
    } else {
        "an unknown key".into()
    }
}

fn name_is_good(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| (0x20..0x7f).contains(&b))
        && !holds_bases(name)
}

/// Whether a name holds over 12 letters in a row that are all IUPAC codes of bases: faults and logs quote names, and
/// must not quote a sequence that stands where a name should.
fn holds_bases(name: &str) -> bool {
    let code = |b: u8| b"ACGTURYSWKMBDHVN".contains(&b.to_ascii_uppercase());
    name.as_bytes().split(|&b| !code(b)).any(|run| run.len() > 12)
}

#[cfg(test)]
mod tests;
