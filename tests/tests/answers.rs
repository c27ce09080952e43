//! What answers say beside the probability, with the real programs and the shipped models on the real panel.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::PathBuf, time::Duration};

use locus_firmware_config::{
    manifest::{EvidenceStep, Manifest},
    message::{Answer, Outcome, Request},
};
use locus_genome::vcf;
use locus_tests::{Daemon, Rig, data, root};

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
