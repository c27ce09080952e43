//! Host and edge are one: `locus score`, `/predict` by variant and `/predict` by sequence with transcript give the
//! same token ids, track, features and logits.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use locus_firmware_config::{
    manifest::{Manifest, ModeCalibration},
    message::{Outcome, Request, TranscriptSpec},
};
use locus_genome::{ReferencePack, Strand, vcf};
use locus_tests::{Rig, data, onnxruntime, program, root};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use serde_json::{Value, json};

const BUNDLE: &str = "models/variant-effect.locus";
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

/// The drawn variants in every form that is asked.
struct Drawn {
    fasta: PathBuf,
    gff: PathBuf,
    vcf: String,
    variants: String,
    sequences: String,
}

fn draw(data: &Path) -> Drawn {
    let panel = data.join("panel").canonicalize().unwrap();
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let pack = ReferencePack::open(&fasta, &gff).unwrap();
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap().collect::<Result<_, _>>().unwrap();
    let mut rows: Vec<&vcf::Row> = rows.iter().filter(|row| row.info("SPLIT") == Some("test")).collect();
    rows.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(SEED));
    rows.truncate(VARIANTS);
    assert_eq!(rows.len(), VARIANTS);
    let mut vcf = String::from("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
    let (mut sequences, mut variants) = (String::new(), String::new());
    for row in rows {
        let variant = row.variant.as_ref().unwrap();
        let (contig, position, r, a) = (&row.contig, row.position, &row.ref_allele, &row.alt_allele);
        writeln!(vcf, "{contig}\t{position}\t.\t{r}\t{a}\t.\t.\t.").unwrap();
        writeln!(variants, "{}", json!({ "variant": variant.to_string() })).unwrap();
        writeln!(sequences, "{}", by_sequence(&pack, variant)).unwrap();
    }
    Drawn { fasta, gff, vcf, variants, sequences }
}

fn parsed(lines: &str) -> Vec<Value> {
    let all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), VARIANTS);
    all
}

/// What the workbench reads and computes.
fn on_the_host(rig: &Rig, drawn: &Drawn, precision: &str) -> Vec<Value> {
    fs::write(rig.path("some.vcf"), &drawn.vcf).unwrap();
    let scored = program("locus")
        // A box runs a lone request by itself, and an engine's kernels for one row and for more differ in the last bit,
        // which INT8 may round to another step.
        .args(["score", "--max-batch", "1", "--precision", precision, "--bundle"])
        .arg(root().join(BUNDLE))
        .arg("--fasta")
        .arg(&drawn.fasta)
        .arg("--gff")
        .arg(&drawn.gff)
        .args(["--vcf", "some.vcf", "--out", "some.tsv", "--inputs", "some.jsonl"])
        .current_dir(rig.path(""))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(scored.success());
    parsed(&fs::read_to_string(rig.path("some.jsonl")).unwrap())
}

/// Compares what the box reads, for both forms of request.
fn compare_inputs(rig: &Rig, drawn: &Drawn, host: &[Value]) {
    let mut cut_codons = 0;
    for (form, requests) in [("variants", &drawn.variants), ("sequences", &drawn.sequences)] {
        fs::write(rig.path(form), requests).unwrap();
        let (bundle, path) =
            (root().join(BUNDLE).display().to_string(), rig.path(form).display().to_string());
        let edge = parsed(&rig.ctl(&["encode", "--bundle", &bundle, "--requests", &path]).unwrap());
        for ((host, edge), asked) in host.iter().zip(&edge).zip(drawn.variants.lines()) {
            let variant: Value = serde_json::from_str(asked).unwrap();
            let text = |key: &str| host[key].as_str().unwrap();
            let name = format!("{}-{}-{}-{}", text("chrom"), host["pos"], text("ref"), text("alt"));
            assert_eq!(variant["variant"], name.as_str());
            for key in ["ref_ids", "alt_ids", "track", "features", "input_mode"] {
                assert_eq!(host[key], edge[key], "{key} of {asked} in {form}");
            }
            // A codon whose other bases lie in an exon beyond what was sent cannot be translated.
            let cut = form == "sequences" && edge["consequence"] == "coding_sequence_variant";
            assert!(cut || host["consequence"] == edge["consequence"], "{asked}");
            cut_codons += u32::from(cut);
            assert!(host["ref_ids"].as_array().unwrap().len() > 2);
        }
    }
    assert!(cut_codons < 10, "{cut_codons}");
}

/// The largest difference of a logit between the workbench and the box, over both forms of request.
async fn compare_logits(rig: &Rig, drawn: &Drawn, host: &[Value]) -> f64 {
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let manifest = locus_export::split(&fs::read(root().join(BUNDLE)).unwrap()).unwrap().remove(0).1;
    let calibration = Manifest::from_json(&manifest).unwrap().probability.modes["transcript"].clone();
    let (mut largest, mut compared) = (0.0_f64, 0);
    for requests in [&drawn.variants, &drawn.sequences] {
        for (request, host) in requests.lines().zip(host) {
            let request: Request = serde_json::from_str(request).unwrap();
            let outcome = http.ask(&request, Duration::from_secs(20)).await.unwrap();
            let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
            let Some(probability) = answer.pathogenic_probability else {
                panic!("abstained: {}", answer.predicted_description)
            };
            let expected = host["logits"][0].as_f64().unwrap();
            largest = largest.max((logit(probability, &calibration) - expected).abs());
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * VARIANTS);
    largest
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_test_variants_are_read_and_scored_alike() {
    let Some(data) = data("host_edge") else { return };
    let drawn = draw(&data);
    for precision in ["fp32", "int8"] {
        if precision == "int8" && onnxruntime().is_none() {
            println!(
                "skipped: INT8 needs ONNX Runtime, which is not there; `cargo xtask onnxruntime` fetches it"
            );
            continue;
        }
        let rig = Rig::new(&format!(
            "[reference]\nfasta = {:?}\ngff = {:?}\n[engine]\nprecision = \"{precision}\"\n",
            drawn.fasta, drawn.gff
        ))
        .unwrap();
        rig.flash().unwrap();
        let host = on_the_host(&rig, &drawn, precision);
        compare_inputs(&rig, &drawn, &host);
        let largest = compare_logits(&rig, &drawn, &host).await;
        println!(
            "seed {SEED}, {precision}: {VARIANTS} variants asked in two forms, largest logit difference {largest:.1e} (bar {TOLERANCE:.0e})"
        );
        assert!(largest <= TOLERANCE, "{precision}: {largest}");
    }
}
