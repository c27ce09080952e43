//! Molecular consequence of a variant on one transcript, as Sequence Ontology terms.

use alloc::string::{String, ToString};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    codon, dna,
    transcript::{ExonPart, Site, Strand, Transcript},
};

/// Bases by 1-based coordinate, written on the forward strand. `None`: not known.
pub trait Bases {
    /// Upper-case IUPAC code at `position`.
    fn base(&self, position: i64) -> Option<u8>;
}

macro_rules! consequences {
    ($($(#[$doc:meta])* $name:ident = $term:literal),+ $(,)?) => {
        /// The consequence, most severe first where several could be said (Ensembl's order).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Consequence { $($(#[$doc])* #[serde(rename = $term)] $name),+ }

        impl Consequence {
            /// Every consequence, in the order of the model's features.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Sequence Ontology terms, joined by `&`.
            pub const fn so_term(self) -> &'static str {
                match self { $(Self::$name => $term),+ }
            }

            /// Whether a residue may be replaced by another: in a codon that is not wholly known nobody can say.
            pub const fn may_be_missense(self) -> bool {
                self.is_missense() || matches!(self, Self::Coding)
            }

            /// Whether one residue is replaced by another.
            pub const fn is_missense(self) -> bool {
                matches!(self, Self::Missense | Self::MissenseSpliceRegion)
            }
        }
    };
}

consequences! {
    /// One of the two intronic bases before an exon.
    SpliceAcceptor = "splice_acceptor_variant",
    /// One of the two intronic bases after an exon.
    SpliceDonor = "splice_donor_variant",
    /// A codon becomes a stop.
    StopGained = "stop_gained",
    /// An indel that shifts the frame.
    Frameshift = "frameshift_variant",
    /// The stop codon is gone.
    StopLost = "stop_lost",
    /// The start codon is gone.
    StartLost = "start_lost",
    /// Whole codons inserted.
    InframeInsertion = "inframe_insertion",
    /// Whole codons deleted.
    InframeDeletion = "inframe_deletion",
    /// Another amino acid within 3 bases of a junction.
    MissenseSpliceRegion = "missense_variant&splice_region_variant",
    /// Another amino acid.
    Missense = "missense_variant",
    /// Intronic bases 3 to 8.
    SpliceRegionIntron = "splice_region_variant&intron_variant",
    /// The same amino acid within 3 bases of a junction.
    SynonymousSpliceRegion = "splice_region_variant&synonymous_variant",
    /// The same amino acid.
    Synonymous = "synonymous_variant",
    /// Coding; the change of protein is not known.
    Coding = "coding_sequence_variant",
    /// Exonic, before the coding sequence.
    FivePrimeUtr = "5_prime_UTR_variant",
    /// Exonic, after the coding sequence.
    ThreePrimeUtr = "3_prime_UTR_variant",
    /// In an exon of a transcript that codes for nothing.
    NonCodingExon = "non_coding_transcript_exon_variant",
    /// In an intron, 9 bases or more from an exon.
    Intron = "intron_variant",
    /// Before the transcript.
    Upstream = "upstream_gene_variant",
    /// After the transcript.
    Downstream = "downstream_gene_variant",
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.so_term())
    }
}

/// A codon before and after, where all of its bases are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodonChange {
    /// 0-based index of the codon's first base in the coding sequence.
    pub index: i64,
    /// Amino acid before, `*` for stop.
    pub ref_residue: u8,
    /// Amino acid after.
    pub alt_residue: u8,
    /// 1-based residue number.
    pub residue: i64,
}

impl CodonChange {
    /// `G943R`.
    pub fn short(&self) -> String {
        let mut s = String::new();
        s.push(char::from(self.ref_residue));
        s.push_str(&self.residue.to_string());
        s.push(char::from(self.alt_residue));
        s
    }
}

/// Base at `position` in the transcript's sense.
pub(crate) fn sense_base(bases: &dyn Bases, transcript: &Transcript, position: i64) -> Option<u8> {
    let b = bases.base(position)?;
    Some(if transcript.strand == Strand::Forward { b } else { dna::complement(b) })
}

/// Three bases of the coding sequence from `index` on, in sense.
pub fn codon_at(bases: &dyn Bases, transcript: &Transcript, index: i64) -> Option<[u8; 3]> {
    let [a, b, c] = transcript.codon_positions(index)?.map(|p| sense_base(bases, transcript, p));
    Some([a?, b?, c?])
}

/// The amino-acid change of a single-base replacement at `position` (`alt` written on the forward
/// strand), `None` outside the coding sequence, where the codon is not wholly known, and where another genetic code
/// reads it.
pub fn codon_change(
    bases: &dyn Bases,
    transcript: &Transcript,
    position: i64,
    alt: u8,
) -> Option<CodonChange> {
    let Site::Exon { part: ExonPart::Coding { index, codon_base }, .. } = transcript.site(position) else {
        return None;
    };
    if !transcript.standard_code() {
        return None;
    }
    let start = index - i64::from(codon_base);
    let before = codon_at(bases, transcript, start)?;
    let mut after = before;
    after[usize::from(codon_base)] =
        if transcript.strand == Strand::Forward { alt } else { dna::complement(alt) };
    // A coding sequence that starts within a codon (phase 1 or 2) has an incomplete first residue.
    let lead = start.rem_euclid(3);
    Some(CodonChange {
        index: start,
        ref_residue: codon::translate(before)?,
        alt_residue: codon::translate(after)?,
        residue: (start - lead) / 3 + 1 + i64::from(lead != 0),
    })
}

/// Consequence of a single-base replacement.
pub fn of_snv(bases: &dyn Bases, transcript: &Transcript, position: i64, alt: u8) -> Consequence {
    match transcript.site(position) {
        Site::Upstream => Consequence::Upstream,
        Site::Downstream => Consequence::Downstream,
        Site::Intron { from_donor, from_acceptor } => intronic(from_donor, from_acceptor),
        Site::Exon { part: ExonPart::FivePrimeUtr, .. } => Consequence::FivePrimeUtr,
        Site::Exon { part: ExonPart::ThreePrimeUtr, .. } => Consequence::ThreePrimeUtr,
        Site::Exon { part: ExonPart::NonCoding, .. } => Consequence::NonCodingExon,
        Site::Exon { part: ExonPart::Coding { .. }, from_junction } => {
            let Some(change) = codon_change(bases, transcript, position, alt) else {
                return Consequence::Coding;
            };
            let near = from_junction.is_some_and(|d| d <= 3);
            match (change.ref_residue, change.alt_residue) {
                (r, a) if r == a && near => Consequence::SynonymousSpliceRegion,
                (r, a) if r == a => Consequence::Synonymous,
                (b'M', _) if change.index == 0 => Consequence::StartLost,
                (_, b'*') => Consequence::StopGained,
                (b'*', _) => Consequence::StopLost,
                _ if near => Consequence::MissenseSpliceRegion,
                _ => Consequence::Missense,
            }
        }
    }
}

pub(crate) fn intronic(from_donor: i64, from_acceptor: i64) -> Consequence {
    match (from_donor, from_acceptor) {
        (1..=2, _) => Consequence::SpliceDonor,
        (_, 1..=2) => Consequence::SpliceAcceptor,
        (3..=8, _) | (_, 3..=8) => Consequence::SpliceRegionIntron,
        _ => Consequence::Intron,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{CdsPart, Exon};

    struct Text(&'static [u8]);
    impl Bases for Text {
        fn base(&self, position: i64) -> Option<u8> {
            self.0.get(usize::try_from(position - 1).ok()?).copied()
        }
    }

    //                     1234567890123456789012345678901234567890
    const GENE: &[u8] = b"GGATGGCTTGGTAAGTTTTTTTTTTTTTCAGAAATAACCC";

    fn gene() -> Transcript {
        let exons = vec![Exon { start: 1, end: 11 }, Exon { start: 32, end: 40 }];
        let cds = vec![CdsPart { start: 3, end: 11, phase: 0 }, CdsPart { start: 32, end: 37, phase: 0 }];
        Transcript::new("t", "g", Strand::Forward, exons, cds).unwrap()
    }

    #[test]
    fn every_class_of_a_forward_gene() {
        let t = gene();
        let c = |p, alt| of_snv(&Text(GENE), &t, p, alt);
        assert_eq!(c(1, b'A'), Consequence::FivePrimeUtr);
        assert_eq!(c(4, b'C'), Consequence::StartLost);
        assert_eq!(c(8, b'A'), Consequence::Synonymous);
        assert_eq!(c(6, b'A'), Consequence::Missense);
        assert_eq!(c(9, b'C'), Consequence::MissenseSpliceRegion);
        assert_eq!(c(11, b'A'), Consequence::StopGained);
        assert_eq!(c(12, b'A'), Consequence::SpliceDonor);
        assert_eq!(c(17, b'A'), Consequence::SpliceRegionIntron);
        assert_eq!(c(21, b'A'), Consequence::Intron);
        assert_eq!(c(31, b'A'), Consequence::SpliceAcceptor);
        assert_eq!(c(35, b'C'), Consequence::StopLost);
        assert_eq!(c(39, b'A'), Consequence::ThreePrimeUtr);
        assert_eq!(c(-5, b'A'), Consequence::Upstream);
        assert_eq!(c(41, b'A'), Consequence::Downstream);
    }

    #[test]
    fn a_codon_beyond_the_known_bases_is_not_guessed() {
        assert_eq!(of_snv(&Text(&GENE[..4]), &gene(), 4, b'C'), Consequence::Coding);
    }
}
