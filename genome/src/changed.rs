//! What a change of several bases makes of a sequence and of the transcript over it.

use alloc::vec::Vec;

use crate::{
    Strand, Transcript,
    consequence::Bases,
    dna,
    transcript::{CdsPart, Exon},
};

/// A change without what its alleles share at their ends, such as VCF's anchor: the suffix goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Position of the first base removed; of an insertion, of the base after it.
    pub first: i64,
    /// Bases removed, on the forward strand.
    pub removed: &'a [u8],
    /// Bases put in their place.
    pub added: &'a [u8],
}

impl<'a> Edit<'a> {
    /// Trims alleles that begin at `position`.
    pub fn of(position: i64, ref_allele: &'a [u8], alt_allele: &'a [u8]) -> Self {
        let same = |(r, a): &(&u8, &u8)| r == a;
        let suffix = ref_allele.iter().rev().zip(alt_allele.iter().rev()).take_while(same).count();
        let (removed, added) =
            (&ref_allele[..ref_allele.len() - suffix], &alt_allele[..alt_allele.len() - suffix]);
        let prefix = removed.iter().zip(added).take_while(same).count();
        Self { first: position + prefix as i64, removed: &removed[prefix..], added: &added[prefix..] }
    }

    /// Position of the last base removed; of an insertion, of the base before it.
    pub const fn last(&self) -> i64 {
        self.first + self.removed.len() as i64 - 1
    }

    /// Bases by which everything after the change moves.
    const fn shift(&self) -> i64 {
        self.added.len() as i64 - self.removed.len() as i64
    }

    /// Position of the first base in sense that is changed, before the change and, in changed coordinates, after it: of
    /// what is removed and of what is added, or of the base that follows where there is none.
    pub const fn begins(&self, strand: Strand) -> (i64, i64) {
        match strand {
            Strand::Forward => (self.first, self.first),
            Strand::Reverse => (self.last(), self.first + self.added.len() as i64 - 1),
        }
    }

    /// The same change as near the end of the sequence, in sense, as it can be written: what is inserted or deleted within
    /// a repeat may be read at any of its units.
    pub fn settled(&self, bases: &dyn Bases, strand: Strand) -> Settled {
        let (mut first, mut removed, mut added) = (self.first, self.removed.to_vec(), self.added.to_vec());
        let moving = match (removed.is_empty(), added.is_empty()) {
            (false, true) => &mut removed,
            (true, false) => &mut added,
            _ => return Settled { first, removed, added },
        };
        let length = self.removed.len() as i64;
        loop {
            let (next, leaves) = match strand {
                Strand::Forward => (first + length, moving.first()),
                Strand::Reverse => (first - 1, moving.last()),
            };
            if leaves.is_none_or(|base| !dna::is_base(*base)) || bases.base(next) != leaves.copied() {
                return Settled { first, removed, added };
            }
            match strand {
                Strand::Forward => {
                    moving.rotate_left(1);
                    first += 1;
                }
                Strand::Reverse => {
                    moving.rotate_right(1);
                    first -= 1;
                }
            }
        }
    }

    /// The transcript on the changed sequence: parts grow, shrink and move, those that are gone are left out, and later
    /// coding parts are read in the frame that the change leaves. What is added at the edge of a part, or in place of
    /// it, lies outside. `None` where no exon is left.
    pub fn transcript(&self, transcript: &Transcript) -> Option<Transcript> {
        let exons = transcript.exons().iter().filter_map(|e| self.part(e.start, e.end));
        let exons: Vec<Exon> = exons.map(|(start, end)| Exon { start, end }).collect();
        let mut cds = Vec::new();
        let mut moved = 0;
        for part in transcript.cds_in_sense() {
            let left = self.part(part.start, part.end);
            if let Some((start, end)) = left {
                let phase = (i64::from(part.phase) - moved).rem_euclid(3) as u8;
                cds.push(CdsPart { start, end, phase });
            }
            moved += left.map_or(0, |(start, end)| end - start + 1) - (part.end - part.start + 1);
        }
        Transcript::new("", "", transcript.strand, exons, cds).ok()
    }

    fn part(&self, start: i64, end: i64) -> Option<(i64, i64)> {
        let (first, last) = (self.first, self.last());
        let inside = if self.removed.is_empty() {
            start < first && first <= end
        } else {
            start <= first && last <= end
        };
        let from = match start {
            _ if inside || start < first => start,
            _ if start > last => start + self.shift(),
            _ => first + self.added.len() as i64,
        };
        let to = match end {
            _ if inside || end > last => end + self.shift(),
            _ if end < first => end,
            _ => first - 1,
        };
        (from <= to).then_some((from, to))
    }
}

/// A change where [`Edit::settled`] puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    first: i64,
    removed: Vec<u8>,
    added: Vec<u8>,
}

impl Settled {
    /// The change.
    pub fn edit(&self) -> Edit<'_> {
        Edit { first: self.first, removed: &self.removed, added: &self.added }
    }
}

/// A sequence after a change, in coordinates that move with it.
pub struct Changed<'a> {
    /// The sequence before.
    pub bases: &'a dyn Bases,
    /// What is changed.
    pub edit: Edit<'a>,
}

impl Bases for Changed<'_> {
    fn base(&self, position: i64) -> Option<u8> {
        if position < self.edit.first {
            return self.bases.base(position);
        }
        let into = usize::try_from(position - self.edit.first).ok()?;
        match self.edit.added.get(into) {
            Some(&added) => Some(added),
            None => self.bases.base(position - self.edit.shift()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned, string::String};

    use super::*;

    fn gene(strand: Strand) -> Transcript {
        let turned = |(start, end): (i64, i64)| match strand {
            Strand::Forward => (start, end),
            Strand::Reverse => (101 - end, 101 - start),
        };
        let exons = [(11, 30), (51, 80)].map(turned).map(|(start, end)| Exon { start, end });
        let [a, b] = [(16, 30), (51, 68)].map(turned);
        let cds = [a, b].map(|(start, end)| CdsPart { start, end, phase: 0 });
        Transcript::new("t", "g", strand, exons.to_vec(), cds.to_vec()).unwrap()
    }

    /// Exons, and coding parts with phases.
    type Parts = (Vec<(i64, i64)>, Vec<(i64, i64, u8)>);

    /// Parts after a change, in forward coordinates of the gene's own sense.
    fn after(position: i64, r: &str, a: &str) -> Option<Parts> {
        let change = Edit::of(position, r.as_bytes(), a.as_bytes());
        let shown = |t: Transcript, length: i64| {
            let turn = |(start, end)| {
                if t.strand == Strand::Forward { (start, end) } else { (length - end, length - start) }
            };
            let mut exons: Vec<_> = t.exons().iter().map(|e| turn((e.start, e.end))).collect();
            let part = |c: &CdsPart| {
                let (start, end) = turn((c.start, c.end));
                (start, end, c.phase)
            };
            let mut cds: Vec<_> = t.cds().iter().map(part).collect();
            exons.sort_unstable();
            cds.sort_unstable();
            (exons, cds)
        };
        let forward = change.transcript(&gene(Strand::Forward)).map(|t| shown(t, 0));
        // The same change on the other strand, whose alleles need not be turned: only their lengths count.
        let turned = Edit { first: 101 - change.last(), ..change };
        let reverse = turned.transcript(&gene(Strand::Reverse)).map(|t| shown(t, 101 + change.shift()));
        assert_eq!(forward, reverse, "{position} {r} {a}");
        forward
    }

    #[test]
    fn parts_grow_shrink_and_move_and_later_frames_shift_on_both_strands() {
        let whole = (vec![(11, 30), (51, 80)], vec![(16, 30, 0), (51, 68, 0)]);
        assert_eq!(
            after(40, "ACG", "A").unwrap(),
            (vec![(11, 30), (49, 78)], vec![(16, 30, 0), (49, 66, 0)])
        );
        assert_eq!(after(20, "A", "AC").unwrap(), (vec![(11, 31), (52, 81)], vec![(16, 31, 0), (52, 69, 2)]));
        assert_eq!(
            after(20, "ACG", "A").unwrap(),
            (vec![(11, 28), (49, 78)], vec![(16, 28, 0), (49, 66, 2)])
        );
        assert_eq!(after(20, "ACGT", "A").unwrap().1, [(16, 27, 0), (48, 65, 0)], "a whole codon");
        assert_eq!(after(85, "AC", "A").unwrap(), whole);
        assert_eq!(after(70, "AC", "GT").unwrap(), whole, "a replacement of the same length");
    }

    #[test]
    fn what_lies_at_an_edge_is_outside_and_what_spans_it_is_clipped() {
        // Between the last exonic and the first intronic base.
        assert_eq!(after(30, "A", "ACC").unwrap().0, [(11, 30), (53, 82)]);
        assert_eq!(after(50, "A", "ACC").unwrap().0, [(11, 30), (53, 82)]);
        assert_eq!(after(29, "ACGTA", "T").unwrap().0, [(11, 28), (47, 76)]);
        assert_eq!(after(29, "ACGTA", "T").unwrap().1, [(16, 28, 0), (47, 64, 2)]);
        // The first exon is gone, and the coding part in it.
        let deleted = "A".repeat(26);
        assert_eq!(after(8, &deleted, "C").unwrap().1, [(26, 43, 0)]);
        assert_eq!(after(1, &"A".repeat(90), "C"), None);
    }

    struct Text(&'static [u8]);
    impl Bases for Text {
        fn base(&self, position: i64) -> Option<u8> {
            self.0.get(usize::try_from(position - 1).ok()?).copied()
        }
    }

    #[test]
    fn the_changed_sequence_is_the_sequence_with_the_change_applied() {
        let of = |position, r: &str, a: &str| {
            let change = Edit::of(position, r.as_bytes(), a.as_bytes());
            let changed = Changed { bases: &Text(b"ACGTTGCA"), edit: change };
            String::from_utf8((1..).map_while(|p| changed.base(p)).collect()).unwrap()
        };
        assert_eq!(of(3, "GTT", "G"), "ACGGCA");
        assert_eq!(of(3, "G", "GAA"), "ACGAATTGCA");
        assert_eq!(of(1, "AC", "TTT"), "TTTGTTGCA");
        assert_eq!(of(8, "A", "AG"), "ACGTTGCAG");
    }

    #[test]
    fn a_change_within_a_repeat_settles_at_its_end_in_sense() {
        let of = |position, r: &str, a: &str, strand| {
            let settled =
                Edit::of(position, r.as_bytes(), a.as_bytes()).settled(&Text(b"CATATATGGGC"), strand);
            let text = |bases: &[u8]| String::from_utf8(bases.to_vec()).unwrap();
            (settled.first, text(&settled.removed), text(&settled.added))
        };
        let (forward, reverse) = (Strand::Forward, Strand::Reverse);
        let deleted = |first, bases: &str| (first, bases.to_owned(), String::new());
        for (position, r, a) in [(1, "CAT", "C"), (2, "ATA", "A"), (5, "TAT", "T"), (6, "AT", "")] {
            assert_eq!(of(position, r, a, forward), deleted(6, "AT"), "{position}");
            assert_eq!(of(position, r, a, reverse), deleted(2, "AT"), "{position}");
        }
        assert_eq!(of(7, "T", "TG", forward), (11, String::new(), "G".into()));
        assert_eq!(of(10, "G", "GG", reverse), (8, String::new(), "G".into()));
        assert_eq!(of(9, "GG", "T", forward), (9, "GG".into(), "T".into()), "a replacement stays");
        assert_eq!(Edit::of(12, b"", b"G").settled(&Text(b"GGGGGGGGGGG"), reverse).first, 1);
    }

    #[test]
    fn what_alleles_share_is_not_the_change() {
        let trimmed = Edit::of(5, b"GCTT", b"GT");
        assert_eq!(trimmed, Edit { first: 6, removed: b"CT", added: b"" });
        assert_eq!(Edit::of(4, b"AGCTTAA", b"AGTAA"), trimmed);
        assert_eq!(Edit::of(7, b"GC", b"GA"), Edit { first: 8, removed: b"C", added: b"A" });
        assert_eq!(Edit::of(7, b"G", b"GA"), Edit { first: 8, removed: b"", added: b"A" });
    }
}
