//! From an HGVS name to alleles on the forward strand.

use alloc::{string::String, vec, vec::Vec};

use super::{
    parse::{Edit, Hgvs, Numbering},
    place::{Datum, Place, Ruler},
};
use crate::{EncodeError, Strand, Transcript, consequence::Bases, dna};

/// Longest stretch that is removed or doubled, in bases.
const MAX_BASES: i64 = 1_000;

/// A change on the forward strand, with an anchor base where an allele would be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Position of the first base of the reference allele.
    pub position: i64,
    /// Reference allele.
    pub ref_allele: Vec<u8>,
    /// Alternate allele.
    pub alt_allele: Vec<u8>,
}

/// Finds a name with `c.` or `n.` on a transcript, whose `bases` are given.
///
/// # Errors
/// [`EncodeError::BadHgvs`] where the transcript has no such place; [`EncodeError::RefMismatch`] where a stated base is
/// not there.
pub fn on_transcript(
    bases: &dyn Bases,
    transcript: &Transcript,
    name: &Hgvs,
) -> Result<Located, EncodeError> {
    let ruler = Ruler::new(transcript);
    if (name.numbering == Numbering::Coding) != ruler.is_coding() {
        return Err(bad(match ruler.is_coding() {
            true => "the transcript codes for a protein; number it with c.",
            false => "the transcript codes for nothing; number it with n.",
        }));
    }
    let at = |place: Place| ruler.position(place).map_err(bad);
    located(bases, transcript.strand, (at(name.from)?, at(name.to)?), &name.edit)
}

/// Finds a name with `g.` or `m.` on a contig.
///
/// # Errors
/// As [`on_transcript`].
pub fn on_contig(bases: &dyn Bases, name: &Hgvs) -> Result<Located, EncodeError> {
    let plain = |place: Place| match place {
        Place { datum: Datum::Start, base, offset: 0 } => Ok(base),
        _ => Err(bad("a place on a contig is a plain number")),
    };
    located(bases, Strand::Forward, (plain(name.from)?, plain(name.to)?), &name.edit)
}

const fn bad(reason: &'static str) -> EncodeError {
    EncodeError::BadHgvs { reason }
}

/// `from` and `to` are in sense, as the bases of `edit` are.
fn located(
    bases: &dyn Bases,
    strand: Strand,
    (from, to): (i64, i64),
    edit: &Edit,
) -> Result<Located, EncodeError> {
    let (first, last) = if strand == Strand::Forward { (from, to) } else { (to, from) };
    if first > last {
        return Err(bad("its range ends before it begins"));
    }
    if last - first >= MAX_BASES {
        return Err(EncodeError::BadVariant { reason: "an allele is longer than 1,000 bases" });
    }
    let base = |p: i64| bases.base(p).ok_or(bad("it lies beyond the known bases"));
    let held: Vec<u8> = (first..=last).map(base).collect::<Result<_, _>>()?;
    let forward = |text: &[u8]| match strand {
        Strand::Forward => text.to_vec(),
        Strand::Reverse => dna::reverse_complement(text),
    };
    let check = |stated: Option<&[u8]>| {
        let Some(stated) = stated.map(forward) else { return Ok(()) };
        if stated.len() != held.len() {
            return Err(bad("the stated bases are not as many as its range has"));
        }
        match (0..held.len()).find(|&i| held[i] != stated[i]) {
            None => Ok(()),
            Some(at) => {
                let shown = |b: u8| {
                    let b = if strand == Strand::Forward { b } else { dna::complement(b) };
                    String::from(char::from(b))
                };
                Err(EncodeError::RefMismatch {
                    got: shown(stated[at]),
                    expected: shown(held[at]),
                    position: (first + at as i64).unsigned_abs(),
                })
            }
        }
    };
    match edit {
        Edit::Substitution { reference, alt } => {
            check(Some(&[*reference]))?;
            Ok(Located { position: first, ref_allele: held, alt_allele: forward(&[*alt]) })
        }
        Edit::Deletion { stated } => {
            check(stated.as_deref())?;
            // The base before is the anchor; where there is none, the base after.
            if let Some(before) = bases.base(first - 1) {
                let ref_allele = [&[before], held.as_slice()].concat();
                return Ok(Located { position: first - 1, ref_allele, alt_allele: vec![before] });
            }
            let after = base(last + 1)?;
            let ref_allele = [held.as_slice(), &[after]].concat();
            Ok(Located { position: first, ref_allele, alt_allele: vec![after] })
        }
        Edit::Duplication { stated } => {
            check(stated.as_deref())?;
            let alt_allele = [held.as_slice(), held.as_slice()].concat();
            Ok(Located { position: first, ref_allele: held, alt_allele })
        }
        Edit::Insertion { inserted } => {
            if last - first != 1 {
                return Err(bad("an insertion lies between two neighbours"));
            }
            let alt_allele = [&held[..1], &forward(inserted)].concat();
            Ok(Located { position: first, ref_allele: held[..1].to_vec(), alt_allele })
        }
        Edit::Replacement { stated, inserted } => {
            check(stated.as_deref())?;
            Ok(Located { position: first, ref_allele: held, alt_allele: forward(inserted) })
        }
        Edit::Inversion => {
            let alt_allele = dna::reverse_complement(&held);
            Ok(Located { position: first, ref_allele: held, alt_allele })
        }
    }
}
