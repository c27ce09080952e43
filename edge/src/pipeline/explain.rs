//! Why an answer is what it is: in-silico mutagenesis of the bases around the change, in the engine's own batches.

use std::time::Instant;

use locus_firmware_config::message::{Around, BaseAttribution, CodonInfo, Request};
use locus_genome::{
    CONTEXT_BASES, EncodedVariant, Strand, Surroundings, Transcript, VariantEncoder,
    dna::{complement, is_base},
    encode::{Allele, Stretch},
};

use super::{
    Job,
    loaded::{Loaded, Scored},
};

/// Bases on each side that are altered.
const REACH: i64 = 10;
/// Bases on each side that are shown.
const SHOWN: i64 = 20;
/// Rows that are scored between two looks at the deadline.
const ROWS: usize = 16;
/// What an explanation counts in the admission, as bytes of a message: eight units of work.
const BYTES: usize = 8 << 13;

/// The change with another base near it.
#[derive(Debug)]
pub(super) struct Altered {
    /// Bases from the change, in the sense that the model reads.
    offset: i32,
    /// The base there, in that sense.
    base: u8,
    row: EncodedVariant,
}

pub(super) fn bytes(request: &Request) -> usize {
    if request.explain == Some(true) { BYTES } else { 0 }
}

/// What lies around a change, as it is told.
pub(super) fn around(stretch: &Stretch<'_>, allele: &Allele<'_>, transcript: Option<&Transcript>) -> Around {
    let around = Surroundings::of(stretch, allele, transcript, SHOWN);
    let text = |bases: &[u8]| String::from_utf8_lossy(bases).into_owned();
    let residue = |residue: u8| char::from(residue).to_string();
    let offset = |offset: i64| i32::try_from(offset).unwrap_or(i32::MAX);
    Around {
        gene: transcript.map(|transcript| transcript.gene.clone()).filter(|gene| !gene.is_empty()),
        strand: if around.strand == Strand::Forward { "+" } else { "-" }.to_owned(),
        first: offset(around.first),
        bases: text(&around.bases),
        track: around.track,
        removed: text(&around.removed),
        added: text(&around.added),
        codons: around
            .codons
            .iter()
            .map(|codon| CodonInfo {
                offsets: codon.offsets.map(offset).into(),
                bases: text(&codon.bases),
                residue: residue(codon.residue),
                number: u32::try_from(codon.number).unwrap_or(0),
                changed_bases: codon.changed.map(|(bases, _)| text(&bases)),
                changed_residue: codon.changed.map(|(_, after)| residue(after)),
            })
            .collect(),
    }
}

/// Rows with each base near a change replaced by each other one, in both windows. What the annotation says stays: the rows
/// tell what the sequence alone does.
pub(super) fn alter(
    encoder: &VariantEncoder,
    stretch: Stretch<'_>,
    allele: &Allele<'_>,
    transcript: Option<&Transcript>,
    whole: &EncodedVariant,
) -> Vec<Altered> {
    let mut altered = Vec::new();
    if whole.in_scope.is_err() || allele.ref_allele.len() != 1 {
        return altered;
    }
    let reverse = transcript.is_some_and(|transcript| transcript.strand == Strand::Reverse);
    let mut bases = stretch.bases.to_vec();
    for sense in (-REACH..=REACH).filter(|sense| *sense != 0) {
        let position = if reverse { allele.position - sense } else { allele.position + sense };
        let at = usize::try_from(position - stretch.first).ok().filter(|at| *at < bases.len());
        let Some((at, base)) = at.map(|at| (at, bases[at])).filter(|(_, base)| is_base(*base)) else {
            continue;
        };
        for other in b"ACGT".iter().filter(|other| **other != base) {
            bases[at] = *other;
            let near = Stretch { bases: &bases, first: stretch.first };
            let row = encoder.encode(near, allele, transcript, CONTEXT_BASES, Strand::Forward);
            if let Ok(row) = row.map(|row| EncodedVariant { features: whole.features.clone(), ..row })
                && row.ref_ids.len() == whole.ref_ids.len()
            {
                let base = if reverse { complement(base) } else { base };
                altered.push(Altered { offset: sense as i32, base, row });
            }
        }
        bases[at] = base;
    }
    altered
}

/// Scores what was prepared, as long as somebody waits for it. An answer without explanation is better than none.
pub(super) fn run(loaded: &mut Loaded, job: &mut Job, score: &Scored) {
    let altered = std::mem::take(&mut job.about.altered);
    let asked = job.request.explain == Some(true);
    let whole = if let Scored::Variant(score) = score { score.logits.first().copied() } else { None };
    let Some(whole) = whole.filter(|_| !altered.is_empty()) else {
        if asked && matches!(score, Scored::Variant(_)) {
            let note =
                "explain was asked for; it is given for single bases, written as such, that the model reads";
            job.about.notes.push(note.into());
        }
        return;
    };
    let mut logits = Vec::with_capacity(altered.len());
    let (places, rows): (Vec<(i32, u8)>, Vec<EncodedVariant>) =
        altered.into_iter().map(|altered| ((altered.offset, altered.base), altered.row)).unzip();
    for rows in rows.chunks(ROWS) {
        if Instant::now() >= job.deadline {
            job.about.notes.push("explain was asked for; the deadline left no time for it".into());
            return;
        }
        match loaded.logits(rows) {
            Some(Ok(some)) if some.len() == rows.len() => logits.extend(some),
            _ => {
                job.about.notes.push("explain was asked for; the engine gave no numbers for it".into());
                return;
            }
        }
    }
    let mut attribution: Vec<(BaseAttribution, u16)> = Vec::new();
    for ((offset, base), logit) in places.into_iter().zip(logits) {
        match attribution.last_mut().filter(|(last, _)| last.offset == offset) {
            Some((last, n)) => {
                last.effect += whole - logit;
                *n += 1;
            }
            None => {
                let base = char::from(base).to_string();
                attribution.push((BaseAttribution { offset, base, effect: whole - logit }, 1));
            }
        }
    }
    let mean = |(mut one, n): (BaseAttribution, u16)| {
        one.effect /= f32::from(n);
        one
    };
    let finite = |one: &BaseAttribution| one.effect.is_finite();
    job.about.attribution = attribution.into_iter().map(mean).filter(finite).collect();
}
