//! Consequence and window on every record of the real panel, against the annotation it came with.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use locus_genome::{
    Consequence, KmerTokenizer, ReferencePack, Strand, Variant, VariantEncoder, dna,
    encode::{CONTEXT_BASES, EncodedVariant},
    vcf,
};

const WINDOW_KMERS: usize = 61;

fn expected(mc: &str) -> Option<Consequence> {
    Some(match mc {
        "synonymous" => Consequence::Synonymous,
        "missense" => Consequence::Missense,
        "stop_gained" => Consequence::StopGained,
        "stop_lost" => Consequence::StopLost,
        "start_lost" => Consequence::StartLost,
        "splice_donor" => Consequence::SpliceDonor,
        "splice_acceptor" => Consequence::SpliceAcceptor,
        "splice_region_intron" => Consequence::SpliceRegionIntron,
        "missense_splice_region" => Consequence::MissenseSpliceRegion,
        "synonymous_splice_region" => Consequence::SynonymousSpliceRegion,
        "intron" => Consequence::Intron,
        "5utr" => Consequence::FivePrimeUtr,
        "3utr" => Consequence::ThreePrimeUtr,
        "noncoding_exon" => Consequence::NonCodingExon,
        "upstream" => Consequence::Upstream,
        "downstream" => Consequence::Downstream,
        _ => return None,
    })
}

/// The bases that a row of token ids stands for.
fn bases_of(tokenizer: &KmerTokenizer, ids: &[i64]) -> Vec<u8> {
    let kmers: Vec<Vec<u8>> = ids[1..ids.len() - 1]
        .iter()
        .map(|&id| tokenizer.decode(u32::try_from(id).unwrap()).unwrap())
        .collect();
    let firsts = kmers[..kmers.len() - 1].iter().map(|kmer| kmer[0]);
    firsts.chain(kmers[kmers.len() - 1].iter().copied()).collect()
}

/// The windows of both alleles differ at their centre alone, where they hold REF and ALT in the sense that they are
/// read in.
fn check_windows(tokenizer: &KmerTokenizer, encoded: &EncodedVariant, variant: &Variant, sense: Strand) {
    let [reference, alternate] = [&encoded.ref_ids, &encoded.alt_ids].map(|ids| bases_of(tokenizer, ids));
    let in_sense = |allele: &str| match sense {
        Strand::Forward => allele.as_bytes()[0],
        Strand::Reverse => dna::complement(allele.as_bytes()[0]),
    };
    let centre = reference.len() / 2;
    // Near the end of a region it is smaller, and still centred.
    assert!(reference.len() == encoded.window_bases && reference.len() % 2 == 1, "{variant} {sense:?}");
    assert_eq!(reference[centre], in_sense(&variant.ref_allele), "{variant} {sense:?}");
    assert_eq!(alternate[centre], in_sense(&variant.alt_allele), "{variant} {sense:?}");
    let beside = |bases: &[u8]| [&bases[..centre], &bases[centre + 1..]].concat();
    assert_eq!(beside(&reference), beside(&alternate), "{variant} {sense:?}");
}

#[test]
fn the_real_panel_agrees_with_its_annotation() {
    let Some(data) = locus_tests::data("consequence agreement") else { return };
    let panel = data.join("panel");
    let pack =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let tokenizer = KmerTokenizer::new(3, 1).unwrap();
    let encoder = VariantEncoder::new(tokenizer, WINDOW_KMERS);
    let (mut compared, mut agreed, mut residues, mut letters, mut numbers) = (0u32, 0u32, 0u32, 0u32, 0u32);
    let mut disagreements: BTreeMap<(String, String), u32> = BTreeMap::new();
    for row in vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap() {
        let row = row.unwrap();
        let variant = row.variant.clone().unwrap();
        let transcript = format!("{}t1", row.info("LRG").unwrap());
        let read = pack.transcript_for(&variant, Some(&transcript)).unwrap().unwrap();
        let in_sense = encoder.encode_reference(&pack, &variant, Some(&transcript)).unwrap();
        check_windows(&tokenizer, &in_sense, &variant, read.strand);
        for sense in [Strand::Forward, Strand::Reverse] {
            let bare = encoder.encode_on(&pack, &variant, None, CONTEXT_BASES, sense).unwrap();
            check_windows(&tokenizer, &bare, &variant, sense);
            if sense == read.strand {
                assert_eq!(
                    (&bare.ref_ids, &bare.alt_ids),
                    (&in_sense.ref_ids, &in_sense.alt_ids),
                    "{variant}"
                );
            }
        }
        let Some(want) = expected(row.info("MC").unwrap()) else { continue };
        let encoded = in_sense;
        assert_eq!(encoded.in_scope, Ok(()), "{variant}");
        let got = encoded.consequence.unwrap();
        compared += 1;
        agreed += u32::from(got == want);
        if got != want {
            *disagreements.entry((row.info("MC").unwrap().to_owned(), got.to_string())).or_default() += 1;
        }
        if let Some(aa) = row.info("AA").filter(|aa| aa.len() > 2) {
            residues += 1;
            let change = encoded.amino_acid_change.unwrap_or_default();
            numbers += u32::from(change == aa);
            letters += u32::from(change.starts_with(&aa[..1]) && change.ends_with(&aa[aa.len() - 1..]));
        }
    }
    println!(
        "{agreed} of {compared} consequences, of {residues} residues {letters} and, with their number, {numbers}; \
         {disagreements:?}"
    );
    assert_eq!((compared, residues), (43_801, 34_625));
    assert!(f64::from(agreed) >= 0.995 * f64::from(compared));
    assert!(f64::from(letters) >= 0.999 * f64::from(residues));
    // ALMS1 and SLC37A4 count residues past a gap between transcript and genome, which GFF3 does not carry.
    assert!(f64::from(numbers) >= 0.99 * f64::from(residues));
}

/// SLC37A4's transcript has a gap against the genome, past which its phases contradict the lengths of its parts.
#[test]
fn a_transcript_whose_phases_contradict_its_parts_is_read_alike_in_both_forms() {
    let Some(data) = locus_tests::data("contradicting phases") else { return };
    let panel = data.join("panel");
    let pack =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), WINDOW_KMERS);
    let mut compared = 0;
    for row in vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap().map(Result::unwrap) {
        if row.info("LRG") != Some("LRG_187") {
            continue;
        }
        let variant = row.variant.clone().unwrap();
        let by_variant = encoder.encode_reference(&pack, &variant, Some("LRG_187t1")).unwrap();
        let around = pack.bases_around(&variant.contig, variant.position, CONTEXT_BASES).unwrap();
        let transcript = pack.transcript_for(&variant, Some("LRG_187t1")).unwrap().unwrap();
        let sequence = String::from_utf8(around.bases.to_vec()).unwrap();
        let at = variant.position as i64 - around.first + 1;
        let mutation = format!("{}{at}{}", variant.ref_allele, variant.alt_allele).parse().unwrap();
        let by_sequence = encoder
            .encode_sequence(&sequence, &mutation, Some(&transcript.shifted(1 - around.first)))
            .unwrap();
        assert!(!by_variant.phases_agree && by_variant.in_scope.is_ok(), "{variant}");
        // A codon whose other bases lie in an exon beyond what was sent cannot be translated.
        assert!(
            by_sequence.consequence == by_variant.consequence
                || by_sequence.consequence == Some(Consequence::Coding),
            "{variant}"
        );
        let model_input =
            |e: EncodedVariant| (e.ref_ids, e.alt_ids, e.track, e.features, e.mode, e.phases_agree);
        assert_eq!(model_input(by_variant), model_input(by_sequence), "{variant}");
        compared += 1;
    }
    assert_eq!(compared, 34);
}
