//! Sequences as data: alphabets, positions, variants, transcripts and their consequences, windows
//! and tokenizers.
//!
//! What the workbench and the box must do identically lives here, once. The core is `no_std` with
//! `alloc`; the feature `std` adds the file readers and the reference pack.
//!
//! Coordinates: a *position* is 1-based, an *offset* is 0-based in a buffer, an *interval* is
//! half-open and 0-based. They are converted in this crate only.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod amino;
pub mod assembly;
pub mod changed;
pub mod codon;
pub mod consequence;
pub mod dna;
pub mod encode;
mod error;
pub mod features;
pub mod hgvs;
pub mod indel;
pub mod position;
pub mod sequence;
pub mod smiles;
pub mod surroundings;
pub mod tokenizer;
pub mod transcript;
pub mod variant;
pub mod window;

#[cfg(feature = "std")]
pub mod bed;
#[cfg(feature = "std")]
pub mod fasta;
#[cfg(feature = "std")]
pub mod gff;
#[cfg(feature = "std")]
mod named;
#[cfg(feature = "std")]
pub mod packed;
#[cfg(feature = "std")]
pub mod reference;
#[cfg(feature = "std")]
pub mod text;
#[cfg(feature = "std")]
pub mod vcf;

pub use consequence::Consequence;
pub use encode::{
    CONTEXT_BASES, EncodedVariant, InputMode, Kind, MAX_CHANGED_BASES, ScopeReason, VariantEncoder,
};
pub use error::EncodeError;
pub use features::feature_names;
pub use position::{Interval, Position};
pub use sequence::{EncodedSequence, SequenceEncoder};
pub use surroundings::Surroundings;
pub use tokenizer::{Alphabet, KmerTokenizer, Tokenizer, TokenizerError};
pub use transcript::{CdsPart, Exon, Strand, Transcript};
pub use variant::{Mutation, Variant};

#[cfg(feature = "std")]
pub use error::{ReadError, ReadFailure};
#[cfg(feature = "std")]
pub use named::Found;
#[cfg(feature = "std")]
pub use reference::ReferencePack;
