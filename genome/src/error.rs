use alloc::string::String;

/// Why a request could not be turned into tokens. The message says what was got, what was expected
/// and what to do; it never quotes more of a sequence than one base. A name that it quotes has at most 64
/// characters, and [`crate::Variant`] takes none that reads as a sequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// No bases at all.
    #[error("got an empty sequence, expected at least one base; send the wild-type sequence")]
    Empty,
    /// Longer than is taken.
    #[error("got {got} bases, expected at most {max}; send a shorter stretch around the mutation")]
    TooLong {
        /// Length that came.
        got: usize,
        /// Longest that is taken.
        max: usize,
    },
    /// A character that is no IUPAC nucleotide code.
    #[error(
        "got {got:?} at position {position} of the sequence, expected A, C, G, T, U, N or another IUPAC code; correct that character"
    )]
    BadBase {
        /// The character.
        got: char,
        /// Its 1-based position.
        position: u64,
    },
    /// Not a mutation like `A123T`.
    #[error(
        "got a mutation of {len} characters that cannot be read ({reason}), expected reference base, 1-based position, alternate base, such as A123T"
    )]
    BadMutation {
        /// Length of the text.
        len: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a variant like `chr17-43045705-T-A`.
    #[error(
        "got a variant that cannot be read ({reason}), expected contig-position-ref-alt, such as chr17-43045705-T-A"
    )]
    BadVariant {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not an HGVS name that is read, or not one of this transcript.
    #[error(
        "got an HGVS name that cannot be used ({reason}), expected a small change such as NM_007294.4:c.5096G>A, BRCA1:c.4675+1G>A or NC_000017.11:g.43045705T>A"
    )]
    BadHgvs {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A chromosome of another assembly than the pack's.
    #[error(
        "got a chromosome of {got}, expected one of {expected}, which the reference pack holds; lift the variant over first"
    )]
    OtherAssembly {
        /// The assembly that the name's version says.
        got: &'static str,
        /// The pack's.
        expected: String,
    },
    /// The reference pack has no transcript, gene or contig of the name.
    #[error(
        "got {name:?}, which is no transcript, gene or contig of the reference pack; expected one of its names, such as {example:?}"
    )]
    UnknownName {
        /// What stands before the colon.
        name: String,
        /// One that is there.
        example: String,
    },
    /// Beyond the sequence, or beyond the region of the reference.
    #[error("got position {position}, expected {first} to {last}; positions count from 1")]
    OutOfRange {
        /// The position asked for.
        position: u64,
        /// First position there is.
        first: u64,
        /// Last position there is.
        last: u64,
    },
    /// The stated reference allele is not what the sequence holds.
    #[error(
        "got reference allele {got} at position {position}, but the sequence holds {expected} there; check assembly, strand and position"
    )]
    RefMismatch {
        /// What the asker stated.
        got: String,
        /// What the sequence holds.
        expected: String,
        /// 1-based position.
        position: u64,
    },
    /// Reference and alternate are the same.
    #[error(
        "got the same reference and alternate allele, expected two different ones; nothing changes, so there is nothing to predict"
    )]
    RefEqualsAlt,
    /// The reference pack does not know this contig.
    #[error(
        "got contig {contig:?}, which the reference pack does not hold; expected one of its contigs, such as {example:?}"
    )]
    UnknownContig {
        /// The contig asked for.
        contig: String,
        /// One that is there.
        example: String,
    },
    /// The pack has the contig but not this position.
    #[error(
        "got {contig}:{position}, which lies outside the reference pack's regions of that contig; expected a position that it covers, or send the sequence itself"
    )]
    NotCovered {
        /// Contig.
        contig: String,
        /// 1-based position.
        position: u64,
    },
    /// The reference pack's own file cannot be read.
    #[cfg(feature = "std")]
    #[error(
        "the reference pack's bases of {contig:?} cannot be read; check the FASTA file and make its index again"
    )]
    Unreadable {
        /// The contig.
        contig: String,
        /// The cause.
        source: ReadFailure,
    },
    /// No such transcript over the position.
    #[error(
        "got transcript {transcript:?}, which does not lie on the same region as the variant, expected one that does, such as {example:?}; leave transcript_id out to take the first"
    )]
    UnknownTranscript {
        /// The transcript asked for.
        transcript: String,
        /// One that is there.
        example: String,
    },
    /// The transcript's own parts contradict each other.
    #[error(
        "got a transcript that contradicts itself: {reason}; expected exons and CDS parts as in GFF3, 1-based inclusive, each CDS part inside an exon"
    )]
    BadTranscript {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl EncodeError {
    /// The stable fault code of the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::BadBase { .. } => "bad_sequence",
            Self::BadMutation { .. } | Self::BadVariant { .. } | Self::BadHgvs { .. } => "bad_mutation",
            Self::OtherAssembly { .. } => "wrong_assembly",
            Self::UnknownName { .. } => "unknown_transcript",
            Self::OutOfRange { .. } | Self::NotCovered { .. } => "out_of_range",
            Self::RefMismatch { .. } => "ref_mismatch",
            Self::RefEqualsAlt => "ref_equals_alt",
            Self::UnknownContig { .. } => "unknown_contig",
            #[cfg(feature = "std")]
            Self::Unreadable { .. } => "reference_failed",
            Self::UnknownTranscript { .. } => "unknown_transcript",
            Self::BadTranscript { .. } => "bad_transcript",
        }
    }
}

/// Why a file could not be read.
#[cfg(feature = "std")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system, or a truncated archive.
    #[error("cannot read {path}: {source}; check that the file is there and whole")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that does not go with the others.
    #[error("{path}: {reason}")]
    Beside {
        /// The file.
        path: std::path::PathBuf,
        /// What was got and expected, and what to do.
        reason: String,
    },
    /// A line that is not what the format wants.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: std::path::PathBuf,
        /// 1-based line, or record where the format has no lines.
        line: u64,
        /// What was got and expected.
        reason: String,
    },
    /// Two records of one name.
    #[error("{path}: the record name {name:?} occurs twice, expected unique names; rename or remove one")]
    Duplicate {
        /// The file.
        path: std::path::PathBuf,
        /// The name.
        name: String,
    },
    /// Nothing in it.
    #[error("{path}: got no records, expected at least one {expected}")]
    Nothing {
        /// The file.
        path: std::path::PathBuf,
        /// What the file should hold.
        expected: &'static str,
    },
}

/// A [`ReadError`] as the cause of an [`EncodeError`], shared so that it can be cloned. Two are equal where they are
/// one.
#[cfg(feature = "std")]
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReadFailure(std::sync::Arc<ReadError>);

#[cfg(feature = "std")]
impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        Self(std::sync::Arc::new(error))
    }
}

#[cfg(feature = "std")]
impl PartialEq for ReadFailure {
    fn eq(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(feature = "std")]
impl Eq for ReadFailure {}
