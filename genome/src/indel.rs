//! Consequence of an insertion, a deletion or a replacement of several bases. Where the change of protein is not
//! certain it is said to be a `coding_sequence_variant`.

use alloc::{borrow::Cow, vec::Vec};

use crate::{
    Consequence,
    changed::Edit,
    codon,
    consequence::{self, Bases, codon_at, sense_base},
    dna,
    transcript::{ExonPart, Site, Strand, Transcript},
};

/// Consequence of replacing `ref_allele`, whose first base is at `position`, by `alt_allele`, both on the forward
/// strand. What the alleles share at their ends, such as VCF's anchor, does not change.
pub fn of_indel(
    bases: &dyn Bases,
    transcript: &Transcript,
    position: i64,
    ref_allele: &[u8],
    alt_allele: &[u8],
) -> Consequence {
    let edit = Edit::of(position, ref_allele, alt_allele);
    let (Edit { first, removed, added }, last) = (edit, edit.last());
    match (removed, added) {
        ([_], &[alt]) => consequence::of_snv(bases, transcript, first, alt),
        ([], _) => insertion(bases, transcript, first, added),
        _ => replacement(bases, transcript, first, last, added),
    }
}

/// An inserted stretch touches what lies on both of its sides, so that the milder of the two terms holds: between
/// the last exonic base and the donor, the donor is whole.
fn insertion(bases: &dyn Bases, transcript: &Transcript, after: i64, added: &[u8]) -> Consequence {
    let (left, right) = (after - 1, after);
    let (first, last) = if transcript.strand == Strand::Forward { (right, left) } else { (left, right) };
    match (coding_index(transcript, left), coding_index(transcript, right)) {
        (Some(l), Some(r)) => {
            Change::new(bases, transcript, added, (first, last), (l.max(r), 0)).consequence()
        }
        _ => base_term(transcript, left).max(base_term(transcript, right)),
    }
}

fn replacement(
    bases: &dyn Bases,
    transcript: &Transcript,
    left: i64,
    right: i64,
    added: &[u8],
) -> Consequence {
    let terms = || (left..=right).map(|p| base_term(transcript, p));
    let worst = terms().min().unwrap_or(Consequence::Coding);
    if worst != Consequence::Coding {
        return worst;
    }
    let index = (left..=right).filter_map(|p| coding_index(transcript, p)).min().unwrap_or(0);
    let coding = terms().filter(|&t| t == Consequence::Coding).count() as i64;
    let (first, last) = if transcript.strand == Strand::Forward { (left, right) } else { (right, left) };
    let change = Change::new(bases, transcript, added, (first, last), (index, coding));
    let beside = |term| terms().any(|t| t == term);
    if coding == right - left + 1 {
        return change.consequence();
    }
    match (beside(Consequence::FivePrimeUtr), beside(Consequence::ThreePrimeUtr)) {
        (true, false) => change.at_start().unwrap_or(Consequence::Coding),
        (false, true) => change.at_stop().unwrap_or(Consequence::Coding),
        _ => Consequence::Coding,
    }
}

fn coding_index(transcript: &Transcript, position: i64) -> Option<i64> {
    match transcript.site(position) {
        Site::Exon { part: ExonPart::Coding { index, .. }, .. } => Some(index),
        _ => None,
    }
}

fn base_term(transcript: &Transcript, position: i64) -> Consequence {
    match transcript.site(position) {
        Site::Upstream => Consequence::Upstream,
        Site::Downstream => Consequence::Downstream,
        Site::Intron { from_donor, from_acceptor } => consequence::intronic(from_donor, from_acceptor),
        Site::Exon { part, .. } => match part {
            ExonPart::FivePrimeUtr => Consequence::FivePrimeUtr,
            ExonPart::ThreePrimeUtr => Consequence::ThreePrimeUtr,
            ExonPart::NonCoding => Consequence::NonCodingExon,
            ExonPart::Coding { .. } => Consequence::Coding,
        },
    }
}

/// A change of the coding sequence, in the transcript's sense.
struct Change<'a> {
    bases: &'a dyn Bases,
    transcript: &'a Transcript,
    /// Positions of the first and last base removed; of an insertion, of the base after and before it.
    removed_at: (i64, i64),
    /// Coding index of the first coding base removed, or of the base after an insertion.
    index: i64,
    /// Coding bases removed.
    removed: i64,
    added: Cow<'a, [u8]>,
}

impl<'a> Change<'a> {
    fn new(
        bases: &'a dyn Bases,
        transcript: &'a Transcript,
        added: &'a [u8],
        removed_at: (i64, i64),
        (index, removed): (i64, i64),
    ) -> Self {
        let added = match transcript.strand {
            Strand::Forward => added.into(),
            Strand::Reverse => dna::reverse_complement(added).into(),
        };
        Self { bases, transcript, removed_at, index, removed, added }
    }

    fn consequence(&self) -> Consequence {
        let shift = self.added.len() as i64 - self.removed;
        if !self.transcript.standard_code() || !self.transcript.phases_agree() {
            return if shift % 3 == 0 { Consequence::Coding } else { Consequence::Frameshift };
        }
        let (start, stop) = (self.at_start(), self.at_stop());
        if start.is_some() && stop.is_some() {
            return Consequence::Coding;
        }
        if let Some(term) = start.or(stop) {
            return term;
        }
        if shift % 3 != 0 {
            return Consequence::Frameshift;
        }
        // Codons that hold an added base, or the bases that came together where some were removed.
        let end = self.index + self.added.len() as i64;
        let codons = (self.index - self.codon_base()..end).step_by(3);
        let after: Vec<Option<u8>> =
            codons.clone().map(|i| self.codon(i).and_then(codon::translate)).collect();
        if after.contains(&Some(b'*')) {
            return Consequence::StopGained;
        }
        if shift != 0 {
            return if shift > 0 { Consequence::InframeInsertion } else { Consequence::InframeDeletion };
        }
        let before: Vec<Option<u8>> =
            codons.map(|i| codon_at(self.bases, self.transcript, i).and_then(codon::translate)).collect();
        if before.contains(&None) || after.contains(&None) {
            return Consequence::Coding;
        }
        match (before == after, self.near_junction()) {
            (true, true) => Consequence::SynonymousSpliceRegion,
            (true, false) => Consequence::Synonymous,
            (false, true) => Consequence::MissenseSpliceRegion,
            (false, false) => Consequence::Missense,
        }
    }

    /// Place in its codon of the base at `index`.
    fn codon_base(&self) -> i64 {
        let site = self.transcript.cds_position(self.index).map(|p| self.transcript.site(p));
        match site {
            Some(Site::Exon { part: ExonPart::Coding { codon_base, .. }, .. }) => i64::from(codon_base),
            _ => 0,
        }
    }

    fn near_junction(&self) -> bool {
        let (one, other) = self.removed_at;
        (one.min(other)..=one.max(other))
            .any(|p| matches!(self.transcript.site(p), Site::Exon { from_junction: Some(d), .. } if d <= 3))
    }

    /// What a change of the start codon does to it; `None` where the change leaves it alone or it is not known.
    fn at_start(&self) -> Option<Consequence> {
        let start =
            codon_at(self.bases, self.transcript, 0).filter(|c| codon::translate(*c) == Some(b'M'))?;
        if self.index >= 3 {
            return None;
        }
        // The bases before may make up for what is gone, as where one of a run of equal bases is deleted.
        let kept = start.get((self.index + self.removed) as usize..).unwrap_or_default();
        let before =
            [2, 1].map(|d| sense_base(self.bases, self.transcript, self.step(self.removed_at.0, -d)));
        if !kept.is_empty() {
            let [Some(second), Some(first)] = before else { return Some(Consequence::Coding) };
            if [&[second, first][..], &self.added, kept].concat().ends_with(&start) {
                return Some(Consequence::Coding);
            }
        }
        match self.codon(0) {
            Some(codon) if codon == start => None,
            Some(_) => Some(Consequence::StartLost),
            None => Some(Consequence::Coding),
        }
    }

    /// The same of the stop codon.
    fn at_stop(&self) -> Option<Consequence> {
        let stop = self.transcript.cds_len() - 3;
        codon_at(self.bases, self.transcript, stop).filter(|c| codon::translate(*c) == Some(b'*'))?;
        if self.index + self.removed <= stop {
            return None;
        }
        let shift = self.added.len() as i64 - self.removed;
        if self.index < stop && shift % 3 != 0 {
            return Some(Consequence::Frameshift);
        }
        // Whole codons put into the stop codon may bring the next stop.
        let (from, to) = match self.index < stop {
            true => (stop + shift, stop + shift),
            false if shift % 3 == 0 => (stop, stop + shift.max(0)),
            false => (stop, stop),
        };
        let residues = (from..=to).step_by(3).map(|i| self.codon(i).and_then(codon::translate));
        let lost = residues.into_iter().all(|r| r.is_some_and(|r| r != b'*'));
        Some(if lost { Consequence::StopLost } else { Consequence::Coding })
    }

    /// A position `by` bases on, in sense.
    const fn step(&self, position: i64, by: i64) -> i64 {
        match self.transcript.strand {
            Strand::Forward => position + by,
            Strand::Reverse => position - by,
        }
    }

    /// A codon of the changed coding sequence.
    fn codon(&self, index: i64) -> Option<[u8; 3]> {
        Some([self.base(index)?, self.base(index + 1)?, self.base(index + 2)?])
    }

    /// A base of the changed coding sequence; past its end, of the exon after it.
    fn base(&self, index: i64) -> Option<u8> {
        let added = self.added.len() as i64;
        if self.index <= index && index < self.index + added {
            return self.added.get((index - self.index) as usize).copied();
        }
        let old = if index < self.index { index } else { index - added + self.removed };
        let len = self.transcript.cds_len();
        let position = if old < len {
            self.transcript.cds_position(old)?
        } else {
            let end = if self.index + self.removed == len {
                self.removed_at.1
            } else {
                self.transcript.cds_position(len - 1)?
            };
            self.step(end, old - len + 1)
        };
        sense_base(self.bases, self.transcript, position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{CdsPart, Exon};

    struct Text(Vec<u8>);
    impl Bases for Text {
        fn base(&self, position: i64) -> Option<u8> {
            self.0.get(usize::try_from(position - 1).ok()?).copied()
        }
    }

    //                     1234567890123456789012345678901234567890
    const GENE: &[u8] = b"GGATGGCTTGGTAAGTTTTTTTTTTTTTCAGAAATAACCC";

    fn gene(strand: Strand) -> Transcript {
        let turned = |(start, end): (i64, i64)| match strand {
            Strand::Forward => (start, end),
            Strand::Reverse => (41 - end, 41 - start),
        };
        let exon = |span| {
            let (start, end) = turned(span);
            Exon { start, end }
        };
        let part = |span| {
            let (start, end) = turned(span);
            CdsPart { start, end, phase: 0 }
        };
        Transcript::new(
            "t",
            "g",
            strand,
            vec![exon((1, 11)), exon((32, 40))],
            vec![part((3, 11)), part((32, 37))],
        )
        .unwrap()
    }

    fn both_strands(gene_bases: &[u8], position: i64, r: &str, a: &str) -> Consequence {
        let got = of_indel(
            &Text(gene_bases.to_vec()),
            &gene(Strand::Forward),
            position,
            r.as_bytes(),
            a.as_bytes(),
        );
        let (turned_r, turned_a) =
            (dna::reverse_complement(r.as_bytes()), dna::reverse_complement(a.as_bytes()));
        let turned_position = 41 - (position + r.len() as i64 - 1);
        let bases = Text(dna::reverse_complement(gene_bases));
        let turned = of_indel(&bases, &gene(Strand::Reverse), turned_position, &turned_r, &turned_a);
        assert_eq!(got, turned, "{position} {r} {a}");
        got
    }

    #[test]
    fn every_term_of_both_strands() {
        use Consequence as C;
        for (position, r, a, expected) in [
            (6, "GC", "G", C::Frameshift),
            (8, "TT", "A", C::Frameshift),
            (6, "G", "GAAA", C::InframeInsertion),
            (6, "GCTT", "G", C::InframeDeletion),
            (5, "GGCT", "G", C::InframeDeletion),
            (5, "G", "GTAA", C::StopGained),
            (6, "GCT", "TGA", C::StopGained),
            (6, "GC", "GA", C::Missense),
            (6, "GC", "AA", C::Missense),
            (9, "TG", "CC", C::MissenseSpliceRegion),
            (3, "ATG", "A", C::StartLost),
            (2, "GA", "G", C::StartLost),
            (1, "GGATG", "C", C::StartLost),
            (3, "A", "AC", C::StartLost),
            (3, "ATG", "ACC", C::StartLost),
            (2, "G", "GCC", C::FivePrimeUtr),
            (35, "TA", "T", C::StopLost),
            (36, "AACC", "A", C::StopLost),
            (35, "TAA", "CAG", C::StopLost),
            (35, "TAA", "TGA", C::Synonymous),
            (35, "TAA", "A", C::StopLost),
            (37, "A", "AG", C::ThreePrimeUtr),
            (32, "AAATAAC", "C", C::StopLost),
            (3, "ATGGCTTGG", "C", C::StartLost),
            (9, "TGGTAA", "T", C::SpliceDonor),
            (11, "GT", "A", C::SpliceDonor),
            (12, "T", "TC", C::SpliceDonor),
            (30, "AGA", "A", C::SpliceAcceptor),
            (13, "A", "AC", C::SpliceRegionIntron),
            (20, "TT", "T", C::Intron),
        ] {
            assert_eq!(both_strands(GENE, position, r, a), expected, "{position} {r} {a}");
        }
    }

    #[test]
    fn what_an_insertion_at_a_junction_becomes_is_not_guessed() {
        assert_eq!(both_strands(GENE, 11, "G", "GA"), Consequence::Coding);
        assert_eq!(both_strands(GENE, 31, "G", "GA"), Consequence::Coding);
    }

    #[test]
    fn a_start_codon_that_the_bases_before_make_up_for_is_not_called_lost() {
        let mut run = GENE.to_vec();
        run[1] = b'A';
        assert_eq!(both_strands(&run, 3, "ATG", "TG"), Consequence::Coding);
        assert_eq!(both_strands(GENE, 3, "ATG", "TG"), Consequence::StartLost);
    }

    #[test]
    fn another_genetic_code_is_not_read() {
        let mitochondrial = gene(Strand::Forward).on_contig("chrM");
        let of = |p, r: &[u8], a: &[u8]| of_indel(&Text(GENE.to_vec()), &mitochondrial, p, r, a);
        assert_eq!(of(6, b"GCT", b"TGA"), Consequence::Coding);
        assert_eq!(of(6, b"GC", b"G"), Consequence::Frameshift);
        assert_eq!(of(7, b"C", b"A"), Consequence::Coding);
        assert_eq!(of(12, b"T", b"C"), Consequence::SpliceDonor);
    }
}
