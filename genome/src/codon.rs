//! The standard genetic code (NCBI translation table 1).

/// Amino acids by codon, bases in the order T, C, A, G; `*` is a stop.
const TABLE: &[u8; 64] = b"FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG";

const fn index(base: u8) -> Option<usize> {
    match base {
        b'T' => Some(0),
        b'C' => Some(1),
        b'A' => Some(2),
        b'G' => Some(3),
        _ => None,
    }
}

/// The amino acid (one letter, `*` for stop), `None` where a base is not A, C, G or T.
pub const fn translate(codon: [u8; 3]) -> Option<u8> {
    match (index(codon[0]), index(codon[1]), index(codon[2])) {
        (Some(a), Some(b), Some(c)) => Some(TABLE[a * 16 + b * 4 + c]),
        _ => None,
    }
}

/// Whether genes on this contig are read by the vertebrate mitochondrial code.
pub fn is_mitochondrial(contig: &str) -> bool {
    ["M", "MT", "chrM", "chrMT", "NC_012920.1"].iter().any(|name| name.eq_ignore_ascii_case(contig))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_stops_and_ambiguity() {
        assert_eq!(translate(*b"ATG"), Some(b'M'));
        for stop in [b"TAA", b"TAG", b"TGA"] {
            assert_eq!(translate(*stop), Some(b'*'));
        }
        assert_eq!((translate(*b"TGG"), translate(*b"GGN")), (Some(b'W'), None));
    }
}
