//! `config.json` of a Hugging Face folder: only what changes the numbers.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::architecture::Architecture;
use crate::{Error, Result, model::ModelConfig, stage::read_json};

/// Most of any size in a configuration: above every model that this program could train, and small enough for
/// their products to be numbers.
const LARGEST: usize = 1 << 24;

/// The keys that are read; others describe training, generation or the program that wrote them.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct HubConfig {
    #[serde(default)]
    model_type: String,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "eps")]
    layer_norm_eps: f64,
    #[serde(default = "tenth")]
    hidden_dropout_prob: f64,
    #[serde(default = "range")]
    initializer_range: f64,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default)]
    pad_token_id: Option<usize>,
}

// The values of BertConfig.
fn gelu() -> String {
    "gelu".into()
}
fn absolute() -> String {
    "absolute".into()
}
const fn eps() -> f64 {
    1e-12
}
const fn tenth() -> f64 {
    0.1
}
const fn range() -> f64 {
    0.02
}

impl HubConfig {
    /// Reads `config.json` and refuses what this program's encoder does not compute.
    pub(super) fn read(path: &Path) -> Result<(Self, Architecture)> {
        let config: Self = read_json(path)?;
        let refuse = |key: &str, got: &dyn std::fmt::Display, expected: &str| {
            Err(Error::Data {
                what: format!("{}: {key}", path.display()),
                got: got.to_string(),
                expected: expected.into(),
            })
        };
        let Some(architecture) = Architecture::of(&config.model_type) else {
            return refuse("model_type", &config.model_type, "bert or roberta-prelayernorm");
        };
        if !["gelu", "gelu_python"].contains(&config.hidden_act.as_str()) {
            return refuse(
                "hidden_act",
                &config.hidden_act,
                "gelu, the exact form: no other one is known here",
            );
        }
        if config.position_embedding_type != "absolute" {
            return refuse("position_embedding_type", &config.position_embedding_type, "absolute");
        }
        if config.is_decoder || config.add_cross_attention {
            return refuse("is_decoder", &true, "an encoder without cross-attention");
        }
        for (key, size) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("type_vocab_size", config.type_vocab_size),
        ] {
            if !(1..=LARGEST).contains(&size) {
                return refuse(key, &size, "1 to 16,777,216");
            }
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return refuse("num_attention_heads", &config.num_attention_heads, "a divisor of hidden_size");
        }
        let before = config.positions_before(architecture);
        if config.max_position_embeddings <= before {
            return refuse("max_position_embeddings", &config.max_position_embeddings, "room for a token");
        }
        let eps = config.layer_norm_eps;
        let sane = eps > 0.0 && eps < 1.0 && (0.0..1.0).contains(&config.hidden_dropout_prob);
        if !sane || !config.initializer_range.is_finite() {
            return refuse("layer_norm_eps, hidden_dropout_prob", &"others", "small positive numbers");
        }
        Ok((config, architecture))
    }

    pub(super) fn positions_before(&self, architecture: Architecture) -> usize {
        architecture.positions_before(self.pad_token_id.unwrap_or(0))
    }

    /// The same sizes as our configuration, with the tables as long as in the folder.
    pub(super) fn own(&self, architecture: Architecture) -> ModelConfig {
        let track = locus_genome::window::TRACK_CODES;
        ModelConfig {
            model_type: "bert".into(),
            vocab_size: self.vocab_size,
            type_vocab_size: self.type_vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act: gelu(),
            max_position_embeddings: self.max_position_embeddings,
            layer_norm_eps: self.layer_norm_eps,
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: 0.0,
            initializer_range: self.initializer_range,
            norm_position: architecture.norm_position().into(),
            head: Default::default(),
            frames: 1,
            counted: 0,
            wide: None,
            layer_sizes: Vec::new(),
            labels: vec!["pathogenic".into()],
            n_features: locus_genome::feature_names().len(),
            track_codes: track.map(str::to_owned).to_vec(),
        }
    }
}

/// `config.json` that `transformers` reads.
pub(super) fn written(config: &ModelConfig, architecture: Architecture) -> Value {
    let pad = locus_genome::tokenizer::PAD as usize;
    json!({
        "architectures": [architecture.class()],
        "model_type": architecture.model_type(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": config.hidden_act,
        "max_position_embeddings": config.max_position_embeddings + architecture.positions_before(pad),
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "initializer_range": config.initializer_range,
        "position_embedding_type": "absolute",
        "pad_token_id": pad,
        "bos_token_id": locus_genome::tokenizer::CLS,
        "eos_token_id": locus_genome::tokenizer::SEP,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
    })
}
