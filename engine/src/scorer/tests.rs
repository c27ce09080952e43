//! Tiny bundles scored from end to end.

use super::*;
use crate::bundle::{Limits, Trust};
use crate::session::{ActivePrecision, EngineKind, Precision, SessionError};
use crate::testing::{self, BundleDraft};
use locus_genome::{
    CONTEXT_BASES, InputMode, KmerTokenizer, Mutation, Strand,
    encode::{Allele, Stretch},
};

const SEQUENCE: &str = "ACGTTGCAATGCCGTAAGCTTACGGATCCATGCAATTCGGCTAAGCTTGCATGCCTGCAGGTCGACTCTAGAGGATCC";

fn encoded(mutation: &str, sequence: &str) -> EncodedVariant {
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
    let mutation: Mutation = mutation.parse().unwrap();
    encoder.encode_sequence(sequence, &mutation, None).unwrap()
}

fn with_transcript(mut variant: EncodedVariant) -> EncodedVariant {
    variant.mode = InputMode::Transcript;
    variant
}

fn open_draft(draft: &mut BundleDraft, options: &LoadOptions) -> Result<Scorer, Error> {
    let bytes = draft.bytes();
    let bundle =
        Bundle::read(bytes.as_slice(), bytes.len() as u64, &Trust::AllowUnsigned, &Limits::default())?;
    Scorer::open(&bundle, &testing::profile(), options)
}

fn tract() -> LoadOptions {
    LoadOptions { order: vec![EngineKind::Tract], precision: Precision::Fp32, ..LoadOptions::default() }
}

/// Of both buckets, and of less than a whole window.
fn golden_variants() -> Vec<EncodedVariant> {
    let whole = ["A34T", "G40C", "T4A", "C19T", "C50G", "C58T"].map(|mutation| encoded(mutation, SEQUENCE));
    let short = ["T5G", "A8C"].map(|mutation| encoded(mutation, &SEQUENCE[..20]));
    whole.into_iter().chain(short).collect()
}

/// A bundle whose golden logits are what tract computes, `off` added.
fn golden_draft(off: f32) -> BundleDraft {
    let variants = golden_variants();
    let mut draft = BundleDraft::new(4);
    draft.set_golden(&variants, &vec![vec![0.0]; variants.len()]);
    let mut scorer = open_draft(&mut draft, &tract()).unwrap();
    let rows: Vec<Row<'_>> = variants.iter().map(Row::from).collect();
    let mut logits = scorer.logits(&rows).unwrap();
    logits.iter_mut().flatten().for_each(|logit| *logit += off);
    draft.set_golden(&variants, &logits);
    draft
}

#[test]
fn batched_scores_are_the_single_ones_in_their_order() {
    let mut scorer = open_draft(&mut golden_draft(0.0), &tract()).unwrap();
    let variants: Vec<EncodedVariant> = (10..SEQUENCE.len() - 10)
        .step_by(7)
        .map(|offset| {
            let base = &SEQUENCE[offset..=offset];
            let alt = if base == "A" { "C" } else { "A" };
            with_transcript(encoded(&format!("{base}{}{alt}", offset + 1), SEQUENCE))
        })
        .collect();
    let together = scorer.score(&variants).unwrap();
    for (variant, together) in variants.iter().zip(&together) {
        let alone = scorer.score(std::slice::from_ref(variant)).unwrap().remove(0);
        assert!((alone.logits[0] - together.logits[0]).abs() < 1e-5);
        assert_eq!(alone.band, together.band);
        assert!(!together.abstained && together.probability.is_some() && together.prior == Some(0.4));
    }
    assert!(scorer.score(&[]).unwrap().is_empty());
}

#[test]
fn what_the_model_cannot_judge_abstains_and_does_not_fail_the_others() {
    let mut scorer = open_draft(&mut golden_draft(0.0), &tract()).unwrap();
    let good = with_transcript(encoded("A34T", SEQUENCE));
    let bare = encoded("A34T", SEQUENCE);
    let mut indel = good.clone();
    indel.in_scope = Err(ScopeReason::NotSnv);
    indel.ref_ids.clear();
    let scores = scorer.score(&[indel, good, bare]).unwrap();
    assert!(scores[0].abstained && scores[0].logits.is_empty() && scores[0].band == Band::None);
    assert!(!scores[1].abstained);
    // The bundle's sequence-only mode was right in 70 % of validation: a logit, but no probability.
    assert!(scores[2].abstained && scores[2].probability.is_none() && scores[2].logits.len() == 1);
    assert!(scores[2].reason.as_deref().unwrap().contains("70.0 %"), "{:?}", scores[2].reason);
}

#[test]
fn the_manifests_scope_is_kept() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 3] = [
        ("input mode", |manifest| manifest["scope"]["modes"] = vec!["sequence_only"].into()),
        ("bases around", |manifest| manifest["scope"]["min_bases"] = 64.into()),
        ("single-base", |manifest| manifest["scope"]["kinds"] = vec!["indel"].into()),
    ];
    for (expected, change) in cases {
        let mut draft = golden_draft(0.0);
        change(&mut draft.manifest);
        if expected == "bases around" {
            draft.manifest["scope"]["max_bases"] = 99.into();
        }
        let mut scorer = open_draft(&mut draft, &tract()).unwrap();
        let score = scorer.score(&[with_transcript(encoded("G40C", SEQUENCE))]).unwrap().remove(0);
        assert!(score.abstained, "{expected}");
        assert!(score.reason.as_deref().unwrap().contains(expected), "{:?}", score.reason);
    }
}

#[test]
fn golden_vectors_pass_on_the_model_they_were_made_with_and_on_no_other() {
    let report = open_draft(&mut golden_draft(0.0), &tract()).unwrap().golden_self_test().unwrap();
    assert_eq!((report.vectors, report.precision, report.skipped), (8, ActivePrecision::Fp32, None));
    assert!(report.largest_difference < 1e-5);
    let off = open_draft(&mut golden_draft(0.01), &tract()).unwrap().golden_self_test();
    assert!(matches!(off, Err(Error::Score(ScoreError::GoldenDiffers { vector: 0, .. }))), "{off:?}");
    let mut swapped = golden_draft(0.0);
    *swapped.part_mut("fp32.onnx") = testing::pair_model(5, false);
    let swapped = open_draft(&mut swapped, &tract()).unwrap().golden_self_test();
    assert!(matches!(swapped, Err(Error::Score(ScoreError::GoldenDiffers { .. }))), "{swapped:?}");
}

#[test]
fn int8_is_compared_with_the_int8_logits() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let options = LoadOptions { order: vec![EngineKind::OrtCpu], ..LoadOptions::default() };
    let mut scorer = open_draft(&mut golden_draft(0.0), &options).unwrap();
    let report = scorer.golden_self_test().unwrap();
    let expected = if report.precision.is_int8() { 0.25 } else { 1e-4 };
    assert_eq!((report.vectors, report.tolerance), (8, expected));
}

#[test]
fn the_fake_engine_never_passes_a_self_test_and_serves_only_when_named() {
    let fake = LoadOptions { order: vec![EngineKind::Fake], ..LoadOptions::default() };
    let report = open_draft(&mut golden_draft(0.0), &fake).unwrap().golden_self_test().unwrap();
    assert!(report.vectors == 0 && report.skipped.is_some());
    let missing = Some(std::path::PathBuf::from("/nonexistent.so"));
    let only_ort = LoadOptions { order: vec![EngineKind::OrtCpu], onnxruntime: missing.clone(), ..tract() };
    let error = open_draft(&mut golden_draft(0.0), &only_ort).unwrap_err();
    assert!(matches!(&error, Error::NoEngine { skipped } if skipped.len() == 1), "{error}");
    let default_order = LoadOptions { onnxruntime: missing, ..LoadOptions::default() };
    let scorer = open_draft(&mut golden_draft(0.0), &default_order).unwrap();
    assert_eq!(scorer.spec().engine, EngineKind::Tract);
    assert!(!scorer.skipped().is_empty());
    for order in [vec![EngineKind::Tract, EngineKind::Fake], vec![EngineKind::Fake, EngineKind::Tract]] {
        let error = open_draft(&mut golden_draft(0.0), &LoadOptions { order, ..tract() }).unwrap_err();
        assert!(matches!(error, Error::Session(SessionError::FakeBesideOthers { .. })), "{error}");
    }
}

#[test]
fn bundles_that_do_not_fit_this_program_do_not_open() {
    let mut features = golden_draft(0.0);
    features.manifest["graph"]["features"][0] = "phylop".into();
    let error = open_draft(&mut features, &tract()).unwrap_err();
    assert!(
        matches!(&error, Error::Score(ScoreError::Features { first, .. }) if first == "phylop"),
        "{error}"
    );
    let mut count = golden_draft(0.0);
    count.manifest["golden"]["count"] = 9.into();
    let error = open_draft(&mut count, &tract()).unwrap_err();
    assert!(matches!(error, Error::Score(ScoreError::GoldenMalformed { .. })), "{error}");
}

#[test]
fn small_indels_are_answered_where_the_scope_lists_them_and_abstained_from_elsewhere() {
    let stretch = Stretch { bases: SEQUENCE.as_bytes(), first: 1 };
    let read = |scorer: &Scorer, from: usize, removed: usize, added: &str| {
        // As VCF writes it, with the base before.
        let ref_allele = &SEQUENCE[from..=from + removed];
        let alt_allele = format!("{}{added}", &SEQUENCE[from..=from]);
        let allele = Allele {
            position: from as i64 + 1,
            ref_allele: ref_allele.as_bytes(),
            alt_allele: alt_allele.as_bytes(),
        };
        let encoded = scorer.encoder().encode(stretch, &allele, None, CONTEXT_BASES, Strand::Forward);
        with_transcript(encoded.unwrap())
    };
    let variants = |scorer: &Scorer| -> Vec<EncodedVariant> {
        [(33, 2, ""), (30, 0, "GAT"), (38, 12, "C"), (20, 1, "")]
            .map(|(from, removed, added)| read(scorer, from, removed, added))
            .into()
    };
    let mut draft = golden_draft(0.0);
    let mut single = open_draft(&mut draft, &tract()).unwrap();
    for score in single.score(&variants(&single)).unwrap() {
        assert!(score.abstained && score.logits.is_empty() && score.band == Band::None);
        assert_eq!(score.reason.as_deref(), Some("out of scope: not a single-base variant"));
    }
    draft.manifest["scope"]["kinds"] = vec!["snv", "indel"].into();
    let mut scorer = open_draft(&mut draft, &tract()).unwrap();
    let indels = variants(&scorer);
    let together = scorer.score(&indels).unwrap();
    for (variant, score) in indels.iter().zip(&together) {
        assert!(!score.abstained && score.probability.is_some(), "{:?}", score.reason);
        assert_ne!(variant.ref_ids, variant.alt_ids);
        let alone = scorer.score(std::slice::from_ref(variant)).unwrap().remove(0);
        assert!((alone.logits[0] - score.logits[0]).abs() < 1e-5);
        // The scope is asked again where it is judged, whoever made the rows.
        let judged = single.judge(variant, score.logits.clone()).unwrap();
        assert_eq!(judged.reason.as_deref(), Some("out of scope: not a single-base variant"));
    }
    let long = read(&scorer, 36, 0, &"ACGTA".repeat(6));
    let score = scorer.score(&[long]).unwrap().remove(0);
    assert!(score.abstained && score.logits.is_empty());
    assert_eq!(score.reason.as_deref(), Some("out of scope: more bases are changed than the model reads"));
}
