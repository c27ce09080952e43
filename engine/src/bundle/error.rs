//! Why a bundle is refused, with what was got, what was expected and what to do.

use super::{ArchiveError, TrustError};

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The archive itself.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Its signatures.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// The path given.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The manifest is not one.
    #[error("manifest.json is not valid: {detail}; make the bundle again with `locus bundle create`")]
    Manifest {
        /// What is wrong with it.
        detail: String,
    },
    /// An entry where another one belongs.
    #[error(
        "archive entry {index} is {got}, expected {expected}; make the bundle again with `locus bundle create`"
    )]
    Order {
        /// 0-based number of the entry.
        index: usize,
        /// Name found, or the end of the archive.
        got: String,
        /// Name expected, or the end of the archive.
        expected: String,
    },
    /// The manifest lists a part that format 1 does not know, or one twice.
    #[error("the manifest lists {name:?} ({problem}); open it with the version that made it")]
    Part {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A part is missing from the manifest.
    #[error("the manifest does not list {name}, expected it in every bundle; make the bundle again")]
    MissingPart {
        /// The name.
        name: &'static str,
    },
    /// A size that is not the manifest's.
    #[error("part {name} has {got} bytes, expected {expected}; copy the bundle again")]
    Size {
        /// The part.
        name: String,
        /// Size in the archive.
        got: u64,
        /// Size in the manifest.
        expected: u64,
    },
    /// A content that is not the manifest's.
    #[error(
        "part {name} has SHA-256 {got}, expected {expected}; the bundle is damaged or altered: copy it again"
    )]
    Sha256 {
        /// The part.
        name: String,
        /// Digest of the bytes.
        got: String,
        /// Digest in the manifest.
        expected: String,
    },
    /// The bundle asks for a newer box.
    #[error("the bundle needs version {expected} of the box's software, this is {got}; update it first")]
    MinVersion {
        /// This version.
        got: String,
        /// The oldest one that may run the bundle.
        expected: String,
    },
    /// The tokenizer is not the one that the manifest names.
    #[error("tokenizer.json has {what} {got}, the manifest says {expected}; make the bundle again")]
    Tokenizer {
        /// What differs.
        what: &'static str,
        /// In `tokenizer.json`.
        got: String,
        /// In the manifest.
        expected: String,
    },
    /// The head of a delta is none.
    #[error("delta.json cannot be used: {detail}; make the delta again with `locus bundle delta`")]
    Delta {
        /// What is wrong with it.
        detail: String,
    },
    /// A part that a delta leaves out is nowhere to be found.
    #[error(
        "the delta leaves out part {name} (SHA-256 {sha256}) of the bundle {from}, and no bundle in the slots has it: flash the whole bundle"
    )]
    NotHere {
        /// The part.
        name: String,
        /// Its digest.
        sha256: String,
        /// Digest of the bundle that the delta was made from.
        from: String,
    },
    /// A graph that must not be given to an engine.
    #[error("{name}: {source}")]
    Graph {
        /// The part.
        name: String,
        /// What is wrong with it.
        source: crate::RewriteError,
    },
    /// Parts of a reference pack that contradict each other.
    #[error("the reference pack cannot be used: {detail}; make it again with `locus pack build`")]
    Pack {
        /// What is wrong.
        detail: String,
    },
    /// A contract that contradicts itself.
    #[error("the manifest's {what} is {got}, expected {expected}; make the bundle again")]
    Contract {
        /// The field.
        what: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: String,
    },
}
