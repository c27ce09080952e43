//! Variants on a reference and mutations in a given sequence.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{EncodeError, dna};

const MAX_ALLELE_BASES: usize = 1_000;

/// A change on a reference sequence: VCF's CHROM, POS, REF and one ALT. Written `chr17-43045705-T-A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Variant {
    /// Sequence name, as the asker writes it.
    pub contig: String,
    /// 1-based position of the first reference base.
    pub position: u64,
    /// Reference allele, upper case.
    pub ref_allele: String,
    /// Alternate allele, upper case.
    pub alt_allele: String,
}

impl Variant {
    /// Checks the four parts; upper-cases the alleles and reads U as T.
    ///
    /// # Errors
    /// `BadVariant` or `RefEqualsAlt`.
    pub fn new(contig: &str, position: u64, ref_allele: &str, alt_allele: &str) -> Result<Self, EncodeError> {
        if contig.is_empty() || contig.len() > 64 {
            return Err(EncodeError::BadVariant { reason: "the contig has 0 or more than 64 characters" });
        }
        if dna::reads_as_sequence(contig) {
            return Err(EncodeError::BadVariant { reason: "the contig reads as a sequence of bases" });
        }
        if position == 0 {
            return Err(EncodeError::BadVariant { reason: "position 0; positions count from 1" });
        }
        if position > i64::MAX as u64 / 2 {
            return Err(EncodeError::BadVariant { reason: "the position is larger than any genome" });
        }
        let ref_allele = allele(ref_allele)?;
        let alt_allele = allele(alt_allele)?;
        if ref_allele == alt_allele {
            return Err(EncodeError::RefEqualsAlt);
        }
        Ok(Self { contig: contig.to_string(), position, ref_allele, alt_allele })
    }

    /// Whether one base is replaced by one base.
    pub fn is_snv(&self) -> bool {
        self.ref_allele.len() == 1 && self.alt_allele.len() == 1
    }
}

fn allele(text: &str) -> Result<String, EncodeError> {
    if text.is_empty() {
        return Err(EncodeError::BadVariant { reason: "an allele is empty" });
    }
    if text.len() > MAX_ALLELE_BASES {
        return Err(EncodeError::BadVariant { reason: "an allele is longer than 1,000 bases" });
    }
    text.chars()
        .map(|c| dna::normalise_base(c).filter(|&b| dna::is_base(b)).map(char::from))
        .collect::<Option<String>>()
        .ok_or(EncodeError::BadVariant { reason: "an allele holds something other than A, C, G, T" })
}

impl FromStr for Variant {
    type Err = EncodeError;

    fn from_str(text: &str) -> Result<Self, EncodeError> {
        // From the right, because contig names may hold hyphens.
        let parts: Vec<&str> = text.trim().rsplitn(4, '-').collect();
        let [alt, reference, position, contig] = parts[..] else {
            return Err(EncodeError::BadVariant { reason: "fewer than four parts between hyphens" });
        };
        let position = position
            .parse()
            .map_err(|_| EncodeError::BadVariant { reason: "the position is not a whole number" })?;
        Self::new(contig, position, reference, alt)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.contig, self.position, self.ref_allele, self.alt_allele)
    }
}

impl From<Variant> for String {
    fn from(v: Variant) -> Self {
        v.to_string()
    }
}

impl TryFrom<String> for Variant {
    type Error = EncodeError;

    fn try_from(text: String) -> Result<Self, EncodeError> {
        text.parse()
    }
}

/// One base replaced by another at a 1-based position of a given sequence, written `A123T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mutation {
    /// Base stated to be there.
    pub ref_allele: u8,
    /// 1-based position in the given sequence.
    pub position: u64,
    /// Base that replaces it.
    pub alt_allele: u8,
}

impl FromStr for Mutation {
    type Err = EncodeError;

    fn from_str(text: &str) -> Result<Self, EncodeError> {
        let text = text.trim();
        let bad = |reason| EncodeError::BadMutation { len: text.chars().count(), reason };
        let mut chars = text.chars();
        let (first, last) = (chars.next(), chars.next_back());
        let base = |c: Option<char>, reason| {
            c.and_then(dna::normalise_base).filter(|&b| dna::is_base(b)).ok_or(bad(reason))
        };
        let ref_allele = base(first, "its first character is not A, C, G or T")?;
        let alt_allele = base(last, "its last character is not A, C, G or T")?;
        let digits = chars.as_str();
        if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("there is no whole number between its bases"));
        }
        let position = digits.parse().map_err(|_| bad("there is no whole number between its bases"))?;
        if position == 0 {
            return Err(bad("position 0; positions count from 1"));
        }
        if ref_allele == alt_allele {
            return Err(EncodeError::RefEqualsAlt);
        }
        Ok(Self { ref_allele, position, alt_allele })
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", char::from(self.ref_allele), self.position, char::from(self.alt_allele))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variant_reads_back_what_it_writes() {
        let v: Variant = "HLA-A-12-a-GT".parse().unwrap();
        assert_eq!((v.contig.as_str(), v.position, v.to_string().as_str()), ("HLA-A", 12, "HLA-A-12-A-GT"));
        assert!(!v.is_snv());
    }

    #[test]
    fn variants_that_cannot_be_are_refused() {
        let long = format!("{}-5-A-T", "ACGTN".repeat(12));
        for bad in [
            "",
            "chr1-0-A-T",
            "chr1-x-A-T",
            "chr1-5-A",
            "chr1-5-A-*",
            "chr1-5--T",
            "chr1-5-A-N",
            long.as_str(),
        ] {
            assert!(matches!(bad.parse::<Variant>(), Err(EncodeError::BadVariant { .. })), "{bad}");
        }
        assert_eq!("chr1-5-A-a".parse::<Variant>(), Err(EncodeError::RefEqualsAlt));
    }

    #[test]
    fn mutations_that_cannot_be_are_refused() {
        for bad in
            ["", "A", "AT", "A0T", "A123*", "A12", "1T", "A-3T", "A1.5T", "A99999999999999999999T", "é5T"]
        {
            assert!(matches!(bad.parse::<Mutation>(), Err(EncodeError::BadMutation { .. })), "{bad}");
        }
        assert_eq!("A5A".parse::<Mutation>(), Err(EncodeError::RefEqualsAlt));
        assert_eq!("u7g".parse::<Mutation>().unwrap().to_string(), "T7G");
    }
}
