use super::*;
use crate::model::{Context, Encoder, MlmHead, Rows};

/// Made by `tests/fixtures/huggingface.py`: models of `transformers` whose weights follow from their names, with
/// the hidden states that it computes.
const GOLDEN: &str = include_str!("../../../tests/fixtures/huggingface.json");

#[derive(serde::Deserialize)]
struct Golden {
    config: serde_json::Value,
    vocabulary: Vec<String>,
    tensors: Vec<(String, Vec<usize>)>,
    ids: Vec<u32>,
    types: Vec<u32>,
    mask: Vec<f32>,
    rows: usize,
    hidden: Vec<f32>,
    places: Vec<u32>,
    logits: Option<Vec<f32>>,
}

/// The same rule as in the script.
fn values(name: &str, n: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let one = if name.contains("LayerNorm.weight") || name.contains("layer_norm.weight") { 1.0 } else { 0.0 };
    (0..n as u32)
        .map(|i| {
            let mut x = hash ^ i.wrapping_mul(0x9e37_79b9);
            x ^= x >> 16;
            x = x.wrapping_mul(0x7feb_352d);
            x ^= x >> 15;
            one + (f64::from(x >> 8) / 16_777_216.0 - 0.5) as f32
        })
        .collect()
}

fn write(golden: &Golden, folder: &Path) {
    write_json(&folder.join("config.json"), &golden.config).unwrap();
    fs::write(folder.join("vocab.txt"), golden.vocabulary.join("\n")).unwrap();
    let tensors = golden.tensors.iter().map(|(name, shape)| {
        // The decoder is the word table, whatever name it is stored under.
        let from = if name.contains("decoder.weight") {
            golden.tensors.iter().map(|t| &t.0).find(|n| n.contains("word_embeddings")).unwrap()
        } else {
            name
        };
        let from = from
            .replace("lm_head.decoder.bias", "lm_head.bias")
            .replace("predictions.decoder.bias", "predictions.bias");
        (
            name.clone(),
            Tensor::from_vec(values(&from, shape.iter().product()), &shape[..], &Device::Cpu).unwrap(),
        )
    });
    save(&tensors.collect(), &folder.join(WEIGHTS)).unwrap();
}

fn goldens() -> BTreeMap<String, Golden> {
    serde_json::from_str(GOLDEN).unwrap()
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn hidden_states_are_those_of_transformers() {
    for (name, golden) in goldens() {
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&golden, folder.path());
        let transfer = import(folder.path(), out.path()).unwrap();
        // Through our own checkpoint, as a later stage reads it.
        let config = ModelConfig::read(&out.path().join("config.json")).unwrap();
        let params = Params::read(&out.path().join(WEIGHTS), &config, 1).unwrap();
        let (_, order) = vocabulary::read(folder.path(), golden.vocabulary.len()).unwrap();
        let own = |id: &u32| order.iter().position(|o| o == id).unwrap() as u32;
        let rows = Rows {
            rows: golden.rows,
            tokens: golden.ids.len() / golden.rows,
            ids: golden.ids.iter().map(own).collect(),
            track: golden.types.clone(),
            mask: golden.mask.clone(),
        };
        let hidden = Encoder::new(&config, &params).forward(&rows, &Context::eval()).unwrap();
        let hidden: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
        // What stands at padding is never read, and RoBERTa counts no positions there.
        let seen = |all: &[f32]| -> Vec<f32> {
            all.chunks(config.hidden_size)
                .zip(&golden.mask)
                .filter(|(_, m)| **m > 0.0)
                .flat_map(|(r, _)| r.to_vec())
                .collect()
        };
        let difference = largest(&seen(&hidden), &seen(&golden.hidden));
        assert!(difference < 1e-4, "{name}: {difference}");
        if let Some(logits) = &golden.logits {
            let ours =
                MlmHead::new(&config, &params).forward(&rows, &golden.places, &Context::eval()).unwrap();
            let ours: Vec<f32> = ours.flatten_all().unwrap().to_vec1().unwrap();
            let theirs: Vec<f32> = logits
                .chunks(golden.vocabulary.len())
                .flat_map(|row| order.iter().map(|&id| row[id as usize]))
                .collect();
            let difference = largest(&ours, &theirs);
            assert!(difference < 1e-4, "{name}: masked head: {difference}");
        }
        assert_eq!(golden.logits.is_some(), transfer.tensors.contains_key(WORD_BIAS), "{name}");
    }
}

#[test]
fn what_is_written_reads_back_as_the_same_model() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
    let tokenizer = Tokenizer::Dna(locus_genome::KmerTokenizer::new(3, 1).unwrap());
    for norm_position in ["pre", "post"] {
        let config = ModelConfig {
            norm_position: norm_position.into(),
            ..crate::Recipe::read(&recipe).unwrap().model_config(69, locus_genome::feature_names().len())
        };
        let params = Params::new(&config, 5).unwrap();
        let (own, hub) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_json(&own.path().join("config.json"), &config).unwrap();
        params.write(&own.path().join(WEIGHTS)).unwrap();
        fs::write(own.path().join("tokenizer.json"), tokenizer.to_json()).unwrap();
        let written = export(own.path(), hub.path()).unwrap();
        assert!(written.left_out.iter().all(|n| n.starts_with("head.")) && !written.left_out.is_empty());
        let back = read(hub.path()).unwrap();
        assert_eq!((&back.config, back.tokenizer), (&config, tokenizer));
        assert!(back.left_out.is_empty(), "{:?}", back.left_out);
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (name, tensor) in &back.tensors {
            assert_eq!(flat(tensor), flat(params.get(name).unwrap()), "{name}");
        }
        assert_eq!(back.tensors.len() + written.left_out.len(), params.iter().count());
    }
}

fn refusal(folder: &Path) -> String {
    read(folder).unwrap_err().to_string()
}

#[test]
fn a_folder_that_is_not_what_it_says_is_refused_with_the_reason() {
    let golden = goldens().remove("BertForMaskedLM").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let with = |key: &str, value: serde_json::Value| {
        let mut config = golden.config.clone();
        config[key] = value;
        write_json(&at.join("config.json"), &config).unwrap();
    };
    write(&golden, at);
    read(at).unwrap();
    let refused: [(&str, serde_json::Value, &str); 16] = [
        ("model_type", "gpt2".into(), "gpt2"),
        ("hidden_act", "gelu_new".into(), "gelu_new"),
        ("hidden_act", "relu".into(), "relu"),
        ("position_embedding_type", "relative_key".into(), "relative_key"),
        ("is_decoder", true.into(), "is_decoder"),
        ("num_attention_heads", 3.into(), "a divisor"),
        ("num_attention_heads", 0.into(), "num_attention_heads"),
        ("hidden_size", 16.into(), "expected finite numbers of shape"),
        ("hidden_size", (1u64 << 40).into(), "hidden_size"),
        ("intermediate_size", 8.into(), "intermediate.dense"),
        ("vocab_size", 60.into(), "of 60"),
        ("vocab_size", 71.into(), "word_embeddings"),
        ("num_hidden_layers", 3.into(), "encoder.layer.2"),
        ("num_hidden_layers", 1.into(), "as config.json says"),
        ("num_hidden_layers", u64::MAX.into(), "tensors of model.safetensors"),
        ("layer_norm_eps", 0.0.into(), "layer_norm_eps"),
    ];
    for (key, value, says) in refused {
        with(key, value.clone());
        assert!(refusal(at).contains(says), "{key} {value}: {}", refusal(at));
    }
    write(&golden, at);
    let weights = at.join(WEIGHTS);
    let whole = fs::read(&weights).unwrap();
    for cut in [0, 7, 100, whole.len() - 1] {
        fs::write(&weights, &whole[..cut]).unwrap();
        assert!(refusal(at).contains("cut or damaged"), "{cut}: {}", refusal(at));
    }
    let mut bad = whole.clone();
    bad[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&weights, &bad).unwrap();
    assert!(refusal(at).contains("cut or damaged"), "{}", refusal(at));
    let mut bad = whole.clone();
    let n = bad.len();
    // The last tensors by size and name are vectors of the encoder.
    bad[n - 4000..].fill(0xff);
    fs::write(&weights, &bad).unwrap();
    assert!(refusal(at).contains("NaN"), "{}", refusal(at));
    fs::remove_file(&weights).unwrap();
    assert!(refusal(at).contains("safe_serialization=True"), "{}", refusal(at));
}

#[test]
fn a_decoder_of_its_own_is_refused() {
    let golden = goldens().remove("BertForMaskedLM").unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(&golden, folder.path());
    let path = folder.path().join(WEIGHTS);
    let mut tensors: BTreeMap<String, Tensor> =
        candle_core::safetensors::load(&path, &Device::Cpu).unwrap().into_iter().collect();
    let words = tensors[WORDS].clone();
    tensors.insert(DECODER.into(), words.clone());
    save(&tensors, &path).unwrap();
    read(folder.path()).unwrap();
    tensors.insert(DECODER.into(), (words * 1.5).unwrap());
    save(&tensors, &path).unwrap();
    assert!(refusal(folder.path()).contains("tie_word_embeddings"), "{}", refusal(folder.path()));
}
