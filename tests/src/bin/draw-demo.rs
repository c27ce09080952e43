//! Draws the demo's twelve variants from the test split by a seed and quotes each as a fact: label,
//! transcript and 300 bases on each side. Run once, before any model was trained.

use anyhow::{Context, Result};
use locus_genome::{ReferencePack, Strand, dna, vcf};
use rand::{SeedableRng, seq::SliceRandom};
use serde_json::json;

const SEED: u64 = 20_261_124;
const FLANK: i64 = 300;

fn main() -> Result<()> {
    let data = locus_tests::data("draw-demo").context("no data")?;
    let panel = data.join("panel");
    let pack = ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz"))?;
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz"))?.collect::<Result<_, _>>()?;
    let mut rows: Vec<&vcf::Row> = rows
        .iter()
        .filter(|r| r.info("SPLIT") == Some("test") && r.info("MC") != Some("other_gene"))
        .collect();
    rows.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(SEED));
    let mut drawn = Vec::new();
    for (label, missense, count) in [("1", true, 3), ("1", false, 3), ("0", true, 2), ("0", false, 4)] {
        let fits =
            |r: &&&vcf::Row| r.info("LABEL") == Some(label) && (r.info("MC") == Some("missense")) == missense;
        drawn.extend(rows.iter().filter(fits).take(count));
    }
    let quoted = drawn.into_iter().map(|row| quote(&pack, row)).collect::<Result<Vec<_>>>()?;
    let text = serde_json::to_string_pretty(&json!({
        "drawn_by": "cargo run -p locus-tests --bin draw-demo", "seed": SEED, "split": "test",
        "assembly": "GRCh38", "variants": quoted,
    }))?;
    std::fs::write(locus_tests::root().join("tests/fixtures/demo.json"), text + "\n")?;
    Ok(())
}

fn quote(pack: &ReferencePack, row: &vcf::Row) -> Result<serde_json::Value> {
    let variant = row.variant.clone().map_err(anyhow::Error::msg)?;
    let around = pack.bases_around(&variant.contig, variant.position, FLANK)?;
    let id = format!("{}t1", row.info("LRG").context("no LRG")?);
    let transcript =
        pack.transcript_for(&variant, Some(&id))?.context("no transcript")?.shifted(1 - around.first);
    let centre = variant.position as i64 - around.first + 1;
    let sequence = String::from_utf8(around.bases.to_vec())?;
    debug_assert!(sequence.bytes().all(dna::is_base));
    Ok(json!({
        "variant": variant.to_string(), "gene": row.info("GENE"), "label": row.info("LABEL").map(|l| l == "1"),
        "stars": row.info("STARS"), "mc": row.info("MC"), "aa": row.info("AA"), "transcript_id": id,
        "sequence": sequence,
        "mutation": format!("{}{centre}{}", variant.ref_allele, variant.alt_allele),
        "transcript": {
            "strand": if transcript.strand == Strand::Forward { "+" } else { "-" },
            "exons": transcript.exons().iter().map(|e| [e.start, e.end]).collect::<Vec<_>>(),
            "cds": transcript.cds().iter().map(|c| (c.start, c.end, c.phase)).collect::<Vec<_>>(),
        },
    }))
}
