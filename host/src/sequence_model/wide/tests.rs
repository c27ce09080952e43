use locus_genome::Tokenizer;
use locus_genome::tokenizer::{AminoAcidTokenizer, SmilesTokenizer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    data::Split,
    model::{Context, HeadKind, SequenceHead},
    sequence::{SequenceRecord, Target},
    sequence_model::{NGrams, pack},
};

const WILD: &str = "MKVHWARDLAE";

fn config(tokenizer: &Tokenizer, tracks: usize, labels: usize, plan: &WidePlan) -> ModelConfig {
    serde_json::from_value(serde_json::json!({
        "model_type": "bert", "vocab_size": tokenizer.vocab_size(), "type_vocab_size": tracks, "hidden_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "hidden_act": "gelu",
        "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "norm_position": "pre",
        "head": HeadKind::Sequence, "wide": plan.path(), "labels": vec!["label"; labels], "n_features": 0,
        "track_codes": [],
    }))
    .unwrap()
}

fn record(i: usize, target: Target) -> SequenceRecord {
    SequenceRecord {
        name: i.to_string(),
        target,
        group: Some((i % 20).to_string()),
        changed: None,
        split: Split::Train,
    }
}

/// Chains of carbon, nitrogen and oxygen; those of the second class have oxygen after nitrogen.
fn molecules() -> SequenceSet {
    let mut set = SequenceSet::new(Alphabet::Smiles, vec!["a".into(), "b".into()]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for i in 0..120 {
        let link = if i % 2 == 1 { "NO" } else { "ON" };
        let mut chain = |least| "C".repeat(rng.random_range(least..6));
        let text = format!("{}{link}{}{link}{}", chain(1), chain(1), chain(0));
        set.push(record(i, Target::Class((i % 2) as u16)), text);
    }
    set
}

fn grams() -> WidePlan {
    WidePlan::Grams { n: 3, kinds: 4, penalty: 0.01 }
}

/// Single changes of the wild type; their value is how alike the residues are.
fn mutants() -> SequenceSet {
    let mut set = SequenceSet::new(Alphabet::AminoAcid, Vec::new());
    set.wild_type = Some(WILD.into());
    for (at, from) in WILD.bytes().enumerate() {
        for to in amino_letters().filter(|to| *to != from) {
            let mut text = WILD.as_bytes().to_vec();
            text[at] = to;
            let index = |r| locus_genome::amino::residue_index(r).unwrap();
            let score = locus_genome::amino::blosum62(index(from), index(to));
            let mut record = record(set.records.len(), Target::Value(f32::from(score)));
            record.group = Some(at.to_string());
            set.push(record, String::from_utf8(text).unwrap());
        }
    }
    set
}

fn amino_letters() -> impl Iterator<Item = u8> {
    locus_genome::amino::RESIDUES[..20].iter().copied()
}

fn fitted(
    plan: &WidePlan,
    set: &SequenceSet,
    encoder: &SequenceEncoder,
    tracks: usize,
) -> (ModelConfig, Params, Wide) {
    let config = config(encoder.tokenizer(), tracks, set.classes.len().max(1), plan);
    let params = Params::new(&config, 1).unwrap();
    let all: Vec<usize> = (0..set.records.len()).collect();
    let wide = Wide::fit(plan, &config, (set, encoder), &all, 1).unwrap();
    wide.set(&params).unwrap();
    // A head that says nothing yet.
    for name in ["head.out.weight", "head.out.bias"] {
        params.set(name, &params.get(name).unwrap().zeros_like().unwrap()).unwrap();
    }
    (config, params, wide)
}

fn logits(config: &ModelConfig, params: &Params, rows: &[EncodedSequence]) -> Vec<Vec<f32>> {
    SequenceHead::new(config, params).forward(&pack(rows), &Context::eval()).unwrap().to_vec2().unwrap()
}

#[test]
fn before_training_the_model_is_the_regression_on_n_grams_and_ranks_as_the_floor_does() {
    let (set, plan) = (molecules(), grams());
    let encoder = SequenceEncoder::new(Tokenizer::Smiles(SmilesTokenizer), 1);
    let (config, params, _) = fitted(&plan, &set, &encoder, 1);
    let all: Vec<usize> = (0..set.records.len()).collect();
    let rows: Vec<_> = all.iter().map(|&i| encoder.encode(&set.sequence(i).unwrap()).unwrap()).collect();
    let features = Grams::new(&rows, config.vocab_size, (3, 4));
    let sparse: Vec<Sparse> = rows.iter().map(|r| features.of(r)).collect();
    let truth = Truth::of(&set, &all);
    let model = Linear::fit(&sparse.iter().collect::<Vec<_>>(), &truth, (features.count(), 2), 0.01);
    let Truth::Classes(classes) = truth else { panic!("classes") };
    let floor = NGrams::fit(&rows, &classes, 2, 3);
    for ((got, sparse), (row, class)) in
        logits(&config, &params, &rows).iter().zip(&sparse).zip(rows.iter().zip(&classes))
    {
        for (got, expected) in got.iter().zip(model.of(sparse)) {
            assert!((f64::from(*got) - expected).abs() < 1e-4, "{got} {expected}");
        }
        assert_eq!(got[1] > got[0], *class == 1);
        assert_eq!(floor.predict(row)[1] > 0.5, *class == 1);
    }
    // What no training record has says nothing.
    let [bias] = &logits(&config, &params, &[encoder.encode("[Pt]").unwrap()])[..] else { panic!("one row") };
    let got = params.get(BIAS).unwrap().to_vec1::<f32>().unwrap();
    assert!(got.iter().zip(bias).all(|(a, b)| (a - b).abs() < 0.5), "{got:?} {bias:?}");
}

#[test]
fn substitutions_are_told_apart_by_their_kind_at_places_that_were_held_out() {
    let (set, plan) = (mutants(), WidePlan::Substitutions { penalty: 0.01 });
    let encoder = SequenceEncoder::of_wild_type(Tokenizer::AminoAcid(AminoAcidTokenizer), WILD).unwrap();
    let tracks = encoder.tokenizer().vocab_size() - 4;
    let (config, params, wide) = fitted(&plan, &set, &encoder, tracks);
    let all: Vec<usize> = (0..set.records.len()).collect();
    let rows: Vec<_> = all.iter().map(|&i| encoder.encode(&set.sequence(i).unwrap()).unwrap()).collect();
    let Truth::Values(values) = Truth::of(&set, &all) else { panic!("values") };
    let said: Vec<f64> = logits(&config, &params, &rows).iter().map(|z| f64::from(z[0])).collect();
    let held_out: Vec<f64> = all.iter().map(|i| f64::from(wide.held_out()[i][0])).collect();
    for said in [said, held_out] {
        assert!(crate::metrics::spearman(&said, &values).unwrap() > 0.9);
    }
}

#[test]
fn held_out_logits_are_of_models_that_did_not_see_the_group() {
    let (mut set, plan) = (molecules(), grams());
    let encoder = SequenceEncoder::new(Tokenizer::Smiles(SmilesTokenizer), 1);
    let (.., before) = fitted(&plan, &set, &encoder, 1);
    for record in set.records.iter_mut().filter(|r| r.group.as_deref() == Some("3")) {
        record.target = Target::Class(0);
    }
    let (.., after) = fitted(&plan, &set, &encoder, 1);
    for i in 0..set.records.len() {
        if i % 20 == 3 {
            assert_eq!(before.held_out()[&i], after.held_out()[&i], "{i}");
        }
    }
    assert_ne!(before.held_out(), after.held_out());
}

#[test]
fn paths_that_the_data_has_no_sense_of_are_refused_with_what_was_expected() {
    let plan = |keys: &str| -> SetPlan {
        toml::from_str(&format!(
            "root = \".\"\nfiles = [{{ path = \"a.csv\" }}]\ntarget = {{ field = \"y\" }}\n{keys}"
        ))
        .unwrap()
    };
    let smiles = plan("alphabet = \"smiles\"");
    let protein = plan(&format!("alphabet = \"amino_acid\"\nwild_type = \"{WILD}\""));
    let substitutions = WidePlan::Substitutions { penalty: 0.1 };
    grams().check(&smiles, 256).unwrap();
    substitutions.check(&protein, 13).unwrap();
    let many = WidePlan::Grams { n: 4, kinds: 4, penalty: 0.1 };
    let free = WidePlan::Grams { n: 3, kinds: 4, penalty: 0.0 };
    for (path, data, tokens, said) in [
        (&substitutions, &protein, 12, "a wild type of 13 tokens"),
        (&substitutions, &smiles, 64, "expected a protein with data.wild_type"),
        (&grams(), &protein, 64, "nor beside a wild type"),
        (&grams(), &plan("alphabet = \"dna\""), 64, "none in DNA"),
        (&grams(), &smiles, 2_048, "1024 tokens at most"),
        (&many, &smiles, 64, "runs of 4 tokens"),
        (&free, &smiles, 64, "tokens.wide.penalty"),
    ] {
        let error = path.check(data, tokens).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn tables_of_another_vocabulary_or_wild_type_are_refused() {
    let (set, plan) = (mutants(), WidePlan::Substitutions { penalty: 0.1 });
    let encoder = SequenceEncoder::of_wild_type(Tokenizer::AminoAcid(AminoAcidTokenizer), WILD).unwrap();
    let (config, _, wide) = fitted(&plan, &set, &encoder, encoder.tokenizer().vocab_size() - 4);
    assert!(encoder.encode(&WILD[1..]).unwrap_err().to_string().contains("another length"));
    for other in [
        ModelConfig { vocab_size: config.vocab_size + 1, ..config.clone() },
        ModelConfig { max_position_embeddings: 80, ..config.clone() },
    ] {
        let params = Params::new(&other, 1).unwrap();
        let error = wide.set(&params).unwrap_err().to_string();
        assert!(error.contains("shape"), "{error}");
    }
}
