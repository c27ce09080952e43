//! Molecules, cut into atoms, bonds, branches and ring closures as Schwaller et al. (2018) cut SMILES, but with a
//! closed vocabulary: bracket atoms and two-digit ring closures are cut into their parts, so that none is unknown.

use alloc::{string::String, vec::Vec};

use super::{SPECIAL_TOKENS, TokenizerError, joined, named};
use crate::smiles::{AROMATIC, ELEMENTS, Molecule};

const MARKS: [&str; 33] = [
    "(", ")", "[", "]", ".", "-", "=", "#", "$", ":", "/", "\\", "~", "%", "0", "1", "2", "3", "4", "5", "6",
    "7", "8", "9", "@", "@@", "@TH", "@AL", "@SP", "@TB", "@OH", "+", "*",
];

fn names() -> impl Iterator<Item = &'static str> {
    MARKS.iter().chain(&AROMATIC).chain(&ELEMENTS).copied()
}

/// Cuts SMILES into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmilesTokenizer;

impl SmilesTokenizer {
    pub(super) fn encode(self, sequence: &str) -> Result<Vec<u32>, TokenizerError> {
        let (_, parts) = Molecule::parse_parts(sequence)?;
        let id = |part: &str| names().position(|name| name == part).map(|i| SPECIAL_TOKENS + i as u32);
        Ok(parts
            .into_iter()
            .map(|part| id(part).expect("the parser gives parts of the vocabulary"))
            .collect())
    }

    pub(super) fn decode(self, ids: &[u32]) -> Result<String, TokenizerError> {
        joined(ids, |i| names().nth(i), names().count() + SPECIAL_TOKENS as usize)
    }

    pub(super) fn vocab(self) -> Vec<String> {
        named(&names().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let vocab = SmilesTokenizer.vocab();
        SmilesTokenizer.encode(text).unwrap().into_iter().map(|id| vocab[id as usize].clone()).collect()
    }

    #[test]
    fn atoms_of_two_letters_stay_whole_and_bracket_atoms_are_cut() {
        assert_eq!(cut("CCl"), ["C", "Cl"]);
        assert_eq!(cut("Sc1ccccc1").len(), 9, "outside brackets Sc is sulphur and an aromatic carbon");
        assert_eq!(cut("[Sc+3]"), ["[", "Sc", "+", "3", "]"]);
        assert_eq!(cut("C[C@@H](N)O"), ["C", "[", "C", "@@", "H", "]", "(", "N", ")", "O"]);
        assert_eq!(cut("[13CH3:2]C"), ["[", "1", "3", "C", "H", "3", ":", "2", "]", "C"]);
        assert_eq!(cut("C%12CC%12"), ["C", "%", "1", "2", "C", "C", "%", "1", "2"]);
        assert_eq!(cut("F/C=C\\F"), ["F", "/", "C", "=", "C", "\\", "F"]);
        assert_eq!(cut("[Pt@SP1]"), ["[", "Pt", "@SP", "1", "]"]);
    }

    #[test]
    fn every_name_is_one_token() {
        let mut vocab = SmilesTokenizer.vocab();
        let size = vocab.len();
        vocab.sort();
        vocab.dedup();
        assert_eq!((vocab.len(), size), (165, 165));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_read_whole_or_refused_within_it(text in any::<String>()) {
            match SmilesTokenizer.encode(&text) {
                Ok(ids) => prop_assert_eq!(SmilesTokenizer.decode(&ids).unwrap(), text),
                Err(TokenizerError::Symbol { offset, .. } | TokenizerError::Syntax { offset, .. }) => {
                    prop_assert!(offset <= text.len() && text.is_char_boundary(offset));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn what_looks_like_smiles_is_read_whole_or_refused_within_it(text in r"[\[\]CNOcnsHBrl()=#/\\@+%0-9.:*-]{0,40}") {
            match SmilesTokenizer.encode(&text) {
                Ok(ids) => prop_assert_eq!(SmilesTokenizer.decode(&ids).unwrap(), text),
                Err(TokenizerError::Symbol { offset, .. } | TokenizerError::Syntax { offset, .. }) => {
                    prop_assert!(offset <= text.len());
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn what_was_encoded_decodes_to_itself(text in molecule()) {
            let ids = SmilesTokenizer.encode(&text).unwrap();
            prop_assert_eq!(SmilesTokenizer.decode(&ids).unwrap(), text);
        }
    }

    /// Valid SMILES: chains of atoms with branches and a closed ring each.
    fn molecule() -> impl Strategy<Value = String> {
        let atom = prop_oneof![
            "[BCNOPSFI]",
            "[bcnops]",
            Just("Cl".to_owned()),
            Just("Br".to_owned()),
            Just("*".to_owned()),
            r"\[[1-9]{0,3}(C|N|Se|Fe|c|se)(@|@@|@TH1|@OH12)?(H[2-4]?)?(\+|-|\+[2-9]|--)?(:[0-9]{1,3})?\]",
        ];
        let bond = prop_oneof![
            Just(""),
            Just("-"),
            Just("="),
            Just("#"),
            Just("/"),
            Just("\\"),
            Just("~"),
            Just(":")
        ];
        let chain = (atom.clone(), prop::collection::vec((bond, atom), 2..6))
            .prop_map(|(first, rest)| rest.iter().fold(first, |text, (bond, atom)| text + bond + atom));
        let ring = (chain.clone(), 0_u8..=99).prop_map(|(chain, n)| {
            let n = if n < 10 { n.to_string() } else { format!("%{n}") };
            format!("C{n}{chain}{n}")
        });
        prop_oneof![chain, ring].prop_recursive(3, 24, 3, |inner| {
            (inner.clone(), inner.clone(), prop::bool::ANY)
                .prop_map(|(a, b, dot)| if dot { format!("{a}.{b}") } else { format!("{a}({b})C") })
        })
    }
}
