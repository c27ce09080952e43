//! `config.json`: Hugging Face BERT's keys, and what is Locus' own.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// What reads the hidden states, besides the masked-token head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// Reference and alternate rows of one variant.
    #[default]
    Pair,
    /// Segments of a row, in pretraining.
    Pretraining,
    /// One row: a class or a value.
    Sequence,
}

/// Most tokens of an n-gram of [`WidePath::Grams`].
const LONGEST_GRAM: usize = 3;

/// What a sequence head adds to its logits: a linear model of its own, fitted before training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum WidePath {
    /// Counts of the runs of 1 to `n` tokens, among which are these many `kinds` of token.
    Grams {
        /// Most tokens of a run.
        n: usize,
        /// Kinds of token that are known; 0 stands for every other.
        kinds: usize,
    },
    /// The letters of a wild type that were replaced, by what and where.
    Substitutions,
}

impl WidePath {
    /// Rows of the tables of runs of 1, 2, … tokens, the kind 0 included; none of substitutions. `None` for lengths that
    /// no head has, or tables without bound.
    pub fn gram_rows(&self) -> Option<Vec<usize>> {
        match *self {
            Self::Substitutions => Some(Vec::new()),
            Self::Grams { n, kinds } if (1..=LONGEST_GRAM).contains(&n) && (1..=255).contains(&kinds) => {
                Some((1..=n as u32).map(|length| (kinds + 1).pow(length)).collect())
            }
            Self::Grams { .. } => None,
        }
    }
}

/// Sizes of one layer that was pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSize {
    /// Attention heads; each is as wide as before.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
}

/// Sizes and switches of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Always `bert`.
    pub model_type: String,
    /// Token ids.
    pub vocab_size: usize,
    /// Track codes.
    pub type_vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Always `gelu`, the exact form.
    pub hidden_act: String,
    /// Most tokens in a row.
    pub max_position_embeddings: usize,
    /// Added to a variance before its root.
    pub layer_norm_eps: f64,
    /// Dropout after each sub-layer.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities; 0, the only value there is.
    pub attention_probs_dropout_prob: f64,
    /// Deviation of the initial weights.
    pub initializer_range: f64,
    /// `pre` or `post`: where layer norm stands.
    pub norm_position: String,
    /// What reads the hidden states.
    #[serde(default)]
    pub head: HeadKind,
    /// Of a sequence head: reading frames that it pools apart, whose codes in the track are 1 to this number; 1
    /// where the track has none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub frames: usize,
    /// Of a sequence head: channels of the table of tokens that is counted before training and read beside the
    /// encoder; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub counted: usize,
    /// Of a sequence head: what is added to its logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wide: Option<WidePath>,
    /// Of a pruned model: what is left of each layer. Empty where every layer has the heads and the width above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_sizes: Vec<LayerSize>,
    /// Outputs of the head.
    pub labels: Vec<String>,
    /// Annotation features of the head.
    pub n_features: usize,
    /// Names of the track codes.
    pub track_codes: Vec<String>,
}

const fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_one(frames: &usize) -> bool {
    *frames == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(channels: &usize) -> bool {
    *channels == 0
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// The file cannot be read or is no configuration.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// Features that the wide path of a sequence head makes of a row: of each frame the mean, total and least value of
    /// every counted channel, and the channels of the first and the last token.
    pub fn wide_features(&self) -> usize {
        (3 * self.frames.max(1) + 2) * self.counted
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Heads and feed-forward width of layer `n`.
    pub fn layer_size(&self, n: usize) -> LayerSize {
        let whole = LayerSize { heads: self.num_attention_heads, ffn: self.intermediate_size };
        self.layer_sizes.get(n).copied().unwrap_or(whole)
    }

    /// Width of all heads of layer `n` together.
    pub fn attention_width(&self, n: usize) -> usize {
        self.layer_size(n).heads * self.head_width()
    }

    /// Whether the sizes of pruned layers are those of this model, or there are none.
    pub fn layer_sizes_fit(&self) -> bool {
        let fits = |l: &LayerSize| {
            (1..=self.num_attention_heads).contains(&l.heads) && (1..=self.intermediate_size).contains(&l.ffn)
        };
        self.layer_sizes.is_empty()
            || (self.layer_sizes.len() == self.num_hidden_layers && self.layer_sizes.iter().all(fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pruned_model_says_what_its_layers_have() {
        let mut config = crate::lower::tests::config("pre");
        let whole = serde_json::to_string(&config).unwrap();
        assert!(!whole.contains("layer_sizes"), "{whole}");
        assert_eq!(config.layer_size(0), LayerSize { heads: 2, ffn: 16 });
        config.layer_sizes = vec![LayerSize { heads: 1, ffn: 5 }];
        let pruned = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&pruned).unwrap(), config);
        assert_eq!((config.layer_size(0).ffn, config.attention_width(0)), (5, config.head_width()));
        assert!(config.layer_sizes_fit());
        for (heads, ffn) in [(0, 5), (3, 5), (1, 0), (1, 17)] {
            config.layer_sizes = vec![LayerSize { heads, ffn }];
            assert!(!config.layer_sizes_fit(), "{heads} {ffn}");
        }
        config.layer_sizes = vec![LayerSize { heads: 1, ffn: 5 }; 2];
        assert!(!config.layer_sizes_fit());
    }
}
