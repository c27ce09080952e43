//! IUPAC-aware DNA.

use alloc::vec::Vec;

use crate::EncodeError;

/// The longest sequence that is taken from outside, in bases.
pub const MAX_SEQUENCE_BASES: usize = 50_000;

/// Upper-cases, reads U as T, and drops line ends and blanks at the edges.
///
/// # Errors
/// `Empty`, `TooLong` beyond `max_bases` without line ends, or `BadBase` with its 1-based position where a byte is no
/// IUPAC nucleotide code.
pub fn normalise(text: &str, max_bases: usize) -> Result<Vec<u8>, EncodeError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(EncodeError::Empty);
    }
    let letters = || text.bytes().filter(|b| !matches!(b, b'\r' | b'\n'));
    let got = letters().count();
    if got > max_bases {
        return Err(EncodeError::TooLong { got, max: max_bases });
    }
    let mut bases = Vec::with_capacity(got);
    bases.extend(letters().map(|letter| NORMAL[usize::from(letter)]));
    if !bases.contains(&0) {
        return Ok(bases);
    }
    // Letter by letter only where one of them is refused: then its place is asked for.
    text.chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .enumerate()
        .map(|(i, c)| normalise_base(c).ok_or(EncodeError::BadBase { got: c, position: i as u64 + 1 }))
        .collect()
}

/// The upper-case DNA code of one character, `None` where it is no IUPAC nucleotide code.
pub fn normalise_base(c: char) -> Option<u8> {
    Some(NORMAL[usize::from(u8::try_from(c).ok()?)]).filter(|&code| code != 0)
}

/// The upper-case DNA code of each byte, 0 where it is no IUPAC nucleotide code.
pub(crate) static NORMAL: [u8; 256] = {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < all.len() {
        let upper = (byte as u8).to_ascii_uppercase();
        all[byte] = match upper {
            b'U' => b'T',
            b'A' | b'C' | b'G' | b'T' | b'N' | b'R' | b'Y' | b'S' | b'W' | b'K' | b'M' | b'B' | b'D'
            | b'H' | b'V' => upper,
            _ => 0,
        };
        byte += 1;
    }
    all
};

/// Whether the code names exactly one base.
pub const fn is_base(b: u8) -> bool {
    matches!(b, b'A' | b'C' | b'G' | b'T')
}

/// Whether a text is more likely a sequence than a name: over 12 letters in a row that are all IUPAC codes.
pub fn reads_as_sequence(text: &str) -> bool {
    text.split(|c| normalise_base(c).is_none()).any(|run| run.len() > 12)
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
    fn line_ends_do_not_make_a_sequence_too_long() {
        assert_eq!(normalise("ACGT\r\nACGT\r\n", 8).unwrap(), b"ACGTACGT");
        assert_eq!(normalise("ACGT\nACGTA", 8).unwrap_err(), EncodeError::TooLong { got: 9, max: 8 });
    }

    #[test]
    fn names_of_contigs_do_not_read_as_sequences() {
        for name in
            ["chr17", "chrUn_KI270742v1_random", "NC_000017.11", "HLA-DRB1*15:01:01:01", "scaffold_12"]
        {
            assert!(!reads_as_sequence(name), "{name}");
        }
        assert!(reads_as_sequence("chr-ACGTNACGTNACG") && reads_as_sequence("acgtacgtacgta"));
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
