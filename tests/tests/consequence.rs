//! Consequence and window on every record of the real panel, against the annotation it came with.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use locus_genome::{Consequence, KmerTokenizer, ReferencePack, VariantEncoder, consequence::Bases as _, vcf};

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

#[test]
fn the_real_panel_agrees_with_its_annotation() {
    let Some(data) = locus_tests::data("consequence agreement") else { return };
    let panel = data.join("panel");
    let pack =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
    let (mut compared, mut agreed, mut residues, mut letters, mut numbers) = (0u32, 0u32, 0u32, 0u32, 0u32);
    let mut disagreements: BTreeMap<(String, String), u32> = BTreeMap::new();
    for row in vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap() {
        let row = row.unwrap();
        let variant = row.variant.clone().unwrap();
        let transcript = format!("{}t1", row.info("LRG").unwrap());
        let around = pack.bases_around(&variant.contig, variant.position, 31).unwrap();
        assert_eq!(around.base(variant.position as i64), Some(variant.ref_allele.as_bytes()[0]), "{variant}");
        let Some(want) = expected(row.info("MC").unwrap()) else { continue };
        let encoded = encoder.encode_reference(&pack, &variant, Some(&transcript)).unwrap();
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
    assert_eq!(compared, 43_801);
    assert!(f64::from(agreed) >= 0.995 * f64::from(compared));
    assert!(f64::from(letters) >= 0.999 * f64::from(residues));
    // ALMS1 and SLC37A4 count residues past a gap between transcript and genome, which GFF3 does not carry.
    assert!(f64::from(numbers) >= 0.99 * f64::from(residues));
}
