//! A reference pack: the bases of a genome or of regions of it, with the transcripts over them.

use std::{collections::HashMap, path::Path};

use crate::{
    EncodeError, EncodedVariant, ReadError, Strand, Transcript, Variant, VariantEncoder,
    encode::{Allele, CONTEXT_BASES, Stretch},
    fasta::{Record, Store},
    gff,
};

/// On whole contigs a variant farther than this from every transcript has none (Ensembl's distance).
const NEAREST_BASES: i64 = 5_000;

/// Bases and transcripts, found by contig and position.
#[derive(Debug)]
pub struct ReferencePack {
    store: Store,
    by_contig: HashMap<String, Vec<Transcript>>,
}

impl ReferencePack {
    /// Opens a FASTA file, by its `.fai` index where one lies beside it, and reads a GFF3 file.
    ///
    /// # Errors
    /// [`ReadError`]: a file that cannot be read, contradicts itself or is not what its index says.
    pub fn open(fasta: &Path, gff3: &Path) -> Result<Self, ReadError> {
        let mut by_contig: HashMap<String, Vec<Transcript>> = HashMap::new();
        for placed in gff::read(gff3)? {
            by_contig.entry(placed.contig).or_default().push(placed.transcript);
        }
        Ok(Self { store: Store::open(fasta)?, by_contig })
    }

    /// The records of the FASTA file.
    pub fn records(&self) -> &[Record] {
        self.store.records()
    }

    /// All bases of one of its records.
    ///
    /// # Errors
    /// [`EncodeError::Unreadable`] where they are read by an index that is wrong.
    pub fn stretch<'a>(&self, record: &'a Record) -> Result<Stretch<'a>, EncodeError> {
        Ok(Stretch { bases: self.store.bases(record)?, first: record.first })
    }

    /// Every transcript of a contig, in the file's order.
    pub fn transcripts(&self, contig: &str) -> &[Transcript] {
        self.by_contig.get(contig).map_or(&[], Vec::as_slice)
    }

    /// The pack's own spelling of a contig: `chr17` and `17` are one.
    fn contig<'a>(&self, asked: &'a str) -> Result<std::borrow::Cow<'a, str>, EncodeError> {
        if self.store.has_contig(asked) {
            return Ok(asked.into());
        }
        let other = asked.strip_prefix("chr").map_or_else(|| format!("chr{asked}"), str::to_owned);
        if self.store.has_contig(&other) {
            return Ok(other.into());
        }
        let example = self.records().first().map_or_else(String::new, |r| r.contig.clone());
        Err(EncodeError::UnknownContig { contig: asked.to_owned(), example })
    }

    fn record(&self, contig: &str, position: u64) -> Result<&Record, EncodeError> {
        let name = self.contig(contig)?;
        i64::try_from(position)
            .ok()
            .and_then(|p| self.store.over(&name, p))
            .ok_or_else(|| EncodeError::NotCovered { contig: contig.to_owned(), position })
    }

    /// Known bases around a position, at most `flank` on each side, with the position of the first.
    ///
    /// # Errors
    /// An unknown contig, or a position that is not covered.
    pub fn bases_around(&self, contig: &str, position: u64, flank: i64) -> Result<Stretch<'_>, EncodeError> {
        let record = self.record(contig, position)?;
        let whole = self.stretch(record)?;
        let p = position as i64;
        let from = (p - flank).max(record.first);
        let to = (p + flank).min(record.last());
        let range = (from - record.first) as usize..=(to - record.first) as usize;
        Ok(Stretch { bases: &whole.bases[range], first: from })
    }

    /// The transcript that answers for a variant: the one asked for, else the first over the position,
    /// else the nearest on the same region.
    ///
    /// # Errors
    /// The transcript asked for is not on the variant's region.
    pub fn transcript_for(
        &self,
        variant: &Variant,
        asked: Option<&str>,
    ) -> Result<Option<&Transcript>, EncodeError> {
        let record = self.record(&variant.contig, variant.position)?;
        let p = variant.position as i64;
        let (from, to) = if record.region {
            (record.first, record.last())
        } else {
            (p - NEAREST_BASES, p + NEAREST_BASES)
        };
        let near = || {
            self.transcripts(&record.contig).iter().filter(move |t| t.span().0 <= to && from <= t.span().1)
        };
        if let Some(id) = asked {
            return near().find(|t| t.id == id).map(Some).ok_or_else(|| EncodeError::UnknownTranscript {
                transcript: id.to_owned(),
                example: near().next().map_or_else(String::new, |t| t.id.clone()),
            });
        }
        let distance = |t: &&Transcript| (t.span().0 - p).max(p - t.span().1).max(0);
        Ok(near().min_by_key(distance))
    }
}

impl VariantEncoder {
    /// Encodes a variant on the reference, with the transcript that [`ReferencePack::transcript_for`]
    /// finds.
    ///
    /// # Errors
    /// An unknown contig or transcript, a position outside, or a reference allele that disagrees.
    pub fn encode_reference(
        &self,
        reference: &ReferencePack,
        variant: &Variant,
        transcript_id: Option<&str>,
    ) -> Result<EncodedVariant, EncodeError> {
        let transcript = reference.transcript_for(variant, transcript_id)?;
        self.encode_on(reference, variant, transcript, CONTEXT_BASES, Strand::Forward)
    }

    /// Encodes a variant on the reference with a given transcript or none, seeing `flank` bases on each
    /// side at most; `strand` is the sense without a transcript. Training drops and crops through this.
    ///
    /// # Errors
    /// An unknown contig, a position outside, or a reference allele that disagrees.
    pub fn encode_on(
        &self,
        reference: &ReferencePack,
        variant: &Variant,
        transcript: Option<&Transcript>,
        flank: i64,
        strand: Strand,
    ) -> Result<EncodedVariant, EncodeError> {
        let record = reference.record(&variant.contig, variant.position)?;
        let allele = Allele {
            position: variant.position as i64,
            ref_allele: variant.ref_allele.as_bytes(),
            alt_allele: variant.alt_allele.as_bytes(),
        };
        self.encode(reference.stretch(record)?, &allele, transcript, flank, strand)
    }
}
