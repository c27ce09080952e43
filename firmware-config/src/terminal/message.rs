//! Request, answer and fault, borrowed: the same bytes as those of the module `message`, without an allocation.

use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

use crate::words::{Band, FaultCode, Lane, Timing};

/// Entries of a list that are kept.
pub const MAX_TEXTS: usize = 16;

/// What to ask. Exactly one form: `sequence` with `mutation`, `variant`, or `sequence` alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RequestRef<'a> {
    /// The asker's name for this request; a repeat with the same id is the same request.
    pub id: Option<&'a str>,
    /// Wild-type bases; alone, the letters that a sequence model reads.
    pub sequence: Option<&'a str>,
    /// Change in `sequence`, such as `A123T`.
    pub mutation: Option<&'a str>,
    /// Change on the reference pack, such as `chr17-43045705-T-A`.
    pub variant: Option<&'a str>,
    /// Whom it is about: a pseudonym that only the journal keeps, encrypted.
    pub subject: Option<&'a str>,
    /// Model that must answer.
    pub model: Option<&'a str>,
    /// Genome assembly that the variant is on.
    pub assembly: Option<&'a str>,
    /// Gene, for the record.
    pub gene: Option<&'a str>,
    /// Transcript to read.
    pub transcript_id: Option<&'a str>,
    /// Which queue.
    pub lane: Option<Lane>,
    /// Time after which no answer is wanted.
    pub deadline_ms: Option<u32>,
    /// Whether an explanation is wanted.
    pub explain: Option<bool>,
    /// Transcript in the coordinates of `sequence`.
    pub transcript: Option<TranscriptRef<'a>>,
}

/// Names of what is asked: what it holds is a patient's.
impl fmt::Debug for RequestRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRef")
            .field("sequence", &self.sequence.map(str::len))
            .field("variant", &self.variant.map(str::len))
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// A transcript in the coordinates of the sent sequence, 1-based inclusive; parts may lie beyond it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TranscriptRef<'a> {
    /// `+` or `-`.
    pub strand: &'a str,
    /// First and last base of each exon.
    pub exons: &'a [(i64, i64)],
    /// First base, last base and phase of each coding part.
    pub cds: &'a [(i64, i64, u8)],
}

impl fmt::Debug for TranscriptRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscriptRef")
            .field("exons", &self.exons.len())
            .field("cds", &self.cds.len())
            .finish()
    }
}

/// What the box answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRef<'a> {
    /// The request's id.
    #[serde(borrow)]
    pub id: Option<&'a str>,
    /// Name of the box.
    pub r#box: &'a str,
    /// What was asked about, as it was asked.
    pub mutation: Option<&'a str>,
    /// 1 pathogenic, 0 benign, `None` = neither is said.
    pub predicted_label: Option<u8>,
    /// The label in words.
    pub predicted_description: &'a str,
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
    pub input_mode: &'a str,
    /// Sequence Ontology terms.
    pub consequence: Option<&'a str>,
    /// Transcript that was read.
    pub transcript_id: Option<&'a str>,
    /// Model that answered.
    pub model: ModelRef<'a>,
    /// What ran it.
    pub engine: EngineRef<'a>,
    /// Time of each stage.
    pub timing_us: Timing,
    /// Proof that the answer is kept.
    pub receipt: Option<ReceiptRef<'a>>,
    /// What the reader should know.
    pub warnings: Texts<'a>,
    /// What an answer is for.
    pub intended_use: &'a str,
    /// What a sequence model says.
    pub prediction: Option<PredictionRef<'a>>,
    /// HGVS name of the change on the transcript.
    pub hgvs_c: Option<&'a str>,
    /// HGVS name of the expected change of protein.
    pub hgvs_p: Option<&'a str>,
    /// Assembly that the change was read on.
    pub assembly: Option<&'a str>,
    /// Reference pack that the change was read on.
    pub reference: Option<ModelRef<'a>>,
    /// Strength of the prediction as evidence.
    pub evidence: Option<EvidenceRef<'a>>,
    /// Whether the input is unlike what the model was trained on.
    pub out_of_distribution: bool,
    /// Why.
    pub out_of_distribution_reason: Option<&'a str>,
    /// What each base around the change does to the score; the first of them.
    pub attribution: List<BaseAttributionRef<'a>>,
    /// What lies around the change.
    pub around: Option<AroundRef<'a>>,
}

/// A step of evidence in the sense of PP3 and BP4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceRef<'a> {
    /// `PP3` or `BP4`.
    pub criterion: &'a str,
    /// `supporting`, `moderate`, `strong` or `very strong`.
    pub strength: &'a str,
    /// The likelihood ratio that is reached.
    pub likelihood_ratio: f64,
}

/// What a base near the change contributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BaseAttributionRef<'a> {
    /// Bases from the change, in the sense that the model read.
    pub offset: i32,
    /// The base, in that sense.
    pub base: &'a str,
    /// Above 0 it speaks for pathogenic.
    pub effect: f32,
}

/// What lies around a change, in the sense that the model read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AroundRef<'a> {
    /// Gene of the transcript.
    pub gene: Option<&'a str>,
    /// `+` where sense is that of the bases as they are given.
    pub strand: &'a str,
    /// Offset of the first base.
    pub first: i32,
    /// The bases.
    pub bases: &'a str,
    /// What each of them is: the track codes of the graph contract.
    pub track: &'a [u8],
    /// Bases that are removed.
    pub removed: &'a str,
    /// Bases that come in their place.
    pub added: &'a str,
    /// Codons that are read there; the first of them.
    pub codons: List<CodonRef<'a>>,
}

/// A codon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodonRef<'a> {
    /// Where its bases are.
    pub offsets: (i32, i32, i32),
    /// Its bases.
    pub bases: &'a str,
    /// Its residue; `*` for stop.
    pub residue: &'a str,
    /// Which residue it is, counted from 1.
    pub number: u32,
    /// Its bases after a change of one base.
    pub changed_bases: Option<&'a str>,
    /// Its residue after it.
    pub changed_residue: Option<&'a str>,
}

/// What a sequence model says of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRef<'a> {
    /// The most probable label; of a model of values the name of the value.
    #[serde(borrow)]
    pub label: &'a str,
    /// Calibrated probability of each label; none of a model of values.
    pub probabilities: List<LabelProbabilityRef<'a>>,
    /// The predicted value.
    pub value: Option<f64>,
}

/// A label and its probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelProbabilityRef<'a> {
    /// The label.
    pub label: &'a str,
    /// Its calibrated probability.
    pub probability: f64,
}

/// A model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef<'a> {
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Digest of its bundle.
    pub digest: &'a str,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRef<'a> {
    /// Engine and provider that serve.
    pub provider: &'a str,
    /// Precision really in use.
    pub precision: &'a str,
}

/// Proof that a record is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRef<'a> {
    /// Journal id.
    pub journal: &'a str,
    /// Index of the record.
    pub index: u64,
    /// Hash of the record.
    pub leaf: &'a str,
    /// Head of the chain.
    pub root: &'a str,
}

/// No answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRef<'a> {
    /// The request's id, where it could be read.
    #[serde(borrow)]
    pub id: Option<&'a str>,
    /// Which fault.
    pub code: FaultCode,
    /// What was got, what was expected, what to do.
    pub message: &'a str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// When.
    pub retry_after_ms: Option<u32>,
}

/// The first [`MAX_TEXTS`] entries of a list, and how many there are. A longer list is read all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List<T> {
    kept: [T; MAX_TEXTS],
    total: usize,
}

/// A list of texts.
pub type Texts<'a> = List<&'a str>;

impl<T> List<T> {
    /// The entries that are kept.
    pub fn kept(&self) -> &[T] {
        &self.kept[..self.total.min(MAX_TEXTS)]
    }

    /// How many more there were.
    pub const fn more(&self) -> usize {
        self.total.saturating_sub(MAX_TEXTS)
    }
}

impl<T: Serialize> Serialize for List<T> {
    /// The entries that are kept.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kept().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de> + Default + Copy> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default + Copy> Visitor<'de> for Reader<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                let mut read = List { kept: [T::default(); MAX_TEXTS], total: 0 };
                while let Some(entry) = list.next_element()? {
                    if let Some(place) = read.kept.get_mut(read.total) {
                        *place = entry;
                    }
                    read.total += 1;
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(Reader(PhantomData))
    }
}
