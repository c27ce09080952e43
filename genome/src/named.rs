//! HGVS names on a reference pack.

use std::{borrow::Cow, cell::RefCell};

use crate::{
    EncodeError, ReferencePack, Transcript, Variant, assembly,
    consequence::Bases,
    fasta::Record,
    hgvs::{self, Hgvs, Located, Names, Numbering},
    reference::Around,
};

/// Bases that are read at once.
const CHUNK: i64 = 2_048;
/// Chunks that are kept.
const CHUNKS: usize = 8;

/// The bases of a record, read as they are asked for.
struct Lazy<'a> {
    reference: &'a ReferencePack,
    record: &'a Record,
    chunks: RefCell<Vec<Around<'a>>>,
    failed: RefCell<Option<EncodeError>>,
}

impl Bases for Lazy<'_> {
    fn base(&self, position: i64) -> Option<u8> {
        if position < self.record.first || position > self.record.last() {
            return None;
        }
        let mut chunks = self.chunks.borrow_mut();
        if let Some(base) = chunks.iter().rev().find_map(|chunk| chunk.base(position)) {
            return Some(base);
        }
        let from = position - (position - self.record.first) % CHUNK;
        match self.reference.interval(self.record, from, from + CHUNK - 1) {
            Ok(chunk) => {
                let base = chunk.base(position);
                if chunks.len() >= CHUNKS {
                    chunks.remove(0);
                }
                chunks.push(chunk);
                base
            }
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                None
            }
        }
    }
}

/// A request by name, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The change on the pack.
    pub variant: Variant,
    /// The transcript that the name chose.
    pub transcript_id: Option<String>,
    /// Whether a gene's first transcript stands for it: the asker named none.
    pub chosen: bool,
}

impl ReferencePack {
    fn lazy<'a>(&'a self, record: &'a Record) -> Lazy<'a> {
        Lazy { reference: self, record, chunks: RefCell::default(), failed: RefCell::default() }
    }

    /// The HGVS names of a variant on a transcript over it or near it.
    ///
    /// # Errors
    /// A position that is not covered, or bases that cannot be read.
    pub fn hgvs_names(&self, variant: &Variant, transcript: &Transcript) -> Result<Names, EncodeError> {
        let lazy = self.lazy(self.record(&variant.contig, variant.position)?);
        let (reference, alt) = (variant.ref_allele.as_bytes(), variant.alt_allele.as_bytes());
        let names = hgvs::names(&lazy, transcript, variant.position as i64, reference, alt);
        lazy.failed.into_inner().map_or(Ok(names), Err)
    }

    /// A transcript by its name, with or without version; a version that is not the pack's is refused.
    ///
    /// # Errors
    /// [`EncodeError::UnknownName`].
    fn transcript_named(&self, name: &str) -> Result<(&str, &Transcript), EncodeError> {
        self.by_id.get(name).and_then(|place| self.placed(place)).ok_or_else(|| {
            let other = name.rsplit_once('.').and_then(|(bare, _)| self.by_id.get(bare));
            self.unknown(name, other.and_then(|place| self.placed(place)).map(|(_, t)| t.id.clone()))
        })
    }

    fn placed<'a>(&'a self, (contig, n): &'a (String, usize)) -> Option<(&'a str, &'a Transcript)> {
        Some((contig, self.by_contig.get(contig)?.get(*n)?))
    }

    fn unknown(&self, name: &str, like: Option<String>) -> EncodeError {
        let first = || self.by_contig.values().flatten().next().map(|t| t.id.clone());
        EncodeError::UnknownName { name: name.to_owned(), example: like.or_else(first).unwrap_or_default() }
    }

    /// The transcript that a name with `c.` or `n.` is numbered on.
    fn numbered_on(
        &self,
        name: &Hgvs,
        gene: Option<&str>,
        asked: Option<&str>,
    ) -> Result<(&str, &Transcript, bool), EncodeError> {
        // Of `NC_000017.11(NM_007294.4)` the transcript counts, of `NM_007294.4(BRCA1)` too.
        let texts = [name.reference.as_deref(), name.selected.as_deref(), asked];
        let mut named = texts.into_iter().flatten().filter_map(|text| self.transcript_named(text).ok());
        if let Some((contig, transcript)) = named.next() {
            return match named.find(|(_, other)| other.id != transcript.id) {
                Some(_) => {
                    Err(EncodeError::BadHgvs { reason: "it names one transcript and the request another" })
                }
                None => Ok((contig, transcript, false)),
            };
        }
        let genes = [name.reference.as_deref(), name.selected.as_deref()];
        let by_gene = |gene: &str| {
            let (contig, transcript) = self.placed(self.by_gene.get(&gene.to_ascii_uppercase())?)?;
            Some((contig, transcript, true))
        };
        if let Some(asked) = asked {
            return Err(self.transcript_named(asked).err().unwrap_or_else(|| self.unknown(asked, None)));
        }
        match genes.into_iter().flatten().chain(gene.filter(|_| name.reference.is_none())).find_map(by_gene) {
            Some(found) => Ok(found),
            None => match name.reference.as_deref().or(gene) {
                Some(text) => {
                    Err(self.transcript_named(text).err().unwrap_or_else(|| self.unknown(text, None)))
                }
                None => Err(EncodeError::BadHgvs {
                    reason: "it names no transcript; put one and a colon before it, or name a gene",
                }),
            },
        }
    }

    /// Finds a change by its HGVS name; `gene` and `asked` are what the request says beside it.
    ///
    /// # Errors
    /// A name that the pack does not have, a place that is not there, a stated base that is another one; a chromosome of
    /// another assembly.
    pub fn find_hgvs(
        &self,
        name: &Hgvs,
        gene: Option<&str>,
        asked: Option<&str>,
        assembly: &str,
    ) -> Result<Found, EncodeError> {
        if let Some(chromosome) = name.reference.as_deref().and_then(assembly::chromosome)
            && let Some(got) = chromosome.assembly.filter(|got| !assembly::same(got, assembly))
        {
            return Err(EncodeError::OtherAssembly { got, expected: assembly.to_owned() });
        }
        if name.numbering != Numbering::Genomic {
            let (contig, transcript, chosen) = self.numbered_on(name, gene, asked)?;
            let (first, last) = transcript.span();
            let over = |r: &&Record| r.contig == contig && first <= r.last() && r.first <= last;
            let record =
                self.records().iter().filter(over).max_by_key(|r| r.last().min(last) - r.first.max(first));
            let record = record.ok_or_else(|| EncodeError::NotCovered {
                contig: contig.to_owned(),
                position: first.unsigned_abs(),
            })?;
            let lazy = self.lazy(record);
            let located = hgvs::on_transcript(&lazy, transcript, name);
            let variant = lazy.failed.into_inner().map_or_else(|| variant(contig, &located?), Err)?;
            return Ok(Found { variant, transcript_id: Some(transcript.id.clone()), chosen });
        }
        let reference = name.reference.as_deref().ok_or(EncodeError::BadHgvs {
            reason: "it names no contig; put one and a colon before it, such as NC_000017.11:",
        })?;
        let contig: Cow<'_, str> = match assembly::chromosome(reference) {
            Some(chromosome) if self.contig(reference).is_err() => chromosome.contig.into(),
            _ => reference.into(),
        };
        let contig = self.contig(&contig)?;
        let record = self.record(&contig, name.from.base.unsigned_abs())?;
        let lazy = self.lazy(record);
        let located = hgvs::on_contig(&lazy, name);
        let variant = lazy.failed.into_inner().map_or_else(|| variant(&contig, &located?), Err)?;
        let transcript_id = asked.or(name.selected.as_deref()).map(str::to_owned);
        Ok(Found { variant, transcript_id, chosen: false })
    }
}

fn variant(contig: &str, located: &Located) -> Result<Variant, EncodeError> {
    let text = |bases: &[u8]| String::from_utf8_lossy(bases).into_owned();
    let position = u64::try_from(located.position).unwrap_or(0);
    Variant::new(contig, position, &text(&located.ref_allele), &text(&located.alt_allele))
}
