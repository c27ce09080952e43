//! Places on a transcript as HGVS numbers them, and back to positions.

use alloc::string::String;
use core::fmt::{self, Write as _};

use crate::{Strand, Transcript};

/// What a number counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum {
    /// The first base of the coding sequence (`c.`), or of the transcript (`n.`), is 1; before it is -1.
    Start,
    /// The first base after the coding sequence is `*1`.
    Stop,
}

/// A place such as `4675+1`, `-19` or `*5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What `base` counts from.
    pub datum: Datum,
    /// Number of the exonic base; never 0.
    pub base: i64,
    /// Bases into the intron after it (above 0) or before it (below 0).
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.datum == Datum::Stop {
            f.write_char('*')?;
        }
        write!(f, "{}", self.base)?;
        if self.offset != 0 { write!(f, "{:+}", self.offset) } else { Ok(()) }
    }
}

/// The exons of a transcript, counted in its sense.
pub(super) struct Ruler<'a> {
    transcript: &'a Transcript,
    /// Exonic offset of the first coding base and of the first base after the coding sequence.
    coding: Option<(i64, i64)>,
}

impl<'a> Ruler<'a> {
    pub(super) fn new(transcript: &'a Transcript) -> Self {
        let mut ruler = Self { transcript, coding: None };
        let cds = transcript.cds();
        if let (Some(first), Some(last)) = (cds.first(), cds.last()) {
            let (start, stop) = match transcript.strand {
                Strand::Forward => (first.start, last.end),
                Strand::Reverse => (last.end, first.start),
            };
            ruler.coding = ruler.offset(start).zip(ruler.offset(stop).map(|offset| offset + 1));
        }
        ruler
    }

    /// Whether places are `c.`, not `n.`
    pub(super) const fn is_coding(&self) -> bool {
        self.coding.is_some()
    }

    /// First and last position of each exon, in sense.
    pub(super) fn exons(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let exons = self.transcript.exons();
        (0..exons.len()).map(move |i| match self.transcript.strand {
            Strand::Forward => (exons[i].start, exons[i].end),
            Strand::Reverse => (exons[exons.len() - 1 - i].end, exons[exons.len() - 1 - i].start),
        })
    }

    /// A position `by` bases on, in sense.
    pub(super) const fn step(&self, position: i64, by: i64) -> i64 {
        match self.transcript.strand {
            Strand::Forward => position + by,
            Strand::Reverse => position - by,
        }
    }

    /// Bases from one position to another, in sense.
    const fn distance(&self, from: i64, to: i64) -> i64 {
        match self.transcript.strand {
            Strand::Forward => to - from,
            Strand::Reverse => from - to,
        }
    }

    /// Exonic bases before an exonic position.
    fn offset(&self, position: i64) -> Option<i64> {
        let mut before = 0;
        for (first, last) in self.exons() {
            let (into, left) = (self.distance(first, position), self.distance(position, last));
            if into >= 0 && left >= 0 {
                return Some(before + into);
            }
            before += self.distance(first, last) + 1;
        }
        None
    }

    /// Position of the exonic base with so many before it.
    pub(super) fn at(&self, offset: i64) -> Option<i64> {
        let mut left = offset;
        for (first, last) in self.exons().filter(|_| offset >= 0) {
            let len = self.distance(first, last) + 1;
            if left < len {
                return Some(self.step(first, left));
            }
            left -= len;
        }
        None
    }

    /// Position of a base of the coding sequence, or of the exons after it.
    pub(super) fn coding_at(&self, index: i64) -> Option<i64> {
        self.at(self.coding?.0 + index)
    }

    /// Index in the coding sequence of an exonic position of it.
    pub(super) fn coding_index(&self, position: i64) -> Option<i64> {
        let (start, stop) = self.coding?;
        self.offset(position).filter(|offset| (start..stop).contains(offset)).map(|offset| offset - start)
    }

    /// Bases of the coding sequence, as the exons have it.
    pub(super) fn coding_len(&self) -> i64 {
        self.coding.map_or(0, |(start, stop)| stop - start)
    }

    fn named(&self, offset: i64, into: i64) -> Place {
        let (datum, base) = match self.coding {
            None => (Datum::Start, offset + 1),
            Some((start, _)) if offset < start => (Datum::Start, offset - start),
            Some((start, stop)) if offset < stop => (Datum::Start, offset - start + 1),
            Some((_, stop)) => (Datum::Stop, offset - stop + 1),
        };
        Place { datum, base, offset: into }
    }

    /// The place of a position; `None` outside of the transcript, which has no number there.
    pub(super) fn place(&self, position: i64) -> Option<Place> {
        let (mut before, mut donor): (i64, Option<i64>) = (0, None);
        for (first, last) in self.exons() {
            let into = self.distance(first, position);
            if into < 0 {
                // Between the exon before and this one; in the very middle of an intron the donor counts.
                let from_donor = self.distance(donor?, position);
                return Some(match from_donor <= -into {
                    true => self.named(before - 1, from_donor),
                    false => self.named(before, into),
                });
            }
            if self.distance(position, last) >= 0 {
                return Some(self.named(before + into, 0));
            }
            before += self.distance(first, last) + 1;
            donor = Some(last);
        }
        None
    }

    /// The position of a place.
    ///
    /// # Errors
    /// Why the transcript has no such place.
    pub(super) fn position(&self, place: Place) -> Result<i64, &'static str> {
        let offset = match (self.coding, place.datum) {
            (None, Datum::Start) if place.base > 0 => place.base - 1,
            (None, _) => {
                return Err("the transcript has no coding sequence to count from; number it with n.");
            }
            (Some((start, _)), Datum::Start) if place.base < 0 => start + place.base,
            (Some((start, stop)), Datum::Start) => {
                let offset = start + place.base - 1;
                if offset >= stop {
                    return Err("the number is larger than the coding sequence; after it count from *1");
                }
                offset
            }
            (Some((_, stop)), Datum::Stop) => stop + place.base - 1,
        };
        let exonic = self.at(offset).ok_or("the number lies outside of the transcript's exons")?;
        if place.offset == 0 {
            return Ok(exonic);
        }
        let forward = place.offset > 0;
        let beside = self.at(if forward { offset + 1 } else { offset - 1 });
        let beside = beside.ok_or("there is no intron beside the first or the last exon")?;
        let len = self.distance(exonic, beside).abs() - 1;
        match len {
            0 => Err("an intron begins at the end of an exon, and this base is inside one"),
            len if place.offset.abs() > len => Err("the intron is shorter than that"),
            _ => Ok(self.step(exonic, place.offset)),
        }
    }

    /// The range between two positions that are in sense.
    pub(super) fn range(&self, from: i64, to: i64) -> Option<String> {
        let mut text = String::new();
        write!(text, "{}", self.place(from)?).ok()?;
        if from != to {
            write!(text, "_{}", self.place(to)?).ok()?;
        }
        Some(text)
    }
}
