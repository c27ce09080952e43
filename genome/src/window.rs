//! The stretch around a variant, in the transcript's sense, with what each of its bases is.

use alloc::vec::Vec;

use crate::{
    changed::{Changed, Edit},
    consequence::Bases,
    dna,
    tokenizer::{CLS, KmerTokenizer, SEP},
    transcript::{ExonPart, Site, Strand, Transcript},
};

/// Track codes of the graph contract.
pub const TRACK_CODES: [&str; 9] = [
    "unknown",
    "intergenic",
    "intron",
    "splice_site",
    "five_prime_utr",
    "three_prime_utr",
    "cds_phase_0",
    "cds_phase_1",
    "cds_phase_2",
];

const INTERGENIC: u8 = 1;

/// Track code of a position.
pub fn track_code(transcript: &Transcript, position: i64) -> u8 {
    match transcript.site(position) {
        Site::Upstream | Site::Downstream => 1,
        Site::Intron { from_donor, from_acceptor } if from_donor.min(from_acceptor) <= 2 => 3,
        Site::Intron { .. } => 2,
        Site::Exon { part: ExonPart::FivePrimeUtr, .. } => 4,
        Site::Exon { part: ExonPart::ThreePrimeUtr, .. } => 5,
        Site::Exon { part: ExonPart::NonCoding, .. } => 0,
        Site::Exon { part: ExonPart::Coding { codon_base, .. }, .. } => 6 + codon_base,
    }
}

/// Most bases before and after the one that a window is about.
const fn sides(width: usize) -> (i64, i64) {
    let left = (width.saturating_sub(1) / 2) as i64;
    (left, width as i64 - 1 - left)
}

const fn moved(position: i64, strand: Strand, sense: i64) -> i64 {
    match strand {
        Strand::Forward => position + sense,
        Strand::Reverse => position - sense,
    }
}

/// How many of `most` bases from an offset on, in sense, are known without a gap.
fn known(bases: &dyn Bases, at: (i64, Strand), (from, step): (i64, i64), most: i64) -> i64 {
    let base = |n| bases.base(moved(at.0, at.1, from + step * n));
    (0..most).take_while(|&n| base(n).is_some_and(dna::is_base)).count() as i64
}

/// Both windows of a change of several bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditWindows {
    /// Before the change.
    pub reference: Window,
    /// After it, with the track of the changed transcript.
    pub alternate: Window,
    /// Whether it was an ambiguous base that cut them.
    pub ambiguous: bool,
}

/// Known bases around a position, in sense, with the position's offset among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Upper-case IUPAC codes in sense.
    pub bases: Vec<u8>,
    /// Offset of the variant's base.
    pub centre: usize,
    /// Track code of each base; all 0 without a transcript.
    pub track: Vec<u8>,
}

impl Window {
    /// At most `width` bases centred on `position`, cut on both sides alike where bases are not known on one: a
    /// model that was trained on centred windows must not read a lopsided one. An ambiguous base is not known.
    pub fn around(
        bases: &dyn Bases,
        position: i64,
        width: usize,
        strand: Strand,
        transcript: Option<&Transcript>,
    ) -> Self {
        let (left, right) = sides(width);
        let before = known(bases, (position, strand), (-1, -1), left);
        let after = known(bases, (position, strand), (1, 1), right);
        let sides = if before == left && after == right {
            (left, right)
        } else {
            (before.min(after), before.min(after))
        };
        Self::of_sides(bases, position, sides, strand, transcript)
    }

    /// Both windows of a change of several bases: the same bases before its first base, in sense, then what was there
    /// and what is there now, to the same width. They are cut on both sides alike where bases are not known on one, as
    /// for a change of one base, of which these windows are those of [`Window::around`].
    pub fn of_edit(
        bases: &dyn Bases,
        edit: &Edit<'_>,
        width: usize,
        strand: Strand,
        transcript: Option<&Transcript>,
    ) -> EditWindows {
        let changed = Changed { bases, edit: *edit };
        let (reference, alternate) = edit.begins(strand);
        let (left, right) = sides(width);
        let before = known(bases, (reference, strand), (-1, -1), left);
        let both = [(bases, reference), (&changed as &dyn Bases, alternate)];
        let [of_reference, of_alternate] =
            both.map(|(bases, position)| known(bases, (position, strand), (0, 1), right + 1));
        let after = of_reference.min(of_alternate) - 1;
        let sides = if before == left && after == right {
            (left, right)
        } else {
            (before.min(after), before.min(after))
        };
        let stopped = |bases: &dyn Bases, position, sense, most: i64| {
            let next = bases.base(moved(position, strand, sense));
            sense.abs() <= most && next.is_some_and(|b| !dna::is_base(b))
        };
        let ambiguous = stopped(bases, reference, -before - 1, left)
            || stopped(bases, reference, of_reference, right)
            || stopped(&changed, alternate, of_alternate, right);
        let after_it = transcript.and_then(|t| edit.transcript(t));
        let mut now = Self::of_sides(&changed, alternate, sides, strand, after_it.as_ref());
        if transcript.is_some() && after_it.is_none() {
            now.track.fill(INTERGENIC);
        }
        EditWindows {
            reference: Self::of_sides(bases, reference, sides, strand, transcript),
            alternate: now,
            ambiguous,
        }
    }

    /// `before` and `after` bases beside a position; none at all where `after` is below 0.
    fn of_sides(
        bases: &dyn Bases,
        position: i64,
        (before, after): (i64, i64),
        strand: Strand,
        transcript: Option<&Transcript>,
    ) -> Self {
        let at = |sense| moved(position, strand, sense);
        let (first, last) = (-before, after);
        let read = |sense: i64| {
            let b = bases.base(at(sense)).unwrap_or(b'N');
            if strand == Strand::Forward { b } else { dna::complement(b) }
        };
        Self {
            bases: (first..=last).map(read).collect(),
            centre: first.unsigned_abs() as usize,
            track: (first..=last).map(|s| transcript.map_or(0, |t| track_code(t, at(s)))).collect(),
        }
    }

    /// Token ids with [CLS] and [SEP].
    pub fn ids(&self, tokenizer: &KmerTokenizer) -> Vec<i64> {
        let kmers = tokenizer.encode(&self.bases);
        core::iter::once(CLS).chain(kmers).chain(core::iter::once(SEP)).map(i64::from).collect()
    }

    /// Track code per token: that of base ⌊k/2⌋ of each k-mer, 0 for [CLS] and [SEP].
    pub fn token_track(&self, tokenizer: &KmerTokenizer) -> Vec<i64> {
        let middle = tokenizer.k() / 2;
        let codes =
            self.track.windows(tokenizer.k()).step_by(tokenizer.stride()).map(|w| i64::from(w[middle]));
        core::iter::once(0).chain(codes).chain(core::iter::once(0)).collect()
    }

    /// The same window with another base at its centre (`alt` in sense).
    #[must_use]
    pub fn with_centre(&self, alt: u8) -> Self {
        let mut changed = self.clone();
        changed.bases[self.centre] = alt;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(&'static [u8]);
    impl Bases for Text {
        fn base(&self, position: i64) -> Option<u8> {
            self.0.get(usize::try_from(position - 1).ok()?).copied()
        }
    }

    #[test]
    fn a_window_is_centred_and_clipped_at_the_ends() {
        let w = Window::around(&Text(b"ACGTTGCA"), 4, 5, Strand::Forward, None);
        assert_eq!((w.bases.as_slice(), w.centre), (b"CGTTG".as_slice(), 2));
        let w = Window::around(&Text(b"ACGTTGCA"), 2, 5, Strand::Forward, None);
        assert_eq!((w.bases.as_slice(), w.centre), (b"ACG".as_slice(), 1), "and stays centred");
    }

    #[test]
    fn an_ambiguous_base_ends_a_window_as_the_end_of_the_sequence_does() {
        let w = Window::around(&Text(b"ACGTTGCANN"), 5, 9, Strand::Forward, None);
        assert_eq!((w.bases.as_slice(), w.centre), (b"CGTTGCA".as_slice(), 3));
        let w = Window::around(&Text(b"NNNNTNNNN"), 5, 9, Strand::Reverse, None);
        assert_eq!((w.bases.as_slice(), w.centre), (b"A".as_slice(), 0));
    }

    #[test]
    fn the_reverse_window_is_the_reverse_complement() {
        let f = Window::around(&Text(b"ACGTTGCA"), 4, 5, Strand::Forward, None);
        let r = Window::around(&Text(b"ACGTTGCA"), 4, 5, Strand::Reverse, None);
        assert_eq!(r.bases, dna::reverse_complement(&f.bases));
        assert_eq!(r.bases[r.centre], dna::complement(f.bases[f.centre]));
    }
}
