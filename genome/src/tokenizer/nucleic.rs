//! k-mers of whole DNA and RNA sequences.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{KmerTokenizer, MASK, TokenizerError, UNK};
use crate::dna;

const DNA: &str = "A, C, G, T, U, N or another IUPAC code";
const RNA: &str = "A, C, G, U, N or another IUPAC code; T only where the tokenizer was asked to read it as U";

fn normalised(
    sequence: &str,
    expected: &'static str,
    allowed: impl Fn(char) -> bool,
) -> Result<Vec<u8>, TokenizerError> {
    // Letter by letter only where one of them is refused: then its offset is asked for.
    let bases: Vec<u8> = sequence.bytes().map(|letter| dna::NORMAL[usize::from(letter)]).collect();
    if !bases.contains(&0) && sequence.bytes().all(|letter| allowed(char::from(letter))) {
        return Ok(bases);
    }
    sequence
        .char_indices()
        .map(|(offset, got)| {
            let base = dna::normalise_base(got).filter(|_| allowed(got));
            base.ok_or(TokenizerError::Symbol { got, offset, expected })
        })
        .collect()
}

pub(super) fn encode_dna(kmers: &KmerTokenizer, sequence: &str) -> Result<Vec<u32>, TokenizerError> {
    Ok(kmers.encode(&normalised(sequence, DNA, |_| true)?))
}

/// The bases that k-mers cover, N where none of them is known.
pub(super) fn decode(kmers: &KmerTokenizer, ids: &[u32]) -> Result<String, TokenizerError> {
    let mut bases = alloc::vec![b'N'; kmers.bases(ids.len())];
    for (index, &id) in ids.iter().enumerate() {
        if id == UNK || id == MASK {
            continue;
        }
        let kmer = kmers.decode(id).ok_or(TokenizerError::Id { got: id, size: kmers.vocab_size() })?;
        let at = index * kmers.stride();
        for (base, known) in bases[at..at + kmers.k()].iter_mut().zip(kmer) {
            if *base != b'N' && *base != known {
                return Err(TokenizerError::Overlap { index });
            }
            *base = known;
        }
    }
    Ok(bases.into_iter().map(char::from).collect())
}

/// k-mers of RNA: as [`KmerTokenizer`], with U in the place of T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RnaTokenizer {
    kmers: KmerTokenizer,
    t_is_u: bool,
}

impl RnaTokenizer {
    /// `t_is_u`: a T is read as U, as databases that write RNA in DNA letters mean it; else it is refused.
    pub const fn new(kmers: KmerTokenizer, t_is_u: bool) -> Self {
        Self { kmers, t_is_u }
    }

    /// The k-mers, with T in the place of U.
    pub const fn kmers(&self) -> &KmerTokenizer {
        &self.kmers
    }

    /// Whether T is read as U.
    pub const fn reads_t_as_u(&self) -> bool {
        self.t_is_u
    }

    pub(super) fn encode(&self, sequence: &str) -> Result<Vec<u32>, TokenizerError> {
        let bases = normalised(sequence, RNA, |c| self.t_is_u || !matches!(c, 'T' | 't'))?;
        Ok(self.kmers.encode(&bases))
    }

    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        Ok(decode(&self.kmers, ids)?.replace('T', "U"))
    }

    pub(super) fn vocab(&self) -> Vec<String> {
        let name = |s: String| if s.starts_with('[') { s } else { s.replace('T', "U").to_string() };
        self.kmers.vocab().into_iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::{SPECIAL_TOKENS, Tokenizer};

    fn kmers(k: usize, stride: usize) -> KmerTokenizer {
        KmerTokenizer::new(k, stride).unwrap()
    }

    #[test]
    fn thymine_in_rna_is_refused_unless_it_was_asked_for() {
        let strict = Tokenizer::Rna(RnaTokenizer::new(kmers(3, 1), false));
        let lenient = Tokenizer::Rna(RnaTokenizer::new(kmers(3, 1), true));
        assert!(matches!(strict.encode("ACGT"), Err(TokenizerError::Symbol { got: 'T', offset: 3, .. })));
        assert_eq!(lenient.encode("acgt").unwrap(), strict.encode("ACGU").unwrap());
        assert_eq!(strict.vocab()[SPECIAL_TOKENS as usize + 63], "UUU");
    }

    #[test]
    fn a_base_that_no_known_kmer_covers_reads_as_n() {
        let dna = Tokenizer::Dna(kmers(3, 1));
        assert_eq!(dna.decode(&dna.encode("ACGTNACGT").unwrap()).unwrap(), "ACGTNACGT");
        assert_eq!(dna.decode(&dna.encode("ACRTGCA").unwrap()).unwrap(), "NNNTGCA");
        let masked = [dna.encode("ACGTA").unwrap()[0], MASK, MASK];
        assert_eq!(dna.decode(&masked).unwrap(), "ACGNN");
        assert_eq!(dna.decode(&[5, 68]), Err(TokenizerError::Overlap { index: 1 }));
        assert!(matches!(dna.decode(&[2]), Err(TokenizerError::Id { got: 2, .. })));
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(bases in "[ACGU]{0,80}", k in 3_usize..=6, whole: bool) {
            let stride = if whole { k } else { 1 };
            let rna = Tokenizer::Rna(RnaTokenizer::new(kmers(k, stride), false));
            let covered = match bases.len() {
                n if n < k => "",
                n if whole => &bases[..n - n % k],
                _ => &bases,
            };
            prop_assert_eq!(rna.decode(&rna.encode(&bases).unwrap()).unwrap(), covered);
            let dna = Tokenizer::Dna(kmers(k, stride));
            let bases = bases.replace('U', "T");
            prop_assert_eq!(dna.decode(&dna.encode(&bases).unwrap()).unwrap(), covered.replace('U', "T"));
        }
    }
}
