//! k-mer tokenizer, as DNABERT (Ji et al. 2021) cuts DNA: overlapping words of k bases.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use super::{SPECIAL_NAMES, SPECIAL_TOKENS, TokenizerError, UNK};
use crate::dna;

/// k-mers that are named together.
const TOGETHER: usize = 128;
/// Longest k.
const LONGEST: usize = 6;

/// Cuts bases into k-mers and names each by its token id: specials first, then all k-mers over ACGT in
/// lexicographic order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KmerTokenizer {
    k: usize,
    stride: usize,
}

impl KmerTokenizer {
    /// # Errors
    /// k outside 3..=6, or a stride that is neither 1 nor k.
    pub const fn new(k: usize, stride: usize) -> Result<Self, TokenizerError> {
        if k < 3 || k > LONGEST {
            return Err(TokenizerError::K { got: k });
        }
        if stride != 1 && stride != k {
            return Err(TokenizerError::Stride { got: stride, k });
        }
        Ok(Self { k, stride })
    }

    /// Bases per token.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Bases from one token to the next.
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// Number of token ids.
    pub const fn vocab_size(&self) -> usize {
        SPECIAL_TOKENS as usize + 4usize.pow(self.k as u32)
    }

    /// Bases that `kmers` tokens cover.
    pub const fn bases(&self, kmers: usize) -> usize {
        if kmers == 0 { 0 } else { (kmers - 1) * self.stride + self.k }
    }

    /// Token id of one k-mer, [`UNK`] where a base is not A, C, G or T.
    pub fn kmer_id(&self, kmer: &[u8]) -> u32 {
        let mut code = 0;
        for &b in kmer {
            code = code * 4
                + match b {
                    b'A' => 0,
                    b'C' => 1,
                    b'G' => 2,
                    b'T' => 3,
                    _ => return UNK,
                };
        }
        SPECIAL_TOKENS + code
    }

    /// Token ids of the k-mers of `bases`, without specials.
    pub fn encode(&self, bases: &[u8]) -> Vec<u32> {
        match (self.stride, self.k) {
            (1, 3) => overlapping::<3>(bases),
            (1, 4) => overlapping::<4>(bases),
            (1, 5) => overlapping::<5>(bases),
            (1, LONGEST) => overlapping::<LONGEST>(bases),
            _ => bases.windows(self.k).step_by(self.stride).map(|w| self.kmer_id(w)).collect(),
        }
    }

    /// The bases of a token id, `None` for specials and ids beyond the vocabulary.
    pub fn decode(&self, id: u32) -> Option<Vec<u8>> {
        let mut code = id.checked_sub(SPECIAL_TOKENS)?;
        if id as usize >= self.vocab_size() {
            return None;
        }
        let mut kmer = alloc::vec![0; self.k];
        for b in kmer.iter_mut().rev() {
            *b = b"ACGT"[(code % 4) as usize];
            code /= 4;
        }
        Some(kmer)
    }

    pub(super) fn vocab(&self) -> Vec<String> {
        let kmers = (SPECIAL_TOKENS..self.vocab_size() as u32)
            .filter_map(|id| self.decode(id))
            .map(|b| b.into_iter().map(char::from).collect());
        SPECIAL_NAMES.iter().map(|s| (*s).to_owned()).chain(kmers).collect()
    }
}

/// Token ids of all k-mers, without a table, a branch or a number that the next one needs: a compiler makes vectors of it.
fn overlapping<const K: usize>(bases: &[u8]) -> Vec<u32> {
    let count = (bases.len() + 1).saturating_sub(K);
    let mut all = Vec::with_capacity(count);
    let (mut codes, mut unknown) = ([0_u16; TOGETHER + LONGEST - 1], [0_u16; TOGETHER + LONGEST - 1]);
    let mut ids = [0_u32; TOGETHER];
    for first in (0..count).step_by(TOGETHER) {
        let kmers = TOGETHER.min(count - first);
        let part = &bases[first..first + kmers + K - 1];
        for ((code, unknown), &b) in codes.iter_mut().zip(&mut unknown).zip(part) {
            // In ASCII, bits 1 and 2 of A, C, T and G are 0, 1, 2 and 3.
            let bits = u16::from(b >> 1) & 3;
            *code = bits ^ (bits >> 1);
            *unknown = u16::from(!dna::is_base(b));
        }
        let words = codes.array_windows::<K>().zip(unknown.array_windows::<K>());
        for (id, (codes, unknown)) in ids.iter_mut().zip(words) {
            let code = codes.iter().fold(0, |word, code| (word << 2) | code);
            let known = unknown.iter().fold(0, |any, one| any | one) == 0;
            *id = u32::from(if known { code.wrapping_add(SPECIAL_TOKENS as u16) } else { UNK as u16 });
        }
        all.extend_from_slice(&ids[..kmers]);
    }
    all
}

/// The token id of the reverse complement of a k-mer's token id; specials stay.
pub fn reverse_complement_id(tokenizer: &KmerTokenizer, id: u32) -> u32 {
    tokenizer.decode(id).map_or(id, |kmer| tokenizer.kmer_id(&dna::reverse_complement(&kmer)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_kmers_have_the_ids_that_each_of_them_has_alone(
            bases in prop_oneof!["[ACGT]{0,600}", "[ACGTNRacgt]{0,300}"],
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            k in 3_usize..=6,
            whole: bool,
        ) {
            let t = KmerTokenizer::new(k, if whole { k } else { 1 }).unwrap();
            for bases in [bases.as_bytes(), &bytes] {
                let alone = bases.windows(k).step_by(t.stride()).map(|kmer| t.kmer_id(kmer));
                prop_assert_eq!(t.encode(bases), alone.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn lengths_around_what_is_named_together_lose_no_kmer() {
        for k in 3..=LONGEST {
            let t = KmerTokenizer::new(k, 1).unwrap();
            for kmers in [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER, 2 * TOGETHER + 1] {
                let bases: Vec<u8> = b"ACGGTNCATT".iter().copied().cycle().take(t.bases(kmers)).collect();
                let alone: Vec<u32> = bases.windows(k).map(|kmer| t.kmer_id(kmer)).collect();
                assert_eq!((t.encode(&bases), kmers), (alone, t.encode(&bases).len()));
            }
        }
    }

    #[test]
    fn ids_are_lexicographic_after_the_specials() {
        let t = KmerTokenizer::new(3, 1).unwrap();
        assert_eq!(t.encode(b"AAAACTTTNA"), [5, 5, 6, 12, 36, 68, UNK, UNK]);
        assert_eq!((t.vocab_size(), t.decode(68).unwrap().as_slice()), (69, b"TTT".as_slice()));
        assert_eq!((t.decode(4), t.decode(69)), (None, None));
    }

    #[test]
    fn stride_k_does_not_overlap() {
        let t = KmerTokenizer::new(4, 4).unwrap();
        assert_eq!(t.encode(b"ACGTACGTAC").len(), 2);
        assert_eq!(t.bases(2), 8);
    }

    #[test]
    fn the_file_reads_back_and_a_changed_vocabulary_is_refused() {
        let t = KmerTokenizer::new(5, 1).unwrap();
        let json = t.to_json();
        assert_eq!(KmerTokenizer::from_json(&json).unwrap(), t);
        assert!(KmerTokenizer::from_json(&json.replacen("AAAAC", "CAAAA", 1)).is_err());
        assert_ne!(t.fingerprint(), KmerTokenizer::new(5, 5).unwrap().fingerprint());
        assert!(KmerTokenizer::new(2, 1).is_err() && KmerTokenizer::new(3, 2).is_err());
    }
}
