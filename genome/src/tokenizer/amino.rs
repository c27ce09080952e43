//! Residues, one token each.

use alloc::{string::String, vec::Vec};

use super::{SPECIAL_TOKENS, TokenizerError, joined, named};

/// The twenty residues, selenocysteine, pyrrolysine, the ambiguity codes of IUPAC (B: D or N, Z: E or Q, J: I or L, X:
/// any) and a stop.
const NAMES: [&str; 27] = [
    "A", "R", "N", "D", "C", "Q", "E", "G", "H", "I", "L", "K", "M", "F", "P", "S", "T", "W", "Y", "V", "U",
    "O", "B", "Z", "J", "X", "*",
];

/// Cuts a protein into residues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AminoAcidTokenizer;

impl AminoAcidTokenizer {
    pub(super) fn encode(self, sequence: &str) -> Result<Vec<u32>, TokenizerError> {
        let id = |(offset, got): (usize, char)| {
            let letter = got.to_ascii_uppercase();
            let index = NAMES.iter().position(|name| name.starts_with(letter));
            index.map(|i| SPECIAL_TOKENS + i as u32).ok_or(TokenizerError::Symbol {
                got,
                offset,
                expected: "one of the 20 residues, U, O, B, Z, J, X or *",
            })
        };
        sequence.char_indices().map(id).collect()
    }

    pub(super) fn decode(self, ids: &[u32]) -> Result<String, TokenizerError> {
        joined(ids, |i| NAMES.get(i).copied(), NAMES.len() + SPECIAL_TOKENS as usize)
    }

    pub(super) fn vocab(self) -> Vec<String> {
        named(&NAMES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_letter_that_is_no_residue_is_named_with_its_offset() {
        let e = AminoAcidTokenizer.encode("MK1").unwrap_err();
        assert!(matches!(e, TokenizerError::Symbol { got: '1', offset: 2, .. }), "{e}");
        assert_eq!(AminoAcidTokenizer.encode("mk").unwrap(), AminoAcidTokenizer.encode("MK").unwrap());
        assert!(AminoAcidTokenizer.decode(&[4]).is_err() && AminoAcidTokenizer.decode(&[32]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(protein in "[A-Z*]{0,60}") {
            // Every letter of the Latin alphabet is a residue or an ambiguity code.
            let ids = AminoAcidTokenizer.encode(&protein).unwrap();
            prop_assert_eq!(AminoAcidTokenizer.decode(&ids).unwrap(), protein);
        }
    }
}
