//! What lies around a change: bases, what each of them is, and their codons; for people, in the sense that the model reads.

use alloc::vec::Vec;

use crate::{
    Strand, Transcript,
    changed::Edit,
    codon,
    consequence::{Bases, codon_at},
    dna,
    encode::{Allele, Stretch},
    transcript::{ExonPart, Site},
    window::track_code,
};

/// Codons of one stretch at most: a base more at either end.
const MAX_CODONS: usize = 64;

/// Bases around a change. Offsets count from the first base that is removed, or that follows what is inserted, in sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether sense is that of the bases as they are given.
    pub strand: Strand,
    /// Offset of the first base.
    pub first: i64,
    /// The bases, in sense.
    pub bases: Vec<u8>,
    /// Track code of each of them, as in the graph contract.
    pub track: Vec<u8>,
    /// What is removed, in sense.
    pub removed: Vec<u8>,
    /// What comes in its place.
    pub added: Vec<u8>,
    /// Every codon of which a base is among them, in sense.
    pub codons: Vec<Codon>,
}

/// A codon whose bases are all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codon {
    /// Where its bases are; an intron may lie between them.
    pub offsets: [i64; 3],
    /// Its bases.
    pub bases: [u8; 3],
    /// Its residue; `*` for stop.
    pub residue: u8,
    /// Which residue it is, counted from 1.
    pub number: i64,
    /// What a change of one base makes of it.
    pub changed: Option<([u8; 3], u8)>,
}

impl Surroundings {
    /// At most `reach` bases on each side of a change.
    pub fn of(
        stretch: &Stretch<'_>,
        allele: &Allele<'_>,
        transcript: Option<&Transcript>,
        reach: i64,
    ) -> Self {
        let edit = Edit::of(allele.position, allele.ref_allele, allele.alt_allele);
        let strand = transcript.map_or(Strand::Forward, |transcript| transcript.strand);
        let anchor = edit.begins(strand).0;
        let sense = if strand == Strand::Forward { 1 } else { -1 };
        let oriented = |bases: &[u8]| match strand {
            Strand::Forward => bases.to_vec(),
            Strand::Reverse => dna::reverse_complement(bases),
        };
        let at = |offset: i64| anchor + sense * offset;
        let last = edit.removed.len().saturating_sub(1) as i64 + reach;
        let known: Vec<(i64, u8)> = (-reach..=last)
            .filter_map(|offset| Some((offset, stretch.base(at(offset))?)))
            .map(|(offset, base)| (offset, if sense == 1 { base } else { dna::complement(base) }))
            .collect();
        let offset_of = |position: i64| sense * (position - anchor);
        let mut codons: Vec<Codon> = Vec::new();
        if let Some(transcript) = transcript.filter(|transcript| transcript.standard_code()) {
            let mut before = None;
            for (offset, _) in &known {
                let Site::Exon { part: ExonPart::Coding { index, codon_base }, .. } =
                    transcript.site(at(*offset))
                else {
                    continue;
                };
                let start = index - i64::from(codon_base);
                if before.replace(start) != Some(start) && codons.len() < MAX_CODONS {
                    codons.extend(read_codon(stretch, transcript, start, &edit, &offset_of));
                }
            }
        }
        Self {
            strand,
            first: known.first().map_or(0, |(offset, _)| *offset),
            track: known
                .iter()
                .map(|(offset, _)| transcript.map_or(0, |transcript| track_code(transcript, at(*offset))))
                .collect(),
            bases: known.into_iter().map(|(_, base)| base).collect(),
            removed: oriented(edit.removed),
            added: oriented(edit.added),
            codons,
        }
    }
}

fn read_codon(
    stretch: &Stretch<'_>,
    transcript: &Transcript,
    start: i64,
    edit: &Edit<'_>,
    offset_of: &dyn Fn(i64) -> i64,
) -> Option<Codon> {
    let offsets = transcript.codon_positions(start)?.map(offset_of);
    let bases = codon_at(stretch, transcript, start)?;
    // A coding sequence that starts within a codon (phase 1 or 2) has an incomplete first residue.
    let lead = start.rem_euclid(3);
    let mut changed = None;
    if let (&[_], &[alt]) = (edit.removed, edit.added)
        && let Some(place) = offsets.iter().position(|offset| *offset == 0)
    {
        let mut after = bases;
        after[place] = if transcript.strand == Strand::Forward { alt } else { dna::complement(alt) };
        changed = codon::translate(after).map(|residue| (after, residue));
    }
    Some(Codon {
        offsets,
        bases,
        residue: codon::translate(bases)?,
        number: (start - lead) / 3 + 1 + i64::from(lead != 0),
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CdsPart, Exon, consequence::codon_change};

    /// Two exons with an intron of ten bases between them; a codon is cut by it.
    fn transcript(strand: Strand) -> Transcript {
        let exons = [Exon { start: 11, end: 24 }, Exon { start: 35, end: 60 }];
        let phases = if strand == Strand::Forward { (0, 1) } else { (1, 0) };
        let cds = [
            CdsPart { start: 14, end: 24, phase: phases.0 },
            CdsPart { start: 35, end: 51, phase: phases.1 },
        ];
        Transcript::new("t", "G", strand, exons.to_vec(), cds.to_vec()).unwrap()
    }

    const BASES: &[u8] = b"ACGGTCATTGCAACGGTCATTGCAACGGTCATTGCAACGGTCATTGCAACGGTCATTGCAACGGTCATT";

    #[test]
    fn bases_tracks_and_codons_are_those_that_the_consequence_is_read_from() {
        let stretch = Stretch { bases: BASES, first: 1 };
        for strand in [Strand::Forward, Strand::Reverse] {
            let transcript = transcript(strand);
            let mut coding = 0;
            for position in 12..58_i64 {
                let reference = BASES[position as usize - 1];
                for alt in b"ACGT".iter().filter(|alt| **alt != reference) {
                    let allele = Allele { position, ref_allele: &[reference], alt_allele: &[*alt] };
                    let around = Surroundings::of(&stretch, &allele, Some(&transcript), 9);
                    let at = |offset: i64| (offset - around.first) as usize;
                    assert_eq!((around.bases.len(), around.track.len()), (19, 19));
                    assert_eq!(around.bases[at(0)], around.removed[0]);
                    for codon in &around.codons {
                        for (offset, base) in codon.offsets.iter().zip(codon.bases) {
                            if let Some(shown) = around.bases.get((*offset - around.first) as usize) {
                                assert_eq!(*shown, base);
                            }
                        }
                    }
                    let changed: Vec<&Codon> =
                        around.codons.iter().filter(|codon| codon.changed.is_some()).collect();
                    let expected = codon_change(&stretch, &transcript, position, *alt);
                    assert_eq!(changed.len(), usize::from(expected.is_some()), "{strand:?} {position}");
                    if let (Some(expected), [codon]) = (expected, changed.as_slice()) {
                        coding += 1;
                        let after = codon.changed.unwrap();
                        assert_eq!((codon.residue, after.1), (expected.ref_residue, expected.alt_residue));
                        assert_eq!(codon.number, expected.residue);
                    }
                }
            }
            assert!(coding > 50, "{coding}");
        }
    }

    #[test]
    fn what_is_inserted_or_removed_is_told_in_sense_and_ends_of_the_bases_are_kept() {
        let stretch = Stretch { bases: BASES, first: 1 };
        let of = |position: i64, reference: &[u8], alt: &[u8], transcript: Option<&Transcript>| {
            let allele = Allele { position, ref_allele: reference, alt_allele: alt };
            Surroundings::of(&stretch, &allele, transcript, 5)
        };
        let deletion = of(20, b"TTG", b"T", None);
        assert_eq!((deletion.removed.as_slice(), deletion.added.as_slice()), (&b"TG"[..], &b""[..]));
        assert_eq!((deletion.first, deletion.bases.len()), (-5, 12));
        assert_eq!(deletion.bases, BASES[15..27]);
        assert!(deletion.codons.is_empty() && deletion.track.iter().all(|code| *code == 0));
        let reverse = transcript(Strand::Reverse);
        let insertion = of(40, b"G", b"GAC", Some(&reverse));
        assert_eq!((insertion.removed.as_slice(), insertion.added.as_slice()), (&b""[..], &b"GT"[..]));
        assert!(insertion.codons.iter().all(|codon| codon.changed.is_none()) && !insertion.codons.is_empty());
        let end = of(2, b"C", b"A", None);
        assert_eq!((end.first, end.bases.len()), (-1, 7));
    }
}
