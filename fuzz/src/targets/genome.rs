//! Sequences, names of changes, and the files that genomes come in.

use std::sync::Arc;

use locus_genome::{
    Mutation, ReferencePack, Variant, bed, dna, gff,
    hgvs::{self, Hgvs},
    packed::{self, BLOCK_BYTES, Parts},
    smiles::Molecule,
    vcf,
};
use sha2::{Digest as _, Sha256};

use super::{on_disk, scratch};
use crate::corpus;

/// The genome of the cases.
pub(crate) const FASTA: &str = concat!(
    ">chr1:1001-1120\n",
    "ACGGTCATTGCATGGCCATTCGAAACGTNNACGGTCATTGCATGGCCATTCGAAACGTAC\n",
    "GGTCATTGCATGGCCATTCGAAACGTTTACGGTCATTGCATGGCCATTCGAAACGTTTAA\n",
    ">chrM\nGATCACAGGTCTATCACCCTATTAACCACTCACGGGAGCTCTCCATGCAT\n"
);
/// Its transcripts.
pub(crate) const GFF: &str = "##gff-version 3
chr1\t.\tgene\t1001\t1120\t.\t+\t.\tID=g1;Name=GENE1
chr1\t.\tmRNA\t1005\t1110\t.\t+\t.\tID=t1;Parent=g1;tag=MANE_Select
chr1\t.\texon\t1005\t1050\t.\t+\t.\tParent=t1
chr1\t.\texon\t1061\t1110\t.\t+\t.\tParent=t1
chr1\t.\tCDS\t1013\t1050\t.\t+\t0\tParent=t1
chr1\t.\tCDS\t1061\t1091\t.\t+\t1\tParent=t1
chr1\t.\tmRNA\t1010\t1100\t.\t-\t.\tID=t2;Parent=g1;transcript_id=NM_000001;version=2
chr1\t.\texon\t1010\t1100\t.\t-\t.\tParent=t2
";

/// Asks a pack for bases, transcripts and names over every record's ends and middle.
pub(super) fn asked(reference: &ReferencePack) {
    for record in reference.records().iter().take(4) {
        let (first, last) = (record.first, record.last());
        for position in [first, first + (last - first) / 2, last] {
            let Ok(around) = reference.bases_around(&record.contig, position.unsigned_abs(), 300) else {
                continue;
            };
            assert!(around.bases.len() <= 601, "no more than what was asked for");
            let Some(base) =
                usize::try_from(position - around.first).ok().and_then(|at| around.bases.get(at))
            else {
                continue;
            };
            let alt = if *base == b'A' { "C" } else { "A" };
            let Ok(variant) =
                Variant::new(&record.contig, position.unsigned_abs(), &char::from(*base).to_string(), alt)
            else {
                continue;
            };
            if let Ok(Some(transcript)) = reference.transcript_for(&variant, None)
                && let Ok(names) = reference.hgvs_names(&variant, transcript)
            {
                let _ = format!("{names:?}");
            }
        }
        for transcript in reference.transcripts(&record.contig).iter().take(4) {
            let (first, last) = transcript.span();
            for position in [first - 1, first, first.midpoint(last), last, last + 1] {
                transcript.site(position);
            }
            assert!(transcript.cds_len() >= 0);
        }
    }
}

fn reference() -> &'static ReferencePack {
    static PACK: std::sync::OnceLock<ReferencePack> = std::sync::OnceLock::new();
    PACK.get_or_init(|| {
        let (fasta, gff) =
            (on_disk("reference.fa", FASTA.as_bytes()), on_disk("reference.gff3", GFF.as_bytes()));
        ReferencePack::open(&fasta, &gff).expect("a reference")
    })
}

/// A change that a name finds is inside what the reference holds, and its own name finds it again.
pub(super) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(name) = text.parse::<Hgvs>() else { return };
    assert!(hgvs::is_hgvs(text), "what is read as a name is meant as one");
    let reference = reference();
    for (gene, asked) in [(None, None), (Some("GENE1"), None), (None, Some("t1"))] {
        let Ok(found) = reference.find_hgvs(&name, gene, asked, "GRCh38") else { continue };
        let variant = &found.variant;
        assert_eq!(
            Variant::new(&variant.contig, variant.position, &variant.ref_allele, &variant.alt_allele)
                .as_ref(),
            Ok(variant)
        );
        let transcript = found
            .transcript_id
            .as_deref()
            .and_then(|id| reference.transcript_for(variant, Some(id)).ok().flatten());
        let Some(transcript) = transcript else { continue };
        let Ok(names) = reference.hgvs_names(variant, transcript) else { continue };
        let Some(coding) = names.c else { continue };
        let again: Hgvs = format!("{}:{}", transcript.id, coding.rsplit(':').next().unwrap_or(&coding))
            .parse()
            .expect("its own name is read");
        let again = reference.find_hgvs(&again, None, None, "GRCh38").expect("its own name is found");
        assert_eq!(applied(&again.variant), applied(variant), "{coding}");
    }
}

/// The reference with the change: two changes are one where it is the same.
fn applied(variant: &Variant) -> Option<Vec<u8>> {
    let record = reference().records().iter().find(|record| record.contig == variant.contig)?;
    let bases = reference().stretch(record).ok()?.bases;
    let at = usize::try_from(variant.position as i64 - record.first).ok()?;
    let end = at + variant.ref_allele.len();
    (bases.get(at..end)? == variant.ref_allele.as_bytes())
        .then(|| [&bases[..at], variant.alt_allele.as_bytes(), &bases[end..]].concat())
}

/// What is read is written and read again as the same.
pub(super) fn variants(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(variant) = text.parse::<Variant>() {
        assert_eq!(variant.to_string().parse::<Variant>().as_ref(), Ok(&variant));
        let _ = reference().transcript_for(&variant, None);
    }
    if let Ok(mutation) = text.parse::<Mutation>() {
        assert!(
            mutation.position > 0 && dna::is_base(mutation.ref_allele) && dna::is_base(mutation.alt_allele)
        );
    }
    if let Ok(bases) = dna::normalise(text, 1_000) {
        assert!(bases.len() <= 1_000);
        assert_eq!(dna::normalise(std::str::from_utf8(&bases).expect("letters"), 1_000).as_ref(), Ok(&bases));
    }
}

/// Atoms that bonds name are there.
pub(super) fn molecules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(molecule) = Molecule::parse(text) {
        let atoms = molecule.atoms.len();
        assert!(molecule.bonds.iter().all(|bond| bond.from < atoms && bond.to < atoms));
        assert_eq!(molecule.neighbours().len(), atoms);
        assert!(atoms <= text.len());
    }
}

/// FASTA and GFF3 together: what can be read whole can be packed, and both say the same.
pub(super) fn references(bytes: &[u8]) {
    let [fasta, gff3]: [&[u8]; 2] = corpus::split(bytes);
    let gff3 = if gff3.is_empty() { GFF.as_bytes() } else { gff3 };
    let (fasta, gff3) = (on_disk("case.fa", fasta), on_disk("case.gff3", gff3));
    let whole = ReferencePack::open(&fasta, &gff3);
    let folder = scratch("pack-parts");
    let built = packed::build(&fasta, &gff3, &folder);
    if let (Ok(whole), Ok(built)) = (&whole, &built) {
        assert_eq!(whole.records().len() as u64, built.records);
        asked(whole);
    }
}

/// Every transcript of a GFF3 file is one.
pub(super) fn transcripts(bytes: &[u8]) {
    if let Ok(read) = gff::read(&on_disk("case.gff3", bytes)) {
        assert!(!read.placed.is_empty());
        for placed in read.placed.iter().take(50) {
            let (first, last) = placed.transcript.span();
            assert!(first <= last && !placed.transcript.exons().is_empty());
            placed.transcript.site(first);
        }
    }
}

/// Every row of a VCF file is told, used or not.
pub(super) fn variant_file(bytes: &[u8]) {
    let Ok(reader) = vcf::Reader::open(&on_disk("case.vcf", bytes)) else { return };
    for row in reader.take(10_000) {
        let Ok(row) = row else { break };
        let _ = row.info("AF");
        if let Ok(variant) = row.variant {
            assert_eq!(variant.position, row.position);
        }
    }
}

/// Intervals of a BED file begin before they end.
pub(super) fn intervals(bytes: &[u8]) {
    let _ = bed::read(&on_disk("case.bed", bytes));
}

/// A FASTA file with an index beside it, which may lie.
pub(super) fn indexed(bytes: &[u8]) {
    let [fasta, index]: [&[u8]; 2] = corpus::split(bytes);
    let (gff3, fasta) = (on_disk("indexed.gff3", GFF.as_bytes()), on_disk("indexed.fa", fasta));
    let _ = on_disk("indexed.fa.fai", index);
    if let Ok(reference) = ReferencePack::open(&fasta, &gff3) {
        asked(&reference);
    }
}

/// The parts of a pack: what opens answers, or says that it cannot.
pub(super) fn parts(bytes: &[u8]) {
    let [records, transcripts, runs, bases]: [&[u8]; 4] = corpus::split(bytes);
    let blocks: Vec<u8> =
        bases.chunks(BLOCK_BYTES).flat_map(|block| <[u8; 32]>::from(Sha256::digest(block))).collect();
    let parts = Parts {
        records: records.into(),
        transcripts: transcripts.into(),
        runs: runs.into(),
        blocks,
        source: Arc::new(bases.to_vec()),
        bases_at: 0,
        bases_len: bases.len() as u64,
    };
    if let Ok(reference) = ReferencePack::packed(parts) {
        asked(&reference);
    }
}
