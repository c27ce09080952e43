//! In-silico saturation mutagenesis: what the model says of every other single-base variant in the window, each one
//! encoded as if it were asked about, in a window of its own.

use locus_genome::{CONTEXT_BASES, ReferencePack, Strand, Variant};
use serde::Serialize;

use super::{Model, Subject};
use crate::{Result, data::Pair};

/// The bases, in the order of the rows.
pub(super) const BASES: [u8; 4] = *b"ACGT";

/// Logits of every single-base variant of the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scan {
    /// Per base of the window in sense, the logit of its replacement by A, C, G and T in sense; `None` for the
    /// reference base, and where the model cannot read the variant.
    pub logits: Vec<[Option<f32>; 4]>,
}

/// Scores every single-base variant of the subject's window on the same transcript.
///
/// # Errors
/// Bases that cannot be read, or rows that the model cannot take.
pub fn scan(model: &Model, reference: &ReferencePack, subject: &Subject<'_>) -> Result<Scan> {
    let mut logits = vec![[None; 4]; subject.window.bases.len()];
    let (mut places, mut pairs): (Vec<(usize, usize)>, Vec<Pair>) = (Vec::new(), Vec::new());
    for (offset, &base) in subject.window.bases.iter().enumerate() {
        let position = subject.position(offset) as u64;
        for (row, &alternate) in BASES.iter().enumerate().filter(|(_, b)| **b != base) {
            let text = |b: u8| char::from(subject.in_sense(b)).to_string();
            let variant = Variant::new(&subject.variant.contig, position, &text(base), &text(alternate))?;
            let encoded = model.encoder.encode_on(
                reference,
                &variant,
                subject.transcript,
                CONTEXT_BASES,
                Strand::Forward,
            )?;
            if encoded.in_scope.is_ok() {
                places.push((offset, row));
                pairs.push(Pair::of(&encoded));
            }
        }
    }
    for ((offset, row), logit) in places.into_iter().zip(model.logits(&pairs)?) {
        logits[offset][row] = Some(logit);
    }
    Ok(Scan { logits })
}
