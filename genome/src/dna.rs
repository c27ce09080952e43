//! IUPAC-aware DNA.

use alloc::vec::Vec;

use crate::EncodeError;

/// The longest sequence that is taken from outside, in bases.
pub const MAX_SEQUENCE_BASES: usize = 50_000;

/// Upper-cases, reads U as T, and drops line ends and blanks at the edges.
///
/// # Errors
/// `Empty`, `TooLong` beyond `max_bases`, or `BadBase` with its 1-based position where a byte is no
/// IUPAC nucleotide code.
pub fn normalise(text: &str, max_bases: usize) -> Result<Vec<u8>, EncodeError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(EncodeError::Empty);
    }
    if text.len() > max_bases {
        return Err(EncodeError::TooLong { got: text.len(), max: max_bases });
    }
    text.chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .enumerate()
        .map(|(i, c)| normalise_base(c).ok_or(EncodeError::BadBase { got: c, position: i as u64 + 1 }))
        .collect()
}

/// The upper-case DNA code of one character, `None` where it is no IUPAC nucleotide code.
pub fn normalise_base(c: char) -> Option<u8> {
    let upper = u8::try_from(c).ok()?.to_ascii_uppercase();
    match upper {
        b'U' => Some(b'T'),
        b'A' | b'C' | b'G' | b'T' | b'N' | b'R' | b'Y' | b'S' | b'W' | b'K' | b'M' | b'B' | b'D' | b'H'
        | b'V' => Some(upper),
        _ => None,
    }
}

/// Whether the code names exactly one base.
pub const fn is_base(b: u8) -> bool {
    matches!(b, b'A' | b'C' | b'G' | b'T')
}

/// The complementary IUPAC code (Cornish-Bowden 1985); any other byte becomes `N`.
pub const fn complement(b: u8) -> u8 {
    match b {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        b'R' => b'Y',
        b'Y' => b'R',
        b'S' => b'S',
        b'W' => b'W',
        b'K' => b'M',
        b'M' => b'K',
        b'B' => b'V',
        b'V' => b'B',
        b'D' => b'H',
        b'H' => b'D',
        _ => b'N',
    }
}

/// The other strand, read in its own sense.
pub fn reverse_complement(bases: &[u8]) -> Vec<u8> {
    bases.iter().rev().map(|&b| complement(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_uracil_and_line_ends_are_read() {
        assert_eq!(normalise(" acgu\r\nNn\n", 100).unwrap(), b"ACGTNN");
    }

    #[test]
    fn a_foreign_letter_is_named_with_its_position() {
        let e = normalise("ACé", 100).unwrap_err();
        assert!(matches!(e, EncodeError::BadBase { got: 'é', position: 3 }), "{e}");
    }

    #[test]
    fn ten_megabases_are_refused_before_they_are_copied() {
        let long = "A".repeat(10_000_000);
        assert!(matches!(normalise(&long, MAX_SEQUENCE_BASES), Err(EncodeError::TooLong { .. })));
    }

    #[test]
    fn reverse_complement_is_an_involution_over_iupac() {
        let all = b"ACGTRYSWKMBDHVN";
        assert_eq!(reverse_complement(&reverse_complement(all)), all);
    }
}
