//! A whole sequence as a row of the model's input: what the workbench trains through and the box answers through.

use alloc::vec::Vec;

use crate::tokenizer::{Alphabet, CLS, SEP, SPECIAL_TOKENS, Tokenizer, TokenizerError};

/// Turns sequences into token ids and track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceEncoder {
    tokenizer: Tokenizer,
    frames: u32,
    /// Token ids of the wild type.
    wild_type: Option<Vec<u32>>,
}

/// A sequence as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedSequence {
    /// Token ids, [CLS] and [SEP] included.
    pub ids: Vec<i64>,
    /// Track codes, 0 for [CLS] and [SEP]. With frames 1 + offset modulo the frames; with a wild type 1 + the number
    /// of its token (without specials) where it is another one; else 0.
    pub track: Vec<i64>,
    /// Letters of the sequence; tokens of SMILES.
    pub letters: usize,
    /// Letters that may stand for several, such as N.
    pub ambiguous: usize,
}

impl SequenceEncoder {
    /// An encoder; `frames` counts the reading frames of the track, 1 or less for none.
    pub const fn new(tokenizer: Tokenizer, frames: u32) -> Self {
        Self { tokenizer, frames, wild_type: None }
    }

    /// An encoder of sequences that differ from a wild type in single letters, whose track says which they replace.
    ///
    /// # Errors
    /// A wild type that the tokenizer cannot read.
    pub fn of_wild_type(tokenizer: Tokenizer, wild_type: &str) -> Result<Self, TokenizerError> {
        Ok(Self { tokenizer, frames: 1, wild_type: Some(tokenizer.encode(wild_type)?) })
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Encodes one sequence of any length.
    ///
    /// # Errors
    /// A letter that the alphabet does not have, what is not SMILES, or another length than the wild type's.
    pub fn encode(&self, sequence: &str) -> Result<EncodedSequence, TokenizerError> {
        let tokens = self.tokenizer.encode(sequence)?;
        let frames = if self.frames > 1 { i64::from(self.frames) } else { 0 };
        if self.wild_type.as_ref().is_some_and(|w| w.len() != tokens.len()) {
            let reason = "got another length than the wild type's, expected single letters changed";
            return Err(TokenizerError::Syntax { offset: sequence.len(), reason });
        }
        let code = |offset: usize| match &self.wild_type {
            Some(wild) if wild[offset] != tokens[offset] => {
                1 + i64::from(wild[offset].saturating_sub(SPECIAL_TOKENS))
            }
            None if frames > 0 => 1 + offset as i64 % frames,
            _ => 0,
        };
        let mut ids = alloc::vec![i64::from(CLS)];
        ids.extend(tokens.iter().map(|&id| i64::from(id)));
        ids.push(i64::from(SEP));
        let mut track = alloc::vec![0];
        track.extend((0..tokens.len()).map(code));
        track.push(0);
        let alphabet = self.tokenizer.alphabet();
        Ok(EncodedSequence {
            ids,
            track,
            letters: if alphabet == Alphabet::Smiles { tokens.len() } else { sequence.chars().count() },
            ambiguous: sequence.chars().filter(|&c| is_ambiguous(alphabet, c)).count(),
        })
    }
}

/// Whether a letter may stand for several.
pub fn is_ambiguous(alphabet: Alphabet, letter: char) -> bool {
    let letter = letter.to_ascii_uppercase();
    match alphabet {
        Alphabet::Dna | Alphabet::Rna => !matches!(letter, 'A' | 'C' | 'G' | 'T' | 'U'),
        Alphabet::AminoAcid => matches!(letter, 'B' | 'Z' | 'J' | 'X'),
        Alphabet::Smiles => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KmerTokenizer;

    #[test]
    fn a_wild_type_marks_what_it_has_elsewhere() {
        let tokenizer = Tokenizer::AminoAcid(crate::tokenizer::AminoAcidTokenizer);
        let encoder = SequenceEncoder::of_wild_type(tokenizer, "MKVH").unwrap();
        let kept = tokenizer.encode("K").unwrap()[0] - SPECIAL_TOKENS;
        assert_eq!(encoder.encode("MAVH").unwrap().track, [0, 0, 1 + i64::from(kept), 0, 0, 0]);
        assert_eq!(encoder.encode("MKVH").unwrap().track, [0; 6]);
        assert!(encoder.encode("MKV").is_err());
    }

    #[test]
    fn the_track_counts_the_frames_between_the_ends() {
        let kmers = Tokenizer::Dna(KmerTokenizer::new(3, 1).unwrap());
        let encoded = SequenceEncoder::new(kmers, 3).encode("ACGTNAC").unwrap();
        assert_eq!(encoded.track, [0, 1, 2, 3, 1, 2, 0]);
        assert_eq!((encoded.ids.len(), encoded.ids[0], encoded.ids[6]), (7, 2, 3));
        assert_eq!((encoded.letters, encoded.ambiguous), (7, 1));
        assert_eq!(SequenceEncoder::new(kmers, 1).encode("ACGT").unwrap().track, [0; 4]);
        assert_eq!(SequenceEncoder::new(kmers, 1).encode("").unwrap().ids, [2, 3]);
        assert!(SequenceEncoder::new(kmers, 1).encode("AC-GT").is_err());
    }
}
