//! From a variant to what the model reads: the one way that workbench and box share.

mod edit;
#[cfg(test)]
mod tests;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Consequence, EncodeError, KmerTokenizer, Mutation, Strand, Transcript,
    changed::Edit,
    consequence::{self, Bases},
    dna, features,
    window::Window,
};

/// Bases on each side of a variant that features may look at. A request that carries this much gives
/// the same features as the reference pack does.
pub const CONTEXT_BASES: i64 = 300;

/// Whether the model had a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// Track, consequence and amino-acid features are given.
    Transcript,
    /// Bases alone.
    SequenceOnly,
}

impl InputMode {
    /// As written in manifests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transcript => "transcript",
            Self::SequenceOnly => "sequence_only",
        }
    }
}

impl fmt::Display for InputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Most bases that a change removes or adds to be read by a model that reads more than single-base changes.
pub const MAX_CHANGED_BASES: usize = 50;

/// What is changed, as a manifest's scope names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One base by another.
    Snv,
    /// An insertion, a deletion, or a replacement of several bases.
    Indel,
}

impl Kind {
    /// As written in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snv => "snv",
            Self::Indel => "indel",
        }
    }
}

/// Why a variant is outside of what a pair model can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeReason {
    /// An insertion, deletion or multi-base change, of a model that reads changes of one base only.
    NotSnv,
    /// More bases are changed than a window shows with what follows them.
    TooLong,
    /// Ambiguous bases next to the variant leave fewer known ones than one k-mer.
    AmbiguousBases,
    /// Fewer bases than one k-mer.
    TooShort,
    /// On the mitochondrion, which has a genetic code of its own.
    Mitochondrial,
}

impl fmt::Display for ScopeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSnv => "not a single-base variant",
            Self::TooLong => "more bases are changed than the model reads",
            Self::AmbiguousBases => "ambiguous bases next to the variant",
            Self::TooShort => "too few bases around the variant",
            Self::Mitochondrial => "a mitochondrial variant, which another genetic code reads",
        })
    }
}

/// A variant as the model reads it. Rows include [CLS] and [SEP] and are not padded.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedVariant {
    /// Token ids of the reference window.
    pub ref_ids: Vec<i64>,
    /// Token ids of the alternate window, of the same length.
    pub alt_ids: Vec<i64>,
    /// Track code per token of the reference window.
    pub track: Vec<i64>,
    /// The same of the alternate window: of a change of one base no other.
    pub alt_track: Vec<i64>,
    /// As [`features::feature_names`]; all zero in sequence-only mode.
    pub features: Vec<f32>,
    /// What is changed.
    pub kind: Kind,
    /// Whether there was a transcript.
    pub mode: InputMode,
    /// Consequence on the transcript, by all that is known.
    pub consequence: Option<Consequence>,
    /// Amino-acid change such as `G943R`.
    pub amino_acid_change: Option<String>,
    /// Transcript that was read.
    pub transcript_id: Option<String>,
    /// Its gene.
    pub gene: Option<String>,
    /// Whether the phases of its coding parts agree with their lengths; true without a transcript.
    pub phases_agree: bool,
    /// Known bases in the window.
    pub window_bases: usize,
    /// Whether the model can read it at all.
    pub in_scope: Result<(), ScopeReason>,
}

/// A stretch of bases with the 1-based position of its first one.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Upper-case IUPAC codes on the forward strand.
    pub bases: &'a [u8],
    /// Position of `bases[0]`.
    pub first: i64,
}

impl Bases for Stretch<'_> {
    fn base(&self, position: i64) -> Option<u8> {
        self.bases.get(usize::try_from(position.checked_sub(self.first)?).ok()?).copied()
    }
}

impl Stretch<'_> {
    /// The part within `flank` bases of `position`.
    pub fn within(&self, position: i64, flank: i64) -> Stretch<'_> {
        self.between(position - flank, position + flank)
    }

    /// The part from one position to another.
    fn between(&self, from: i64, to: i64) -> Stretch<'_> {
        let last = self.first + self.bases.len() as i64 - 1;
        let (from, to) = (from.clamp(self.first, last + 1), to.clamp(self.first - 1, last));
        let range = (from - self.first) as usize..(to + 1 - self.first).max(from - self.first) as usize;
        Stretch { bases: &self.bases[range], first: from }
    }
}

/// One allele to encode on a stretch of known bases.
#[derive(Clone, Copy, Debug)]
pub struct Allele<'a> {
    /// 1-based position in the stretch's coordinates.
    pub position: i64,
    /// Reference allele, upper case.
    pub ref_allele: &'a [u8],
    /// Alternate allele, upper case.
    pub alt_allele: &'a [u8],
}

/// Makes model inputs; host, engine and edge call the same one.
#[derive(Clone, Copy, Debug)]
pub struct VariantEncoder {
    tokenizer: KmerTokenizer,
    window_kmers: usize,
    indels: bool,
}

impl VariantEncoder {
    /// Windows of at most `window_kmers` k-mers, of changes of one base.
    pub const fn new(tokenizer: KmerTokenizer, window_kmers: usize) -> Self {
        Self { tokenizer, window_kmers, indels: false }
    }

    /// Makes windows of small insertions, deletions and replacements as well.
    #[must_use]
    pub const fn with_indels(self) -> Self {
        Self { indels: true, ..self }
    }

    /// The tokenizer in use.
    pub const fn tokenizer(&self) -> &KmerTokenizer {
        &self.tokenizer
    }

    /// Most k-mers in a window.
    pub const fn window_kmers(&self) -> usize {
        self.window_kmers
    }

    /// Encodes a mutation of a given wild-type sequence, with the transcript in the sequence's own
    /// coordinates where the asker has one.
    ///
    /// # Errors
    /// A sequence or mutation that cannot be read, or that disagree with each other.
    pub fn encode_sequence(
        &self,
        sequence: &str,
        mutation: &Mutation,
        transcript: Option<&Transcript>,
    ) -> Result<EncodedVariant, EncodeError> {
        let bases = dna::normalise(sequence, dna::MAX_SEQUENCE_BASES)?;
        let stretch = Stretch { bases: &bases, first: 1 };
        let position = i64::try_from(mutation.position).unwrap_or(i64::MAX);
        if stretch.base(position).is_none() {
            return Err(out_of_range(&stretch, mutation.position));
        }
        let allele =
            Allele { position, ref_allele: &[mutation.ref_allele], alt_allele: &[mutation.alt_allele] };
        self.encode(stretch, &allele, transcript, CONTEXT_BASES, Strand::Forward)
    }

    /// Encodes one allele on known bases. Features and window see `flank` bases on each side at most;
    /// `strand` is the sense without a transcript.
    ///
    /// # Errors
    /// `RefMismatch`, `RefEqualsAlt`, or `OutOfRange` where the reference allele is not wholly known.
    pub fn encode(
        &self,
        stretch: Stretch<'_>,
        allele: &Allele<'_>,
        transcript: Option<&Transcript>,
        flank: i64,
        strand: Strand,
    ) -> Result<EncodedVariant, EncodeError> {
        check_reference(&stretch, allele)?;
        let edit = Edit::of(allele.position, allele.ref_allele, allele.alt_allele);
        let near = stretch.between(edit.first.min(edit.last()) - flank, edit.first.max(edit.last()) + flank);
        let strand = transcript.map_or(strand, |t| t.strand);
        let (&[reference], &[alt]) = (edit.removed, edit.added) else {
            return Ok(self.encode_edit((&stretch, &near), &edit, transcript, strand));
        };
        let allele = Allele { position: edit.first, ref_allele: edit.removed, alt_allele: edit.added };
        let width = self.tokenizer.bases(self.window_kmers);
        let window = Window::around(&near, allele.position, width, strand, transcript);
        let alt_in_sense = if strand == Strand::Forward { alt } else { dna::complement(alt) };
        let ref_ids = window.ids(&self.tokenizer);
        let alt_ids = window.with_centre(alt_in_sense).ids(&self.tokenizer);
        let change = |t| consequence::codon_change(&stretch, t, allele.position, alt).map(|c| c.short());
        let reach = self.tokenizer.k() as i64 - 1;
        let ambiguous = |d| stretch.base(allele.position + d).is_some_and(|b| !dna::is_base(b));
        let in_scope = if transcript.is_some_and(|t| !t.standard_code()) {
            Err(ScopeReason::Mitochondrial)
        } else if ref_ids.len() > 2 && dna::is_base(reference) {
            Ok(())
        } else if (-reach..=reach).any(ambiguous) {
            Err(ScopeReason::AmbiguousBases)
        } else {
            Err(ScopeReason::TooShort)
        };
        let track = window.token_track(&self.tokenizer);
        Ok(EncodedVariant {
            alt_track: track.clone(),
            track,
            ref_ids,
            alt_ids,
            features: transcript.map_or_else(
                || alloc::vec![0.0; features::n_features()],
                |t| features::of_snv(&near, t, allele.position, reference, alt),
            ),
            consequence: transcript.map(|t| consequence::of_snv(&stretch, t, allele.position, alt)),
            amino_acid_change: transcript.and_then(change),
            window_bases: window.bases.len(),
            in_scope,
            ..described(Kind::Snv, transcript)
        })
    }
}

fn described(kind: Kind, transcript: Option<&Transcript>) -> EncodedVariant {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_string());
    EncodedVariant {
        ref_ids: Vec::new(),
        alt_ids: Vec::new(),
        track: Vec::new(),
        alt_track: Vec::new(),
        kind,
        features: alloc::vec![0.0; features::n_features()],
        mode: if transcript.is_some() { InputMode::Transcript } else { InputMode::SequenceOnly },
        consequence: None,
        amino_acid_change: None,
        transcript_id: transcript.and_then(|t| text(&t.id)),
        gene: transcript.and_then(|t| text(&t.gene)),
        phases_agree: transcript.is_none_or(Transcript::phases_agree),
        window_bases: 0,
        in_scope: Err(ScopeReason::NotSnv),
    }
}

fn out_of_range(stretch: &Stretch<'_>, position: u64) -> EncodeError {
    let ends = [stretch.first, stretch.first + stretch.bases.len() as i64 - 1];
    let [first, last] = ends.map(|p| u64::try_from(p).unwrap_or(0));
    EncodeError::OutOfRange { position, first, last }
}

fn check_reference(stretch: &Stretch<'_>, allele: &Allele<'_>) -> Result<(), EncodeError> {
    if allele.ref_allele == allele.alt_allele {
        return Err(EncodeError::RefEqualsAlt);
    }
    for (i, &stated) in allele.ref_allele.iter().enumerate() {
        let position = allele.position + i as i64;
        let shown = u64::try_from(position).unwrap_or(0);
        let held = stretch.base(position).ok_or_else(|| out_of_range(stretch, shown))?;
        if held != stated {
            let text = |b: u8| String::from(char::from(b));
            return Err(EncodeError::RefMismatch {
                got: text(stated),
                expected: text(held),
                position: shown,
            });
        }
    }
    Ok(())
}
