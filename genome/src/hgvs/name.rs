//! The HGVS names of a change.

use alloc::{borrow::Cow, format, string::String, vec::Vec};

use super::{place::Ruler, protein};
use crate::{Strand, Transcript, consequence::Bases, dna};

/// Farthest that a change is moved along a repeat, in bases.
const MAX_SHIFT: i64 = 10_000;

/// The names of a change on a transcript.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `LRG_292t1:c.5096G>A`, with `n.` where the transcript codes for nothing; `None` where the transcript has no number
    /// for the place.
    pub c: Option<String>,
    /// `p.(Arg1699Gln)`; `None` where no protein is concerned.
    pub p: Option<String>,
}

/// A change without what its alleles share, moved as far as it goes in the transcript's sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// First position removed; of an insertion, the position after it.
    pub(super) first: i64,
    /// How many are.
    pub(super) removed: i64,
    /// Bases in their place, on the forward strand.
    pub(super) added: Vec<u8>,
}

impl Change {
    pub(super) fn new(position: i64, ref_allele: &[u8], alt_allele: &[u8]) -> Self {
        let same = |(r, a): &(&u8, &u8)| r == a;
        let suffix = ref_allele.iter().rev().zip(alt_allele.iter().rev()).take_while(same).count();
        let (removed, added) =
            (&ref_allele[..ref_allele.len() - suffix], &alt_allele[..alt_allele.len() - suffix]);
        let prefix = removed.iter().zip(added).take_while(same).count();
        Self {
            first: position + prefix as i64,
            removed: (removed.len() - prefix) as i64,
            added: added[prefix..].into(),
        }
    }

    /// Moved to its 3' end in the sense of a strand.
    pub(super) fn shifted(mut self, bases: &dyn Bases, strand: Strand) -> Self {
        let deletion = self.added.is_empty();
        if !deletion && self.removed > 0 {
            return self;
        }
        let known = |p: i64| bases.base(p).filter(|&b| dna::is_base(b));
        // How many bases on, and which of the added ones stands at the edge then.
        let (mut by, len) = (0_i64, self.added.len() as i64);
        while by < MAX_SHIFT {
            let (edge, next) = match strand {
                Strand::Forward => {
                    let edge = if deletion {
                        known(self.first + by)
                    } else {
                        self.added.get((by % len) as usize).copied()
                    };
                    (edge, known(self.first + self.removed + by))
                }
                Strand::Reverse => {
                    let edge = match deletion {
                        true => known(self.first + self.removed - 1 - by),
                        false => self.added.get((len - 1 - by % len) as usize).copied(),
                    };
                    (edge, known(self.first - 1 - by))
                }
            };
            if edge.is_none() || edge != next {
                break;
            }
            by += 1;
        }
        if !deletion {
            let turn = (by % len) as usize;
            match strand {
                Strand::Forward => self.added.rotate_left(turn),
                Strand::Reverse => self.added.rotate_right(turn),
            }
        }
        self.first += if strand == Strand::Forward { by } else { -by };
        self
    }

    const fn last(&self) -> i64 {
        self.first + self.removed - 1
    }

    /// The added bases in a sense.
    pub(super) fn added_in(&self, strand: Strand) -> Cow<'_, [u8]> {
        match strand {
            Strand::Forward => Cow::Borrowed(&self.added),
            Strand::Reverse => Cow::Owned(dna::reverse_complement(&self.added)),
        }
    }

    /// Whether an insertion repeats what stands before it, in sense: then first and last position of that.
    fn duplicates(&self, bases: &dyn Bases, strand: Strand) -> Option<(i64, i64)> {
        let len = self.added.len() as i64;
        let (from, to) = match strand {
            Strand::Forward => (self.first - len, self.first - 1),
            Strand::Reverse => (self.first, self.first + len - 1),
        };
        let same = (from..=to).zip(&self.added).all(|(p, &b)| bases.base(p) == Some(b));
        same.then_some((from, to))
    }

    fn inverts(&self, bases: &dyn Bases) -> bool {
        let len = self.added.len() as i64;
        len > 1
            && len == self.removed
            && (0..len).all(|i| {
                bases.base(self.last() - i).map(dna::complement) == self.added.get(i as usize).copied()
            })
    }
}

fn text(bases: &[u8]) -> String {
    bases.iter().map(|&b| char::from(b)).collect()
}

/// What comes after `c.` or `n.`
fn described(bases: &dyn Bases, ruler: &Ruler<'_>, strand: Strand, change: &Change) -> Option<String> {
    let sense = |(from, to): (i64, i64)| match strand {
        Strand::Forward => (from, to),
        Strand::Reverse => (to, from),
    };
    let added = change.added_in(strand);
    if change.removed == 0 {
        if let Some(range) = change.duplicates(bases, strand) {
            let (from, to) = sense(range);
            return Some(format!("{}dup", ruler.range(from, to)?));
        }
        let (before, after) = sense((change.first - 1, change.first));
        return Some(format!("{}ins{}", ruler.range(before, after)?, text(&added)));
    }
    let (from, to) = sense((change.first, change.last()));
    let range = ruler.range(from, to)?;
    if added.is_empty() {
        return Some(format!("{range}del"));
    }
    if let (1, &[alt]) = (change.removed, &*added) {
        let base = bases.base(change.first)?;
        let reference = if strand == Strand::Forward { base } else { dna::complement(base) };
        return Some(format!("{range}{}>{}", char::from(reference), char::from(alt)));
    }
    if change.inverts(bases) {
        return Some(format!("{range}inv"));
    }
    Some(format!("{range}delins{}", text(&added)))
}

/// Names the replacement of `ref_allele`, whose first base is at `position`, by `alt_allele`, both on the forward
/// strand. Where `bases` end, a change is moved no farther.
pub fn names(
    bases: &dyn Bases,
    transcript: &Transcript,
    position: i64,
    ref_allele: &[u8],
    alt_allele: &[u8],
) -> Names {
    if ref_allele == alt_allele {
        return Names::default();
    }
    let ruler = Ruler::new(transcript);
    let change = Change::new(position, ref_allele, alt_allele).shifted(bases, transcript.strand);
    let kind = if ruler.is_coding() { "c" } else { "n" };
    let prefix = if transcript.id.is_empty() { String::new() } else { format!("{}:", transcript.id) };
    Names {
        c: described(bases, &ruler, transcript.strand, &change).map(|d| format!("{prefix}{kind}.{d}")),
        p: protein::named(bases, transcript, &ruler, &change),
    }
}
