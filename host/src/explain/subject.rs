//! A variant with everything around it that an explanation speaks of.

use locus_genome::{
    CONTEXT_BASES, EncodedVariant, InputMode, ReferencePack, Strand, Transcript, Variant, codon, consequence,
    dna,
    reference::Around,
    transcript::{ExonPart, Site},
    window::Window,
};

use super::Model;
use crate::{Error, Result, data::Pair};

/// One variant as a model reads it, and what lies there.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The variant.
    pub variant: Variant,
    /// The transcript that it is read on; none in sequence-only mode.
    pub transcript: Option<&'a Transcript>,
    /// As served.
    pub encoded: EncodedVariant,
    /// The reference window, in sense.
    pub window: Window,
    /// The sense.
    pub strand: Strand,
    around: Around<'a>,
}

/// What one base of the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it lies in the transcript.
    pub site: Site,
    /// Of a coding base whose codon is wholly known: its residue, `*` for a stop.
    pub residue: Option<char>,
}

impl<'a> Subject<'a> {
    /// Reads a variant in one mode.
    ///
    /// # Errors
    /// A variant that cannot be encoded, or that the model cannot read.
    pub fn new(
        model: &Model,
        reference: &'a ReferencePack,
        variant: Variant,
        mode: InputMode,
    ) -> Result<Self> {
        let transcript = match mode {
            InputMode::Transcript => reference.transcript_for(&variant, None)?,
            InputMode::SequenceOnly => None,
        };
        let encoded =
            model.encoder.encode_on(reference, &variant, transcript, CONTEXT_BASES, Strand::Forward)?;
        let refused = |got: String, expected: &str| {
            Err(Error::Data { what: variant.to_string(), got, expected: expected.into() })
        };
        if let Err(reason) = encoded.in_scope {
            return refused(reason.to_string(), "a variant that the model can read");
        }
        // A window is drawn around the position that is named.
        if variant.ref_allele.len() != 1 || variant.alt_allele.len() != 1 {
            return refused("other bases beside the change".into(), "a single base and what replaces it");
        }
        let around = reference.bases_around(&variant.contig, variant.position, CONTEXT_BASES)?;
        let strand = transcript.map_or(Strand::Forward, |t| t.strand);
        let width = model.encoder.tokenizer().bases(model.encoder.window_kmers());
        let window = Window::around(&around, variant.position as i64, width, strand, transcript);
        Ok(Self { variant, transcript, encoded, window, strand, around })
    }

    /// The rows and features that the model reads.
    pub fn pair(&self) -> Pair {
        Pair::of(&self.encoded)
    }

    /// Position of a base of the window.
    pub fn position(&self, offset: usize) -> i64 {
        let sense = offset as i64 - self.window.centre as i64;
        match self.strand {
            Strand::Forward => self.variant.position as i64 + sense,
            Strand::Reverse => self.variant.position as i64 - sense,
        }
    }

    /// A base on the forward strand as it reads in sense, or the other way round.
    pub fn in_sense(&self, base: u8) -> u8 {
        if self.strand == Strand::Forward { base } else { dna::complement(base) }
    }

    /// The alternate base, in sense.
    pub fn alternate(&self) -> u8 {
        self.variant.alt_allele.bytes().next().map_or(b'N', |b| self.in_sense(b))
    }

    /// What a base of the window is; `None` without a transcript.
    pub fn place(&self, offset: usize) -> Option<Place> {
        let transcript = self.transcript?;
        let site = transcript.site(self.position(offset));
        let residue = match site {
            Site::Exon { part: ExonPart::Coding { index, codon_base }, .. } => {
                consequence::codon_at(&self.around, transcript, index - i64::from(codon_base))
                    .and_then(codon::translate)
                    .map(char::from)
            }
            _ => None,
        };
        Some(Place { site, residue })
    }
}

/// Shares what each token was given among the bases that it covers, evenly: the sum stays.
pub(super) fn to_bases(tokens: &[f64], bases: usize, k: usize, stride: usize) -> Vec<f64> {
    let mut shared = vec![0.0; bases];
    // The first and the last token are [CLS] and [SEP], which cover none.
    for (i, value) in tokens.iter().enumerate().take(tokens.len().saturating_sub(1)).skip(1) {
        let first = (i - 1) * stride;
        for base in shared.iter_mut().skip(first).take(k) {
            *base += value / k as f64;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_share_what_their_tokens_were_given() {
        assert_eq!(to_bases(&[9.0, 3.0, 6.0, 9.0], 4, 3, 1), [1.0, 3.0, 3.0, 2.0]);
        assert_eq!(to_bases(&[0.0, 3.0, 6.0, 0.0], 6, 3, 3), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }
}
