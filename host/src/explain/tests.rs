//! A model and a panel for the tests of this room, and what holds across its parts.

use std::path::Path;

use locus_genome::{InputMode, KmerTokenizer, ReferencePack, VariantEncoder, vcf};

use super::*;
use crate::{
    Recipe,
    commands::SourceFiles,
    data::{Features, Pair},
    model::Params,
};

/// Random weights large enough for the answer to depend on everything.
pub(super) fn model() -> Model {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
    let config = Recipe::read(&recipe).unwrap().model_config(69, locus_genome::feature_names().len());
    let config = crate::model::ModelConfig { initializer_range: 0.3, ..config };
    let params = Params::new(&config, 5).unwrap();
    for (name, var) in params.iter().filter(|(n, v)| n.starts_with("head.") && v.dims().len() == 2) {
        // As large as the encoder's.
        let scale = config.initializer_range * (var.dims()[1] as f64).sqrt();
        params.set(name, &(var.as_tensor() * scale).unwrap()).unwrap();
    }
    Model {
        params: params.frozen(),
        encoder: VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61),
        buckets: vec![32, 64],
        probability: locus_firmware_config::manifest::ProbabilityModel {
            modes: Default::default(),
            sequence: None,
        },
        name: "random".into(),
        config,
    }
}

pub(super) fn pair() -> Pair {
    let ids: Vec<u16> = std::iter::once(2).chain((0..20).map(|i| 5 + i * 7 % 64)).chain([3]).collect();
    let mut alt_ids = ids.clone();
    (9..12).for_each(|i| alt_ids[i] = 5 + (alt_ids[i] + 11) % 64);
    let mut features = vec![0.0; locus_genome::feature_names().len()];
    (features[3], features[40], features[52]) = (1.0, 1.0, -0.5);
    let track = (0..22).map(|i| if i % 21 == 0 { 0 } else { 6 + i % 3 }).collect();
    Pair { ref_ids: ids, alt_ids, track, features: Features::of(&features) }
}

fn panel(folder: &Path) -> (ReferencePack, Vec<vcf::Row>) {
    let at = |n: &str| folder.join(n);
    let files = SourceFiles { fasta: at("p.fa"), gff3: at("p.gff3"), vcf: at("p.vcf"), floors: None };
    crate::panel::generate(4, 9).write(&files).unwrap();
    let rows = vcf::Reader::open(&files.vcf).unwrap().collect::<Result<_, _>>().unwrap();
    (ReferencePack::open(&files.fasta, &files.gff3).unwrap(), rows)
}

#[test]
fn attributions_add_up_to_the_logit_over_a_blank_input() {
    let (model, pair) = (model(), pair());
    let attribution = integrated_gradients(&model, &pair).unwrap();
    let logit = f64::from(model.logits(std::slice::from_ref(&pair)).unwrap()[0]);
    assert!((attribution.logit - logit).abs() < 1e-4, "{} against {logit}", attribution.logit);
    let all = attribution.words.iter().chain(&attribution.track).chain(&attribution.features);
    let (sum, whole) = (all.sum::<f64>(), attribution.logit - attribution.blank);
    assert!((sum - whole).abs() <= 0.01 * whole.abs(), "{sum} against {whole}");
    assert!(whole.abs() > 0.05, "{whole}");
    // [CLS] and [SEP] are the same in the blank input, but for the track of nothing.
    assert_eq!((attribution.words[0], attribution.words[21]), (0.0, 0.0));
    let given: Vec<usize> =
        (0..attribution.features.len()).filter(|&i| attribution.features[i] != 0.0).collect();
    assert_eq!(given, [3, 40, 52]);
    assert!(
        attribution.shares().iter().all(|s| *s > 0.0)
            && (attribution.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9
    );
}

#[test]
fn the_scan_at_the_variant_is_the_models_own_answer_on_both_strands() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, rows) = panel(folder.path());
    let model = model();
    let mut strands = std::collections::BTreeSet::new();
    for row in rows.iter().step_by(24) {
        let variant = row.variant.clone().unwrap();
        for mode in [InputMode::Transcript, InputMode::SequenceOnly] {
            let subject = Subject::new(&model, &reference, variant.clone(), mode).unwrap();
            let own = model.logits(&[subject.pair()]).unwrap()[0];
            let scan = scan(&model, &reference, &subject).unwrap();
            let row = mutagenesis::BASES.iter().position(|&b| b == subject.alternate()).unwrap();
            let at = scan.logits[subject.window.centre][row].unwrap();
            assert!((at - own).abs() < 1e-5, "{variant} {mode}: {at} against {own}");
            let answered = scan.logits.iter().flatten().flatten().count();
            assert_eq!(answered, 3 * subject.window.bases.len());
            strands.insert(format!("{:?}", subject.strand));
        }
    }
    assert_eq!(strands.len(), 2);
}

#[test]
fn a_picture_shows_the_answer_and_opens_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, rows) = panel(folder.path());
    let model = model();
    for (row, mode) in
        rows.iter().step_by(60).zip([InputMode::Transcript, InputMode::SequenceOnly].into_iter().cycle())
    {
        let variant = row.variant.clone().unwrap();
        let explanation = explain(&model, &reference, variant.clone(), mode).unwrap();
        let picture = draw(&model, &explanation);
        for shown in [variant.to_string(), "no answer".into(), "attention rollout".into()] {
            assert!(picture.svg().contains(&shown), "{shown}");
        }
        let png = picture.png(1.0).unwrap();
        let pixels = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
        let painted = pixels.pixels().iter().filter(|p| p.red() < 200 || p.blue() < 200).count();
        assert!(painted > 5_000, "{painted} pixels");
        let json = explanation.json(&model);
        assert_eq!(json["bases"].as_array().unwrap().len(), explanation.subject.window.bases.len());
    }
}

#[test]
fn figures_of_many_variants_hold_together() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, rows) = panel(folder.path());
    let records: Vec<_> = rows
        .iter()
        .step_by(20)
        .map(|r| (r.variant.clone().unwrap(), r.info("GENE").unwrap().to_owned()))
        .collect();
    let report = test(&model(), &reference, &records, 3, |_, _| ()).unwrap();
    assert_eq!(report.modes.len(), 2);
    for mode in report.modes.values() {
        assert_eq!((mode.records, mode.genes), (records.len(), 4));
        assert!((mode.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // Hiding nothing loses nothing, hiding everything the same in every order.
        let c = &mode.curves;
        for curve in [&c.top, &c.random, &c.least] {
            assert!(curve[0].abs() < 1e-5 && (curve[7] - c.top[7]).abs() < 1e-5, "{curve:?}");
        }
        assert!((c.kept[7]).abs() < 1e-5 && (c.kept[0] - c.top[7]).abs() < 1e-5);
        assert!(mode.areas["top"].value > mode.areas["least"].value);
    }
    assert_eq!(report.modes["sequence_only"].shares[2], 0.0);
}
