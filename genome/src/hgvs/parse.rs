//! The HGVS names of small changes of DNA, read strictly.

use alloc::{string::String, vec::Vec};

use super::place::{Datum, Place};
use crate::{EncodeError, dna};

/// What the numbers count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// `c.`: the coding sequence of a transcript.
    Coding,
    /// `n.`: a transcript from its first base on.
    Transcript,
    /// `g.` or `m.`: a contig.
    Genomic,
}

/// What happens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// One base replaced by another.
    Substitution {
        /// The base before.
        reference: u8,
        /// The base after.
        alt: u8,
    },
    /// Bases are gone.
    Deletion {
        /// Which, where they are stated.
        stated: Option<Vec<u8>>,
    },
    /// Bases stand twice.
    Duplication {
        /// Which, where they are stated.
        stated: Option<Vec<u8>>,
    },
    /// Bases between two neighbours.
    Insertion {
        /// Which.
        inserted: Vec<u8>,
    },
    /// Bases replaced by others.
    Replacement {
        /// The bases before, where they are stated.
        stated: Option<Vec<u8>>,
        /// The bases after.
        inserted: Vec<u8>,
    },
    /// Bases replaced by their reverse complement.
    Inversion,
}

/// A name such as `NM_007294.4(BRCA1):c.5096G>A`. Bases are in the sense of what it is numbered on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hgvs {
    /// What stands before the colon; none in `c.5096G>A`.
    pub reference: Option<String>,
    /// What the parentheses hold.
    pub selected: Option<String>,
    /// What the numbers count on.
    pub numbering: Numbering,
    /// The first place, in sense.
    pub from: Place,
    /// The last place; the same as the first where there is one.
    pub to: Place,
    /// What happens there.
    pub edit: Edit,
}

const fn bad(reason: &'static str) -> EncodeError {
    EncodeError::BadHgvs { reason }
}

/// Splits a name into what comes before `c.`, `g.`, `m.`, `n.`, `p.` or `r.`, that letter, and the change.
fn split(text: &str) -> Option<(Option<&str>, u8, &str)> {
    let (reference, change) = match text.rsplit_once(':') {
        Some((reference, change)) => (Some(reference), change),
        None => (None, text),
    };
    let (&[letter, b'.'], rest) = change.as_bytes().split_first_chunk::<2>()? else { return None };
    matches!(letter, b'c' | b'g' | b'm' | b'n' | b'p' | b'r')
        .then(|| (reference, letter, &change[change.len() - rest.len()..]))
}

/// Whether a text is meant as an HGVS name, and not as `chr17-43045705-T-A`.
pub fn is_hgvs(text: &str) -> bool {
    split(text.trim()).is_some()
}

impl core::str::FromStr for Hgvs {
    type Err = EncodeError;

    fn from_str(text: &str) -> Result<Self, EncodeError> {
        let (reference, letter, change) =
            split(text.trim()).ok_or(bad("it has no c., n., g. or m. after the colon"))?;
        let numbering = match letter {
            b'c' => Numbering::Coding,
            b'n' => Numbering::Transcript,
            b'g' | b'm' => Numbering::Genomic,
            b'p' => {
                return Err(bad(
                    "a change of protein does not say which bases change; give the change of DNA",
                ));
            }
            _ => return Err(bad("a change of RNA is not read; give the change of DNA")),
        };
        let (reference, selected) = match reference {
            None => (None, None),
            Some(reference) => selected(reference)?,
        };
        let (from, to, rest) = places(change, numbering)?;
        let edit = edit(rest, from != to)?;
        Ok(Self { reference, selected, numbering, from, to, edit })
    }
}

fn selected(reference: &str) -> Result<(Option<String>, Option<String>), EncodeError> {
    let name = |text: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        match (1..=64).contains(&text.len()) && text.bytes().all(good) && !dna::reads_as_sequence(text) {
            true => Ok(Some(String::from(text))),
            false => Err(bad("what stands before the colon is not the name of a transcript, contig or gene")),
        }
    };
    match reference.strip_suffix(')').map(|text| text.split_once('(')) {
        Some(Some((outer, inner))) => Ok((name(outer)?, name(inner)?)),
        _ => Ok((name(reference)?, None)),
    }
}

/// A whole number of at most 12 digits without a sign, and what follows it.
fn number(text: &str) -> Result<(i64, &str), EncodeError> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits.parse() {
        Ok(number) if digits.len() <= 12 && !digits.starts_with('0') => Ok((number, rest)),
        _ => Err(bad("a place is not a whole number from 1 on")),
    }
}

fn place(text: &str, numbering: Numbering) -> Result<(Place, &str), EncodeError> {
    let (datum, sign, text) = match text.as_bytes().first() {
        Some(b'*') if numbering == Numbering::Coding => (Datum::Stop, 1, &text[1..]),
        Some(b'-') if numbering == Numbering::Coding => (Datum::Start, -1, &text[1..]),
        Some(b'(' | b'?') => return Err(bad("its place is uncertain; only exact places are read")),
        _ => (Datum::Start, 1, text),
    };
    let (base, rest) = number(text)?;
    let (offset, rest) = match rest.as_bytes().first() {
        Some(b'+') if numbering != Numbering::Genomic => number(&rest[1..])?,
        Some(b'-') if numbering != Numbering::Genomic => {
            let (offset, rest) = number(&rest[1..])?;
            (-offset, rest)
        }
        _ => (0, rest),
    };
    Ok((Place { datum, base: sign * base, offset }, rest))
}

fn places(text: &str, numbering: Numbering) -> Result<(Place, Place, &str), EncodeError> {
    let (from, rest) = place(text, numbering)?;
    match rest.strip_prefix('_') {
        None => Ok((from, from, rest)),
        Some(rest) => {
            let (to, rest) = place(rest, numbering)?;
            if from == to {
                return Err(bad("its range begins and ends at one place"));
            }
            Ok((from, to, rest))
        }
    }
}

fn bases(text: &str) -> Result<Vec<u8>, EncodeError> {
    if text.is_empty() {
        return Err(bad("bases are missing"));
    }
    let read = |c| dna::normalise_base(c).filter(|&b| dna::is_base(b));
    text.chars()
        .map(read)
        .collect::<Option<_>>()
        .ok_or(bad("it holds something other than A, C, G, T where bases belong"))
}

fn stated(text: &str) -> Result<Option<Vec<u8>>, EncodeError> {
    if text.is_empty() { Ok(None) } else { bases(text).map(Some) }
}

fn edit(text: &str, range: bool) -> Result<Edit, EncodeError> {
    if let Some((before, inserted)) = text.strip_prefix("del").and_then(|rest| rest.split_once("ins")) {
        return Ok(Edit::Replacement { stated: stated(before)?, inserted: bases(inserted)? });
    }
    if let Some(rest) = text.strip_prefix("del") {
        return Ok(Edit::Deletion { stated: stated(rest)? });
    }
    if let Some(rest) = text.strip_prefix("dup") {
        return Ok(Edit::Duplication { stated: stated(rest)? });
    }
    if let Some(rest) = text.strip_prefix("ins") {
        return match range {
            true => Ok(Edit::Insertion { inserted: bases(rest)? }),
            false => Err(bad("an insertion lies between two places, such as 76_77insT")),
        };
    }
    if text == "inv" {
        return match range {
            true => Ok(Edit::Inversion),
            false => Err(bad("an inversion has two places, such as 76_78inv")),
        };
    }
    if text == "=" {
        return Err(EncodeError::RefEqualsAlt);
    }
    let Some((before, after)) = text.split_once('>') else {
        return Err(bad("its change is none of N>N, del, ins, dup, delins and inv"));
    };
    match (bases(before)?.as_slice(), bases(after)?.as_slice(), range) {
        (&[reference], &[alt], false) if reference != alt => Ok(Edit::Substitution { reference, alt }),
        (&[reference], &[alt], false) if reference == alt => Err(EncodeError::RefEqualsAlt),
        _ => Err(bad("> replaces one base by another; several are written with delins")),
    }
}
