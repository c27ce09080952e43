//! A reference pack: the bases of a genome or of regions of it, with the transcripts over them.

use std::{borrow::Cow, collections::HashMap, path::Path};

use crate::{
    EncodeError, EncodedVariant, ReadError, Strand, Transcript, Variant, VariantEncoder,
    codon::is_mitochondrial,
    consequence::Bases,
    encode::{Allele, CONTEXT_BASES, ScopeReason, Stretch},
    fasta::{Record, Store},
    gff,
    packed::{Packed, Parts},
    transcript::{ExonPart, Site},
};

/// On whole contigs a variant farther than this from every transcript has none (Ensembl's distance).
const NEAREST_BASES: i64 = 5_000;

/// Bases of the coding sequence on each side of a variant that its consequence may depend on.
const CODON_REACH: i64 = 5;

/// Bases and transcripts, found by contig and position.
#[derive(Debug)]
pub struct ReferencePack {
    store: Store,
    pub(crate) by_contig: HashMap<String, Vec<Transcript>>,
    /// Contig and number of a transcript, by its name with and without version.
    pub(crate) by_id: HashMap<String, (String, usize)>,
    /// The same of a gene's first transcript.
    pub(crate) by_gene: HashMap<String, (String, usize)>,
    skipped: Vec<String>,
}

/// Known bases around a position.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    /// Upper-case IUPAC codes on the forward strand.
    pub bases: Cow<'a, [u8]>,
    /// Position of `bases[0]`.
    pub first: i64,
}

impl Around<'_> {
    /// The same as a stretch.
    pub fn stretch(&self) -> Stretch<'_> {
        Stretch { bases: &self.bases, first: self.first }
    }
}

impl Bases for Around<'_> {
    fn base(&self, position: i64) -> Option<u8> {
        self.stretch().base(position)
    }
}

impl ReferencePack {
    /// Opens a FASTA file, by its `.fai` index where one lies beside it, and reads a GFF3 file.
    ///
    /// # Errors
    /// [`ReadError`]: a file that cannot be read, contradicts itself or is not what its index says; no transcript
    /// near any of the bases.
    pub fn open(fasta: &Path, gff3: &Path) -> Result<Self, ReadError> {
        let transcripts = gff::read(gff3)?;
        let store = Store::open(fasta)?;
        check_beside(store.records(), &|contig| store.has_contig(contig), &transcripts.placed, fasta, gff3)?;
        Ok(Self::of(store, preferred_first(transcripts.placed), transcripts.skipped))
    }

    /// Takes the parts of a signed pack, whose digests are checked but for that of the bases: of these, each block is
    /// checked whenever it is read.
    ///
    /// # Errors
    /// [`ReadError`]: parts that contradict each other.
    pub fn packed(parts: Parts) -> Result<Self, ReadError> {
        let (packed, records, placed) = Packed::open(parts)?;
        Ok(Self::of(Store::packed(records, packed)?, placed, Vec::new()))
    }

    fn of(store: Store, placed: Vec<gff::Placed>, skipped: Vec<String>) -> Self {
        let mut by_contig: HashMap<String, Vec<Transcript>> = HashMap::new();
        let (mut by_id, mut by_gene) = (HashMap::new(), HashMap::new());
        for gff::Placed { contig, transcript, .. } in placed {
            let contig = spelling(&store, &contig).map_or(contig.clone(), Cow::into_owned);
            let of_contig = by_contig.entry(contig.clone()).or_default();
            let place = (contig, of_contig.len());
            by_id.entry(transcript.id.clone()).or_insert_with(|| place.clone());
            by_id.entry(unversioned(&transcript.id).to_owned()).or_insert_with(|| place.clone());
            by_gene.entry(transcript.gene.to_ascii_uppercase()).or_insert(place);
            of_contig.push(transcript);
        }
        by_gene.remove("");
        Self { store, by_contig, by_id, by_gene, skipped }
    }

    /// Why transcripts of the GFF3 file were left out, one line each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
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
    pub(crate) fn contig<'a>(&self, asked: &'a str) -> Result<Cow<'a, str>, EncodeError> {
        spelling(&self.store, asked).ok_or_else(|| {
            let example = self.records().first().map_or_else(String::new, |r| r.contig.clone());
            EncodeError::UnknownContig { contig: asked.to_owned(), example }
        })
    }

    pub(crate) fn record(&self, contig: &str, position: u64) -> Result<&Record, EncodeError> {
        let name = self.contig(contig)?;
        i64::try_from(position)
            .ok()
            .and_then(|p| self.store.over(&name, p))
            .ok_or_else(|| EncodeError::NotCovered { contig: contig.to_owned(), position })
    }

    /// Known bases around a position, at most `flank` on each side.
    ///
    /// # Errors
    /// An unknown contig, or a position that is not covered.
    pub fn bases_around(&self, contig: &str, position: u64, flank: i64) -> Result<Around<'_>, EncodeError> {
        let p = position as i64;
        self.interval(self.record(contig, position)?, p - flank, p + flank)
    }

    /// The part of a record from one position to another; one of them lies inside it.
    pub(crate) fn interval<'a>(
        &self,
        record: &'a Record,
        from: i64,
        to: i64,
    ) -> Result<Around<'a>, EncodeError> {
        let (first, last) = (from.max(record.first), to.min(record.last()));
        Ok(Around { bases: self.store.interval(record, first, last)?, first })
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
        let (from, to) = reach(&allele, transcript, flank);
        let around = reference.interval(record, from, to)?;
        let mut encoded = self.encode(around.stretch(), &allele, transcript, flank, strand).map_err(|e| {
            // The record's ends are meant, not those of the part that was read.
            let [first, last] = [record.first, record.last()].map(|p| p.unsigned_abs());
            match e {
                EncodeError::OutOfRange { position, .. } => EncodeError::OutOfRange { position, first, last },
                other => other,
            }
        })?;
        if is_mitochondrial(&record.contig) {
            encoded.in_scope = Err(ScopeReason::Mitochondrial);
        }
        Ok(encoded)
    }
}

/// `NM_007294` of `NM_007294.4`.
fn unversioned(id: &str) -> &str {
    match id.rsplit_once('.') {
        Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => id,
    }
}

/// Puts the preferred transcripts of each gene before its others, in the places that the gene has.
pub(crate) fn preferred_first(placed: Vec<gff::Placed>) -> Vec<gff::Placed> {
    if !placed.iter().any(|p| p.preferred) {
        return placed;
    }
    let mut of_gene: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (n, p) in placed.iter().enumerate().filter(|(_, p)| !p.transcript.gene.is_empty()) {
        of_gene.entry((&p.contig, &p.transcript.gene)).or_default().push(n);
    }
    let mut order: Vec<usize> = (0..placed.len()).collect();
    for places in of_gene.into_values() {
        let (first, others): (Vec<usize>, Vec<usize>) = places.iter().partition(|&&n| placed[n].preferred);
        for (place, n) in places.iter().zip(first.into_iter().chain(others)) {
            order[*place] = n;
        }
    }
    let mut placed: Vec<Option<gff::Placed>> = placed.into_iter().map(Some).collect();
    order.into_iter().filter_map(|n| placed[n].take()).collect()
}

/// Whether transcripts lie on bases: of two assemblies, or with two namings of contigs, none would.
pub(crate) fn check_beside(
    records: &[Record],
    has_contig: &dyn Fn(&str) -> bool,
    placed: &[gff::Placed],
    fasta: &Path,
    gff3: &Path,
) -> Result<(), ReadError> {
    let near = placed.iter().any(|gff::Placed { contig, transcript, .. }| {
        let (first, last) = transcript.span();
        spelled(has_contig, contig).is_some_and(|contig| {
            records.iter().any(|r| r.contig == contig && first <= r.last() && r.first <= last)
        })
    });
    if near {
        return Ok(());
    }
    let held = records.first().map_or_else(String::new, |r| format!("{}:{}-{}", r.contig, r.first, r.last()));
    let example = placed.first().map_or_else(String::new, |p| {
        let (first, last) = p.transcript.span();
        format!("{}:{first}-{last}", p.contig)
    });
    let reason = format!(
        "got transcripts (such as over {example}) of which none lies on a record of {} (such as {held}), expected both of one assembly with one naming of contigs",
        fasta.display()
    );
    Err(ReadError::Beside { path: gff3.to_owned(), reason })
}

/// The store's own spelling of a contig: with or without `chr`, and `MT` for `chrM`.
fn spelling<'a>(store: &Store, contig: &'a str) -> Option<Cow<'a, str>> {
    spelled(&|contig| store.has_contig(contig), contig)
}

fn spelled<'a>(has_contig: &dyn Fn(&str) -> bool, contig: &'a str) -> Option<Cow<'a, str>> {
    let bare = contig.strip_prefix("chr").unwrap_or(contig);
    let bare = if bare == "MT" { "M" } else { bare };
    let others = [Some(bare.to_owned()), Some(format!("chr{bare}")), (bare == "M").then(|| "MT".to_owned())];
    if has_contig(contig) {
        return Some(contig.into());
    }
    others.into_iter().flatten().find(|name| has_contig(name)).map(Cow::Owned)
}

/// First and last position that an allele's encoding depends on: the flanks, and the codons that it touches, of which
/// a part may lie in the next exon.
fn reach(allele: &Allele<'_>, transcript: Option<&Transcript>, flank: i64) -> (i64, i64) {
    let (first, last) = (allele.position - 1, allele.position + allele.ref_allele.len() as i64);
    let flank = flank.max(2 * CODON_REACH);
    let (mut from, mut to) = (first - flank, last + flank);
    let Some(transcript) = transcript else { return (from, to) };
    for position in first..=last {
        let Site::Exon { part: ExonPart::Coding { index, .. }, .. } = transcript.site(position) else {
            continue;
        };
        for end in [index - CODON_REACH, index + CODON_REACH] {
            if let Some(p) = transcript.cds_position(end.clamp(0, transcript.cds_len() - 1)) {
                (from, to) = (from.min(p), to.max(p));
            }
        }
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Consequence, KmerTokenizer};

    const GFF: &str = "##gff-version 3\n\
        17\t.\tmRNA\t1050\t1900\t.\t+\t.\tID=t1;Parent=g\n\
        17\t.\texon\t1050\t1100\t.\t+\t.\tParent=t1\n\
        17\t.\texon\t1800\t1900\t.\t+\t.\tParent=t1\n\
        17\t.\tCDS\t1060\t1100\t.\t+\t0\tParent=t1\n\
        17\t.\tCDS\t1800\t1870\t.\t+\t1\tParent=t1\n";

    fn bases() -> String {
        (0..1000).map(|i| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect()
    }

    fn open(folder: &Path, name: &str, gff: &str) -> Result<ReferencePack, ReadError> {
        let (fasta, gff3) = (folder.join("r.fa"), folder.join("r.gff3"));
        fs::write(&fasta, format!(">{name}\n{}\n", bases())).unwrap();
        fs::write(&gff3, gff).unwrap();
        ReferencePack::open(&fasta, &gff3)
    }

    fn encode(
        pack: &ReferencePack,
        contig: &str,
        position: u64,
        n: usize,
    ) -> Result<EncodedVariant, EncodeError> {
        let at = (position - 1001) as usize;
        let reference = bases().get(at..at + n).unwrap_or("AC").to_owned();
        let alt = if reference.starts_with('A') { "C" } else { "A" };
        let variant = Variant::new(contig, position, &reference, alt)?;
        VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61).encode_reference(pack, &variant, None)
    }

    #[test]
    fn a_prefix_on_either_side_and_on_either_file_is_one_contig() {
        let folder = tempfile::tempdir().unwrap();
        for (named, asked) in [("chr17", "17"), ("17", "chr17"), ("chr17", "chr17")] {
            let pack = open(folder.path(), &format!("{named}:1001-2000"), GFF).unwrap();
            assert_eq!(encode(&pack, asked, 1070, 1).unwrap().transcript_id.as_deref(), Some("t1"));
        }
        let pack = open(folder.path(), "chrM:1001-2000", &GFF.replace("17\t", "MT\t")).unwrap();
        let encoded = encode(&pack, "MT", 1070, 1).unwrap();
        assert_eq!(encoded.consequence, Some(Consequence::Coding));
        assert_eq!(encoded.in_scope, Err(ScopeReason::Mitochondrial));
    }

    #[test]
    fn transcripts_of_another_genome_are_refused_when_opened() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["chr18:1001-2000", "chr17:9001-10000"] {
            let error = open(folder.path(), name, GFF).unwrap_err().to_string();
            assert!(error.contains("17:1050-1900") && error.contains("one assembly"), "{error}");
        }
    }

    #[test]
    fn an_allele_that_runs_over_the_end_names_the_region() {
        let folder = tempfile::tempdir().unwrap();
        let pack = open(folder.path(), "chr17:1001-2000", GFF).unwrap();
        let variant = Variant::new("17", 2000, &format!("{}A", &bases()[999..]), "G").unwrap();
        let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
        assert_eq!(
            encoder.encode_reference(&pack, &variant, None).unwrap_err(),
            EncodeError::OutOfRange { position: 2001, first: 1001, last: 2000 }
        );
    }

    #[test]
    fn what_is_read_by_an_index_encodes_as_what_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let whole = open(folder.path(), "chr17:1001-2000", GFF).unwrap();
        fs::write(folder.path().join("r.fa.fai"), "chr17:1001-2000\t1000\t17\t1000\t1001\n").unwrap();
        let indexed =
            ReferencePack::open(&folder.path().join("r.fa"), &folder.path().join("r.gff3")).unwrap();
        let mut codons = 0;
        for position in 1001..1998 {
            for n in [1, 3, 4] {
                let (a, b) = (encode(&whole, "17", position, n), encode(&indexed, "17", position, n));
                codons += u32::from(a.as_ref().is_ok_and(|e| e.amino_acid_change.is_some()));
                assert_eq!(a, b, "{position}");
            }
        }
        assert!(codons > 100, "{codons}");
    }
}
