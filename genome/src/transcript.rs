//! Transcript structure: exons, coding parts with phase, and where a position lies in them.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{EncodeError, codon::is_mitochondrial};

/// The strand a transcript is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Strand {
    /// As the sequence is written.
    #[serde(rename = "+")]
    Forward,
    /// The reverse complement.
    #[serde(rename = "-")]
    Reverse,
}

/// One exon: 1-based inclusive coordinates of the sequence in hand, which may lie beyond its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exon {
    /// First base.
    pub start: i64,
    /// Last base.
    pub end: i64,
}

/// One coding part of an exon, with its phase as in GFF3: the number of bases, in the transcript's
/// sense, to skip to the next codon's first base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CdsPart {
    /// First base.
    pub start: i64,
    /// Last base.
    pub end: i64,
    /// 0, 1 or 2.
    pub phase: u8,
}

/// A transcript whose parts are sorted and do not contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Identifier, empty where the asker gave none.
    pub id: String,
    /// Gene symbol, empty where unknown.
    pub gene: String,
    /// Strand it is read on.
    pub strand: Strand,
    exons: Vec<Exon>,
    cds: Vec<CdsPart>,
    standard_code: bool,
}

/// What a position is, as the track codes of the graph contract name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Before the first exon, in the transcript's sense.
    Upstream,
    /// After the last exon.
    Downstream,
    /// In an intron: bases to the exon before (donor side) and after (acceptor side), from 1.
    Intron {
        /// Distance to the last base of the exon before it, in sense.
        from_donor: i64,
        /// Distance to the first base of the exon after it, in sense.
        from_acceptor: i64,
    },
    /// In an exon.
    Exon {
        /// Bases to the nearest junction with an intron, from 1 (the exon's edge base), if there is one.
        from_junction: Option<i64>,
        /// What the exonic base is.
        part: ExonPart,
    },
}

/// What an exonic base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExonPart {
    /// Before the coding sequence.
    FivePrimeUtr,
    /// After it.
    ThreePrimeUtr,
    /// The transcript codes for nothing.
    NonCoding,
    /// Coding: 0-based index in the spliced coding sequence, and place in the codon (0, 1, 2).
    Coding {
        /// Index in the coding sequence, in sense.
        index: i64,
        /// 0 = first base of its codon.
        codon_base: u8,
    },
}

/// Most exons a transcript may have: titin has 363.
pub const MAX_EXONS: usize = 1_000;

impl Transcript {
    /// Sorts the parts and checks them. A gene named as HGNC names those of the mitochondrion (`MT-ND1`) is
    /// taken for one.
    ///
    /// # Errors
    /// `BadTranscript` where there is no exon or too many, an end before its start, an overlap, a phase
    /// over 2, or a coding part outside every exon.
    pub fn new(
        id: impl Into<String>,
        gene: impl Into<String>,
        strand: Strand,
        mut exons: Vec<Exon>,
        mut cds: Vec<CdsPart>,
    ) -> Result<Self, EncodeError> {
        let bad = |reason| Err(EncodeError::BadTranscript { reason });
        if exons.is_empty() {
            return bad("it has no exon");
        }
        if exons.len() > MAX_EXONS || cds.len() > MAX_EXONS {
            return bad("it has more than 1,000 exons");
        }
        let edge = i64::MAX / 4;
        if exons.iter().any(|e| e.end < e.start || e.start < -edge || e.end > edge) {
            return bad("an exon ends before it starts, or lies beyond any genome");
        }
        if cds.iter().any(|c| c.end < c.start) {
            return bad("a coding part ends before it starts");
        }
        if cds.iter().any(|c| c.phase > 2) {
            return bad("a phase is not 0, 1 or 2");
        }
        exons.sort_by_key(|e| e.start);
        cds.sort_by_key(|c| c.start);
        if exons.windows(2).any(|w| w[1].start <= w[0].end) || cds.windows(2).any(|w| w[1].start <= w[0].end)
        {
            return bad("two of its parts overlap");
        }
        if cds.iter().any(|c| !exons.iter().any(|e| e.start <= c.start && c.end <= e.end)) {
            return bad("a coding part lies outside every exon");
        }
        let gene = gene.into();
        let standard_code = !gene.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("MT-"));
        Ok(Self { id: id.into(), gene, strand, exons, cds, standard_code })
    }

    /// The same transcript on a contig, whose genetic code is then known.
    #[must_use]
    pub fn on_contig(mut self, contig: &str) -> Self {
        self.standard_code &= !is_mitochondrial(contig);
        self
    }

    /// Whether the standard genetic code reads it; no other one is known here.
    pub const fn standard_code(&self) -> bool {
        self.standard_code
    }

    /// Whether each coding part's phase is what the parts before it leave over. Where it is not, codons are still
    /// read inside the parts, each by its own phase, but not across the contradiction.
    pub fn phases_agree(&self) -> bool {
        let mut expected = None;
        self.cds_in_sense().all(|part| {
            let len = part.end - part.start + 1;
            let agrees = expected.is_none_or(|phase| phase == i64::from(part.phase));
            expected = Some((i64::from(part.phase) - len).rem_euclid(3));
            agrees
        })
    }

    /// Exons by ascending start.
    pub fn exons(&self) -> &[Exon] {
        &self.exons
    }

    /// Coding parts by ascending start.
    pub fn cds(&self) -> &[CdsPart] {
        &self.cds
    }

    /// First and last base of the transcript.
    pub fn span(&self) -> (i64, i64) {
        (self.exons[0].start, self.exons[self.exons.len() - 1].end)
    }

    /// The same transcript with every coordinate moved by `by`.
    #[must_use]
    pub fn shifted(&self, by: i64) -> Self {
        let mut moved = self.clone();
        for e in &mut moved.exons {
            e.start += by;
            e.end += by;
        }
        for c in &mut moved.cds {
            c.start += by;
            c.end += by;
        }
        moved
    }

    /// Coding parts in the transcript's sense.
    pub(crate) fn cds_in_sense(&self) -> impl Iterator<Item = &CdsPart> {
        let reverse = self.strand == Strand::Reverse;
        let n = self.cds.len();
        (0..n).map(move |i| &self.cds[if reverse { n - 1 - i } else { i }])
    }

    /// Number of coding bases.
    pub fn cds_len(&self) -> i64 {
        self.cds.iter().map(|c| c.end - c.start + 1).sum()
    }

    /// Position of the base at `index` of the spliced coding sequence.
    pub fn cds_position(&self, index: i64) -> Option<i64> {
        let mut left = index;
        if left < 0 {
            return None;
        }
        for part in self.cds_in_sense() {
            let len = part.end - part.start + 1;
            if left < len {
                return Some(match self.strand {
                    Strand::Forward => part.start + left,
                    Strand::Reverse => part.end - left,
                });
            }
            left -= len;
        }
        None
    }

    /// Positions of the codon that starts at `index` of the spliced coding sequence; `None` beyond its ends and
    /// where the phases do not make these three bases one codon.
    pub(crate) fn codon_positions(&self, index: i64) -> Option<[i64; 3]> {
        if index < 0 {
            return None;
        }
        let (mut positions, mut found, mut into) = ([0; 3], 0, index);
        for part in self.cds_in_sense() {
            let len = part.end - part.start + 1;
            while into < len {
                if (into - i64::from(part.phase)).rem_euclid(3) != found as i64 {
                    return None;
                }
                positions[found] = match self.strand {
                    Strand::Forward => part.start + into,
                    Strand::Reverse => part.end - into,
                };
                (found, into) = (found + 1, into + 1);
                if found == positions.len() {
                    return Some(positions);
                }
            }
            into -= len;
        }
        None
    }

    fn coding(&self, position: i64) -> Option<ExonPart> {
        let mut before = 0;
        for part in self.cds_in_sense() {
            if part.start <= position && position <= part.end {
                let into = match self.strand {
                    Strand::Forward => position - part.start,
                    Strand::Reverse => part.end - position,
                };
                let codon_base = (into - i64::from(part.phase)).rem_euclid(3) as u8;
                return Some(ExonPart::Coding { index: before + into, codon_base });
            }
            before += part.end - part.start + 1;
        }
        None
    }

    fn exonic(&self, position: i64) -> ExonPart {
        if let Some(part) = self.coding(position) {
            return part;
        }
        let (Some(first), Some(last)) = (self.cds.first(), self.cds.last()) else {
            return ExonPart::NonCoding;
        };
        let before = position < first.start;
        let after = position > last.end;
        match (self.strand, before, after) {
            (Strand::Forward, true, _) | (Strand::Reverse, _, true) => ExonPart::FivePrimeUtr,
            (Strand::Forward, _, true) | (Strand::Reverse, true, _) => ExonPart::ThreePrimeUtr,
            // An exonic base between coding parts that is not coding itself: an annotated frameshift.
            _ => ExonPart::NonCoding,
        }
    }

    /// What `position` is in this transcript.
    pub fn site(&self, position: i64) -> Site {
        let (first, last) = self.span();
        let forward = self.strand == Strand::Forward;
        if position < first {
            return if forward { Site::Upstream } else { Site::Downstream };
        }
        if position > last {
            return if forward { Site::Downstream } else { Site::Upstream };
        }
        let next = self.exons.partition_point(|e| e.end < position);
        let exon = self.exons[next];
        if position < exon.start {
            let (left, right) = (position - self.exons[next - 1].end, exon.start - position);
            let (from_donor, from_acceptor) = if forward { (left, right) } else { (right, left) };
            return Site::Intron { from_donor, from_acceptor };
        }
        let left = (next > 0).then(|| position - exon.start + 1);
        let right = (next + 1 < self.exons.len()).then(|| exon.end - position + 1);
        let from_junction = match (left, right) {
            (Some(l), Some(r)) => Some(l.min(r)),
            (one, other) => one.or(other),
        };
        Site::Exon { from_junction, part: self.exonic(position) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_codon_is_three_bases_of_the_coding_sequence_that_are_its_first_second_and_third(
            parts in prop::collection::vec((1_i64..9, 1_i64..5, 0_u8..3), 1..6), reverse: bool, index in -4_i64..40,
        ) {
            let (mut start, mut exons, mut cds) = (1, Vec::new(), Vec::new());
            for (length, gap, phase) in parts {
                let end = start + length - 1;
                exons.push(Exon { start, end });
                cds.push(CdsPart { start, end, phase });
                start = end + gap + 1;
            }
            let strand = if reverse { Strand::Reverse } else { Strand::Forward };
            let t = Transcript::new("t", "g", strand, exons, cds).unwrap();
            let each = [0, 1, 2].map(|place| {
                let position = t.cds_position(index + i64::from(place))?;
                let here = matches!(t.coding(position)?, ExonPart::Coding { codon_base, .. } if codon_base == place);
                here.then_some(position)
            });
            let expected = match each {
                [Some(first), Some(second), Some(third)] => Some([first, second, third]),
                _ => None,
            };
            prop_assert_eq!(t.codon_positions(index), expected);
        }
    }

    fn two_exons(strand: Strand) -> Transcript {
        let exons = [Exon { start: 30, end: 40 }, Exon { start: 10, end: 20 }];
        let (left, right) = if strand == Strand::Forward { (0, 1) } else { (2, 0) };
        let cds = [CdsPart { start: 13, end: 20, phase: left }, CdsPart { start: 30, end: 36, phase: right }];
        Transcript::new("t", "g", strand, exons.to_vec(), cds.to_vec()).unwrap()
    }

    #[test]
    fn sites_of_a_forward_transcript() {
        let t = two_exons(Strand::Forward);
        assert_eq!(t.site(9), Site::Upstream);
        assert_eq!(t.site(41), Site::Downstream);
        assert_eq!(t.site(22), Site::Intron { from_donor: 2, from_acceptor: 8 });
        assert!(matches!(t.site(10), Site::Exon { part: ExonPart::FivePrimeUtr, from_junction: Some(11) }));
        assert_eq!(
            t.site(30),
            Site::Exon { from_junction: Some(1), part: ExonPart::Coding { index: 8, codon_base: 2 } }
        );
        assert!(matches!(t.site(37), Site::Exon { part: ExonPart::ThreePrimeUtr, .. }));
    }

    #[test]
    fn sites_of_a_reverse_transcript_mirror() {
        let t = two_exons(Strand::Reverse);
        assert_eq!(t.site(9), Site::Downstream);
        assert_eq!(t.site(22), Site::Intron { from_donor: 8, from_acceptor: 2 });
        assert!(matches!(t.site(40), Site::Exon { part: ExonPart::FivePrimeUtr, .. }));
        assert_eq!(
            t.site(36),
            Site::Exon { from_junction: Some(7), part: ExonPart::Coding { index: 0, codon_base: 0 } }
        );
        assert_eq!(t.cds_position(7), Some(20));
    }

    #[test]
    fn coding_index_and_position_are_inverse() {
        for t in [two_exons(Strand::Forward), two_exons(Strand::Reverse)] {
            for i in 0..t.cds_len() {
                let p = t.cds_position(i).unwrap();
                assert!(
                    matches!(t.site(p), Site::Exon { part: ExonPart::Coding { index, .. }, .. } if index == i)
                );
            }
            assert_eq!(t.cds_position(t.cds_len()), None);
        }
    }

    #[test]
    fn phases_that_contradict_the_parts_are_seen_and_no_codon_is_read_across() {
        for strand in [Strand::Forward, Strand::Reverse] {
            let good = two_exons(strand);
            assert!(good.phases_agree());
            assert!((0..15).step_by(3).all(|i| good.codon_positions(i).is_some()));
            let mut cds = good.cds().to_vec();
            let (second, first) = if strand == Strand::Forward { (1, 8) } else { (0, 7) };
            cds[second].phase = 0;
            let bad = Transcript::new("t", "g", strand, good.exons().to_vec(), cds).unwrap();
            assert!(!bad.phases_agree());
            assert_eq!(bad.codon_positions(0), good.codon_positions(0));
            assert_eq!(bad.codon_positions(6), None, "across the contradiction");
            assert_eq!(bad.codon_positions(9), None, "in the other part's frame");
            assert!(bad.codon_positions(first).is_some(), "in its own frame");
        }
    }

    #[test]
    fn mitochondrial_genes_are_known_by_contig_or_name() {
        let of =
            |gene: &str| Transcript::new("t", gene, Strand::Forward, vec![Exon { start: 1, end: 9 }], vec![]);
        for contig in ["M", "MT", "chrM", "chrMT", "NC_012920.1"] {
            assert!(!of("ND1").unwrap().on_contig(contig).standard_code(), "{contig}");
        }
        assert!(!of("MT-ND1").unwrap().standard_code());
        assert!(of("MT1A").unwrap().on_contig("chr16").standard_code());
    }

    #[test]
    fn contradictions_are_refused() {
        let e = |start, end| Exon { start, end };
        let c = |start, end, phase| CdsPart { start, end, phase };
        for (exons, cds) in [
            (vec![], vec![]),
            (vec![e(5, 4)], vec![]),
            (vec![e(1, 5), e(5, 9)], vec![]),
            (vec![e(1, 5)], vec![c(1, 6, 0)]),
            (vec![e(1, 5)], vec![c(1, 5, 3)]),
            (vec![e(i64::MIN, i64::MAX)], vec![]),
        ] {
            assert!(Transcript::new("", "", Strand::Forward, exons, cds).is_err());
        }
    }
}
