//! Host and edge are one: `locus score`, `/predict` by variant and `/predict` by sequence with transcript give the
//! same token ids, track, features and logits.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use locus_firmware_config::{
    manifest::{Manifest, ModeCalibration},
    message::{Outcome, Request, TranscriptSpec},
};
use locus_genome::{ReferencePack, Strand, vcf};
use locus_tests::{Rig, data, program, root};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use serde_json::{Value, json};

const SEED: u64 = 20_261_124;
const VARIANTS: usize = 500;
const FLANK: i64 = 300;
const TOLERANCE: f64 = 1e-5;

/// The logit that a probability came from.
fn logit(probability: f64, calibration: &ModeCalibration) -> f64 {
    ((probability / (1.0 - probability)).ln() - calibration.offset) * calibration.temperature
}

/// The variant as a terminal without a genome would ask about it.
fn by_sequence(pack: &ReferencePack, variant: &locus_genome::Variant) -> Value {
    let around = pack.bases_around(&variant.contig, variant.position, FLANK).unwrap();
    let transcript = pack.transcript_for(variant, None).unwrap().unwrap().shifted(1 - around.first);
    let centre = variant.position as i64 - around.first + 1;
    let spec = TranscriptSpec {
        strand: if transcript.strand == Strand::Forward { "+" } else { "-" }.into(),
        exons: transcript.exons().iter().map(|e| (e.start, e.end)).collect(),
        cds: transcript.cds().iter().map(|c| (c.start, c.end, c.phase)).collect(),
    };
    json!({
        "sequence": String::from_utf8(around.bases.to_vec()).unwrap(),
        "mutation": format!("{}{centre}{}", variant.ref_allele, variant.alt_allele),
        "transcript": spec, "transcript_id": transcript.id, "gene": transcript.gene,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_test_variants_are_read_and_scored_alike() {
    let Some(data) = data("host_edge") else { return };
    let panel = data.join("panel").canonicalize().unwrap();
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let pack = ReferencePack::open(&fasta, &gff).unwrap();
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap().collect::<Result<_, _>>().unwrap();
    let mut rows: Vec<&vcf::Row> = rows.iter().filter(|row| row.info("SPLIT") == Some("test")).collect();
    rows.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(SEED));
    rows.truncate(VARIANTS);
    assert_eq!(rows.len(), VARIANTS);

    let rig = Rig::new(&format!("[reference]\nfasta = {fasta:?}\ngff = {gff:?}\n")).unwrap();
    let mut text = String::from("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
    let (mut sequences, mut variants) = (String::new(), String::new());
    for row in &rows {
        let variant = row.variant.as_ref().unwrap();
        writeln!(
            text,
            "{}\t{}\t.\t{}\t{}\t.\t.\t.",
            row.contig, row.position, row.ref_allele, row.alt_allele
        )
        .unwrap();
        writeln!(variants, "{}", json!({ "variant": variant.to_string() })).unwrap();
        writeln!(sequences, "{}", by_sequence(&pack, variant)).unwrap();
    }
    for (name, text) in [("some.vcf", &text), ("variants.jsonl", &variants), ("sequences.jsonl", &sequences)]
    {
        fs::write(rig.path(name), text).unwrap();
    }

    // What the workbench reads and computes.
    let bundle = root().join("models/variant-effect.locus");
    let scored = Command::new(program("locus"))
        .args(["score", "--bundle"])
        .arg(&bundle)
        .arg("--fasta")
        .arg(&fasta)
        .arg("--gff")
        .arg(&gff)
        .args(["--vcf", "some.vcf", "--out", "some.tsv", "--inputs", "some.jsonl"])
        .current_dir(rig.path(""))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(scored.success());
    let host: Vec<Value> = fs::read_to_string(rig.path("some.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(host.len(), VARIANTS);

    // What the box reads.
    let mut cut_codons = 0;
    for requests in ["variants.jsonl", "sequences.jsonl"] {
        let path = |name: &str| rig.path(name).display().to_string();
        let lines = rig
            .ctl(&["encode", "--bundle", &bundle.display().to_string(), "--requests", &path(requests)])
            .unwrap();
        let edge: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(edge.len(), VARIANTS);
        for ((host, edge), row) in host.iter().zip(&edge).zip(&rows) {
            for key in ["ref_ids", "alt_ids", "track", "features", "input_mode"] {
                assert_eq!(host[key], edge[key], "{key} of {}:{} in {requests}", row.contig, row.position);
            }
            // A codon whose other bases lie in an exon beyond what was sent cannot be translated.
            let cut = requests == "sequences.jsonl" && edge["consequence"] == "coding_sequence_variant";
            assert!(cut || host["consequence"] == edge["consequence"], "{}:{}", row.contig, row.position);
            cut_codons += u32::from(cut);
            assert!(host["ref_ids"].as_array().unwrap().len() > 2);
        }
    }

    // What the box computes.
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let manifest = locus_export::split(&fs::read(&bundle).unwrap()).unwrap().remove(0).1;
    let calibration = Manifest::from_json(&manifest).unwrap().probability.modes["transcript"].clone();
    let (mut largest, mut compared) = (0.0_f64, 0);
    for requests in [&variants, &sequences] {
        for (request, host) in requests.lines().zip(&host) {
            let request: Request = serde_json::from_str(request).unwrap();
            let outcome = http.ask(&request, Duration::from_secs(20)).await.unwrap();
            let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
            let Some(probability) = answer.pathogenic_probability else {
                panic!("abstained: {}", answer.predicted_description)
            };
            let difference = (logit(probability, &calibration) - host["logits"][0].as_f64().unwrap()).abs();
            assert!(difference <= TOLERANCE, "{difference} for {:?}", answer.mutation);
            largest = largest.max(difference);
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * VARIANTS);
    println!(
        "seed {SEED}: {VARIANTS} variants, largest logit difference {largest:.1e} (bar {TOLERANCE:.0e})"
    );
}
