//! Tokenizers: one for every alphabet, with the same five specials first.

mod amino;
mod kmer;
mod nucleic;
mod smiles;

#[cfg(feature = "std")]
mod file;

use alloc::{string::String, vec::Vec};

pub use amino::AminoAcidTokenizer;
pub use kmer::{KmerTokenizer, reverse_complement_id};
pub use nucleic::RnaTokenizer;
use serde::{Deserialize, Serialize};
pub use smiles::SmilesTokenizer;

/// Padding.
pub const PAD: u32 = 0;
/// A token that the vocabulary has no name for, such as a k-mer with a base that is not A, C, G or T.
pub const UNK: u32 = 1;
/// First token of a row.
pub const CLS: u32 = 2;
/// Last token of a row.
pub const SEP: u32 = 3;
/// Hidden in pretraining.
pub const MASK: u32 = 4;
/// Number of special tokens before the first of the alphabet.
pub const SPECIAL_TOKENS: u32 = 5;
const SPECIAL_NAMES: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Why a tokenizer cannot be, or cannot read a text. A message never quotes more of a sequence than one character.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// k outside 3..=6.
    #[error("got k = {got}, expected 3 to 6")]
    K {
        /// The k asked for.
        got: usize,
    },
    /// Neither 1 nor k.
    #[error("got stride {got}, expected 1 or k = {k}")]
    Stride {
        /// The stride asked for.
        got: usize,
        /// The k it goes with.
        k: usize,
    },
    /// A tokenizer file that is not ours.
    #[error("tokenizer.json: {reason}")]
    File {
        /// What was got and expected.
        reason: &'static str,
    },
    /// A character that the alphabet does not have.
    #[error("got {got:?} at offset {offset}, expected {expected}")]
    Symbol {
        /// The character.
        got: char,
        /// Its offset in bytes.
        offset: usize,
        /// What may stand there.
        expected: &'static str,
    },
    /// A text that ends too early or whose parts do not go together.
    #[error("at offset {offset}: {reason}")]
    Syntax {
        /// Offset in bytes.
        offset: usize,
        /// What was got and expected.
        reason: &'static str,
    },
    /// A token id that stands for no part of a sequence.
    #[error("got token id {got}, expected a token of the alphabet below {size}")]
    Id {
        /// The id.
        got: u32,
        /// Number of token ids.
        size: usize,
    },
    /// Tokens that overlap and do not agree.
    #[error("token {index} does not go on from the one before it, expected overlapping k-mers")]
    Overlap {
        /// Index of the token.
        index: usize,
    },
}

/// What sequences are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// A, C, G, T and the IUPAC codes; U is read as T.
    Dna,
    /// A, C, G, U and the IUPAC codes.
    Rna,
    /// Twenty residues, U, O, the ambiguity codes B, Z, J, X, and `*` for a stop.
    AminoAcid,
    /// Molecules as SMILES (Weininger 1988, OpenSMILES 1.0).
    Smiles,
}

impl Alphabet {
    /// As written in recipes and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dna => "dna",
            Self::Rna => "rna",
            Self::AminoAcid => "amino_acid",
            Self::Smiles => "smiles",
        }
    }

    /// Whether sequences have a second strand that says the same.
    pub const fn is_double_stranded(self) -> bool {
        matches!(self, Self::Dna)
    }
}

/// A tokenizer of any alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// k-mers of DNA.
    Dna(KmerTokenizer),
    /// k-mers of RNA.
    Rna(RnaTokenizer),
    /// Residues.
    AminoAcid(AminoAcidTokenizer),
    /// Atoms, bonds, branches and ring closures.
    Smiles(SmilesTokenizer),
}

impl Tokenizer {
    /// What it reads.
    pub const fn alphabet(&self) -> Alphabet {
        match self {
            Self::Dna(_) => Alphabet::Dna,
            Self::Rna(_) => Alphabet::Rna,
            Self::AminoAcid(_) => Alphabet::AminoAcid,
            Self::Smiles(_) => Alphabet::Smiles,
        }
    }

    /// Token ids of a sequence, without [CLS] and [SEP]. Letters may be of either case, but in SMILES, where the case
    /// has a meaning.
    ///
    /// # Errors
    /// A character that the alphabet does not have, or what is not SMILES, with its offset.
    pub fn encode(&self, sequence: &str) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Dna(kmer) => nucleic::encode_dna(kmer, sequence),
            Self::Rna(rna) => rna.encode(sequence),
            Self::AminoAcid(amino) => amino.encode(sequence),
            Self::Smiles(smiles) => smiles.encode(sequence),
        }
    }

    /// The sequence of token ids without [CLS] and [SEP]. A base that no known k-mer covers, because they are [UNK] or
    /// [MASK], is N; at stride k the bases behind the last whole k-mer are not there.
    ///
    /// # Errors
    /// An id that stands for no part of a sequence, or k-mers that do not overlap.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        match self {
            Self::Dna(kmer) => nucleic::decode(kmer, ids),
            Self::Rna(rna) => rna.decode(ids),
            Self::AminoAcid(amino) => amino.decode(ids),
            Self::Smiles(smiles) => smiles.decode(ids),
        }
    }

    /// Name of every token id, in order.
    pub fn vocab(&self) -> Vec<String> {
        match self {
            Self::Dna(kmer) => kmer.vocab(),
            Self::Rna(rna) => rna.vocab(),
            Self::AminoAcid(amino) => amino.vocab(),
            Self::Smiles(smiles) => smiles.vocab(),
        }
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Dna(kmer) => kmer.vocab_size(),
            Self::Rna(rna) => rna.kmers().vocab_size(),
            Self::AminoAcid(_) | Self::Smiles(_) => self.vocab().len(),
        }
    }
}

/// Ids of single-letter or longer names that follow the specials.
fn named(names: &[&str]) -> Vec<String> {
    SPECIAL_NAMES.iter().chain(names).map(|&s| s.into()).collect()
}

/// The texts of ids whose names simply follow each other.
fn joined(
    ids: &[u32],
    name: impl Fn(usize) -> Option<&'static str>,
    size: usize,
) -> Result<String, TokenizerError> {
    ids.iter()
        .map(|&id| {
            let index = id.checked_sub(SPECIAL_TOKENS).map(|i| i as usize);
            index.and_then(&name).ok_or(TokenizerError::Id { got: id, size })
        })
        .collect()
}
