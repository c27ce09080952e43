//! What answers say beside the probability, with the real programs and the shipped models on the real panel.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use locus_firmware_config::{
    manifest::{EvidenceStep, Manifest},
    message::{Answer, Outcome, Request},
};
use locus_genome::{ReferencePack, Variant, changed::Edit, vcf};
use locus_tests::{Daemon, Rig, data, program, root, variation};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A box with the panel as its reference.
fn rig() -> Option<(Rig, PathBuf)> {
    let panel = data("answers")?.join("panel").canonicalize().unwrap();
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let rig = Rig::new(&format!("[reference]\nfasta = {fasta:?}\ngff = {gff:?}\n")).unwrap();
    Some((rig, panel))
}

async fn ask(daemon: &Daemon, variant: &str) -> Answer {
    let request = Request { variant: Some(variant.into()), ..Request::default() };
    match daemon.http("ward-1").unwrap().ask(&request, PATIENCE).await.unwrap() {
        Outcome::Answer(answer) => *answer,
        other => panic!("{variant}: {other:?}"),
    }
}

fn steps(model: &str) -> Vec<EvidenceStep> {
    let bytes = fs::read(root().join("models").join(format!("{model}.locus"))).unwrap();
    let manifest = Manifest::from_json(&locus_export::split(&bytes).unwrap().remove(0).1).unwrap();
    manifest.probability.modes["transcript"].evidence.clone()
}

/// What the manifest's steps make of a probability, written out without the box's code.
fn reached(steps: &[EvidenceStep], probability: f64) -> Option<(&str, &str)> {
    let find = |criterion: &str, strength: &str| {
        steps
            .iter()
            .find(|s| s.criterion == criterion && s.strength == strength)
            .filter(|s| if criterion == "PP3" { probability >= s.from } else { probability <= s.from })
    };
    ["very strong", "strong", "moderate", "supporting"]
        .iter()
        .find_map(|strength| find("PP3", strength).or_else(|| find("BP4", strength)))
        .map(|s| (s.criterion.as_str(), s.strength.as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn missense_variants_of_validation_get_the_steps_of_evidence_that_the_manifest_has_and_others_none() {
    let Some((rig, panel)) = rig() else { return };
    rig.flash().unwrap();
    let steps = steps("variant-effect");
    let daemon = rig.start().unwrap();
    // Both are pathogenic and answered so; the second by a term that the labels were made by.
    let missense = ask(&daemon, "chr2-227294999-G-C").await;
    let evidence = missense.evidence.clone().unwrap();
    assert_eq!(
        (missense.consequence.as_deref(), evidence.criterion.as_str()),
        (Some("missense_variant"), "PP3")
    );
    assert_eq!((evidence.strength.as_str(), evidence.likelihood_ratio), ("supporting", 2.08));
    let stop = ask(&daemon, "chr2-227052367-G-C").await;
    assert_eq!((stop.consequence.as_deref(), stop.evidence.clone()), (Some("stop_gained"), None));
    assert!(stop.pathogenic_probability.unwrap() > missense.pathogenic_probability.unwrap());

    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap().collect::<Result<_, _>>().unwrap();
    let validation = rows.iter().filter(|row| row.info("SPLIT") == Some("val"));
    let (mut given, mut none, mut others) = (std::collections::BTreeMap::new(), 0, 0);
    for row in validation.step_by(24) {
        let answer = ask(&daemon, &row.variant.as_ref().unwrap().to_string()).await;
        let said = answer.evidence.as_ref().map(|e| (e.criterion.as_str(), e.strength.as_str()));
        if !answer.consequence.as_deref().unwrap_or_default().starts_with("missense_variant") {
            assert_eq!(said, None, "{:?}", answer.mutation);
            others += 1;
            continue;
        }
        assert_eq!(said, reached(&steps, answer.pathogenic_probability.unwrap()), "{:?}", answer.mutation);
        match said {
            Some((criterion, strength)) => {
                *given.entry(format!("{criterion} {strength}")).or_insert(0) += 1;
            }
            None => none += 1,
        }
    }
    println!("validation records: {given:?}, missense without a step {none}, other consequences {others}");
    assert!(given.contains_key("PP3 supporting") && given.contains_key("BP4 moderate"), "{given:?}");
    assert!(none > 0 && others > 50);
}

#[test]
fn both_shipped_models_state_their_steps_and_none_that_validation_does_not_show() {
    for model in ["variant-effect", "variant-effect-small"] {
        let steps = steps(model);
        let named: Vec<String> = steps.iter().map(|s| format!("{} {}", s.criterion, s.strength)).collect();
        assert_eq!(named, ["PP3 supporting", "BP4 supporting", "BP4 moderate"], "{model}");
        assert!(steps[2].from < steps[1].from && steps[1].from < steps[0].from, "{model}");
    }
}

const SEED: u64 = 20_261_126;

/// Small insertions, deletions and replacements beside validation variants, as VCF writes them.
fn drawn(panel: &Path) -> Vec<Variant> {
    let pack =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap().collect::<Result<_, _>>().unwrap();
    let validation = rows.iter().filter(|row| row.info("SPLIT") == Some("val"));
    let mut all = Vec::new();
    for row in validation.step_by(40) {
        let beside = row.variant.as_ref().unwrap();
        let around = pack.bases_around(&beside.contig, beside.position, 20).unwrap();
        let (removed, added) = (rng.random_range(0..=12), rng.random_range(0..=12));
        let at = (beside.position as i64 - around.first) as usize;
        let Some(ref_allele) = around.bases.get(at..=at + removed) else { continue };
        let mut alt_allele = vec![ref_allele[0]];
        // Every third is a deletion and every third an insertion.
        let added = if all.len() % 3 == 0 { 0 } else { added };
        let ref_allele = if all.len() % 3 == 1 { &ref_allele[..1] } else { ref_allele };
        alt_allele.extend((0..added).map(|_| b"ACGT"[rng.random_range(0..4)]));
        let text = |bases: &[u8]| String::from_utf8(bases.to_vec()).unwrap();
        let edit = Edit::of(0, ref_allele, &alt_allele);
        if ref_allele != alt_allele && (edit.removed.len(), edit.added.len()) != (1, 1) {
            let (r, a) = (text(ref_allele), text(&alt_allele));
            all.push(Variant::new(&beside.contig, beside.position, &r, &a).unwrap());
        }
    }
    all
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the workbench reads and computes of variants, and what the box reads.
fn read_by_both(rig: &Rig, bundle: &Path, panel: &Path, variants: &[Variant]) -> (Vec<Value>, Vec<Value>) {
    let mut vcf = String::from("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
    let mut requests = String::new();
    for v in variants {
        writeln!(vcf, "{}\t{}\t.\t{}\t{}\t.\t.\t.", v.contig, v.position, v.ref_allele, v.alt_allele)
            .unwrap();
        writeln!(requests, "{}", json!({ "variant": v.to_string() })).unwrap();
    }
    fs::write(rig.path("some.vcf"), vcf).unwrap();
    fs::write(rig.path("requests"), requests).unwrap();
    let scored = program("locus")
        .args(["score", "--max-batch", "1", "--bundle"])
        .arg(bundle)
        .arg("--fasta")
        .arg(panel.join("panel.GRCh38.fa.gz"))
        .arg("--gff")
        .arg(panel.join("panel.GRCh38.gff3.gz"))
        .args(["--vcf", "some.vcf", "--out", "some.tsv", "--inputs", "some.jsonl"])
        .current_dir(rig.path(""))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(scored.success());
    let (bundle, requests) = (bundle.display().to_string(), rig.path("requests").display().to_string());
    let edge = rig.ctl(&["encode", "--bundle", &bundle, "--requests", &requests]).unwrap();
    (lines(&fs::read_to_string(rig.path("some.jsonl")).unwrap()), lines(&edge))
}

/// Probabilities of the shipped model for indels mean nothing: it was not trained on them, and its own scope says so. What
/// is shown here is that a scope which lists them is followed, alike on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn small_indels_are_read_alike_on_host_and_box_and_answered_where_the_scope_lists_them() {
    let Some((rig, panel)) = rig() else { return };
    let (unsigned, signed) = (rig.path("indels.unsigned"), rig.path("indels.locus"));
    fs::write(&unsigned, variation(|manifest| manifest.scope.kinds.push("indel".into())).unwrap()).unwrap();
    rig.sign(&unsigned, &signed).unwrap();
    rig.ctl(&["init"]).unwrap();
    rig.ctl(&["flash", &signed.display().to_string()]).unwrap();
    let variants = drawn(&panel);
    let (host, edge) = read_by_both(&rig, &signed, &panel, &variants);
    assert!(variants.len() > 100 && host.len() == variants.len() && edge.len() == host.len());
    let daemon = rig.start().unwrap();
    let (mut named, mut shifted) = (0, 0);
    for ((variant, host), edge) in variants.iter().zip(&host).zip(&edge) {
        for key in ["ref_ids", "alt_ids", "track", "alt_track", "features", "input_mode", "consequence"] {
            assert_eq!(host[key], edge[key], "{key} of {variant}");
        }
        shifted += u32::from(host["track"] != host["alt_track"]);
        let answer = ask(&daemon, &variant.to_string()).await;
        let probability = answer.pathogenic_probability;
        assert!(!answer.abstained && probability.is_some(), "{variant}: {}", answer.predicted_description);
        assert_eq!(answer.evidence, None, "{variant}");
        let table = fs::read_to_string(rig.path("some.tsv")).unwrap();
        let row: Vec<&str> = table
            .lines()
            .nth(1 + variants.iter().position(|v| v == variant).unwrap())
            .unwrap()
            .split('\t')
            .collect();
        assert_eq!(row[4], format!("{:.6}", probability.unwrap()), "{variant}");
        // By its HGVS name, which may name another unit of a repeat, it is the same change.
        let (Some(c), Some(transcript)) = (&answer.hgvs_c, &answer.transcript_id) else { continue };
        let by_name = ask(&daemon, &format!("{transcript}:{}", c.rsplit(':').next().unwrap())).await;
        assert_eq!(by_name.pathogenic_probability, probability, "{variant} as {c}");
        named += 1;
    }
    println!(
        "seed {SEED}: {} indels read alike, {shifted} with another track, {named} asked by name too",
        variants.len()
    );
    assert!(shifted > 10 && named > 80, "{shifted} {named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_abstains_from_indels_and_names_them_all_the_same() {
    let Some((rig, panel)) = rig() else { return };
    rig.flash().unwrap();
    let variants: Vec<Variant> = drawn(&panel).into_iter().take(20).collect();
    let (host, edge) = read_by_both(&rig, &root().join("models/variant-effect.locus"), &panel, &variants);
    let daemon = rig.start().unwrap();
    for ((variant, host), edge) in variants.iter().zip(&host).zip(&edge) {
        assert_eq!((&host["ref_ids"], &host["logits"]), (&json!([]), &json!([])));
        assert_eq!(edge["ref_ids"], json!([]));
        let answer = ask(&daemon, &variant.to_string()).await;
        assert!(answer.abstained && answer.pathogenic_probability.is_none() && answer.evidence.is_none());
        assert_eq!(answer.predicted_description, "no prediction: out of scope: not a single-base variant");
        assert!(answer.out_of_distribution && answer.consequence.is_some());
    }
    // One base is one base, with others around it or not.
    let plain = ask(&daemon, "chr2-227294999-G-C").await;
    let reference =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let around = reference.bases_around("chr2", 227_294_999, 2).unwrap();
    let bases = String::from_utf8(around.bases.to_vec()).unwrap();
    let padded = format!("chr2-227294997-{bases}-{}C{}", &bases[..2], &bases[3..]);
    let padded = ask(&daemon, &padded).await;
    assert_eq!(padded.pathogenic_probability, plain.pathogenic_probability);
    assert_eq!((padded.evidence, padded.hgvs_p), (plain.evidence, plain.hgvs_p));
}
