//! Recipes: one TOML file says what is trained, on what, how, and what may be shipped.

mod check;
mod language;
mod prune;
mod quantise;
mod sequence;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use language::{CorpusPlan, FastaPlan, LanguageRecipe, RowPlan};

use crate::{
    Error, Result,
    calibrate::Method,
    data::{Augmentation, masking::Masking},
    distill::DistillPlan,
    error::io_at,
    language::Objectives,
    model::{HeadKind, ModelConfig},
    train::TrainPlan,
};

pub use prune::{MagnitudePlan, PrunePlan, Shares};
pub use quantise::QuantisePlan;
pub use sequence::{LabelledPlan, MaskedPlan, RangesPlan, SequenceRecipe, Task, TokenPlan};

/// Variable that names the data folder.
pub const DATA_VARIABLE: &str = "LOCUS_DATA";

/// A training chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model, as in its manifest.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// Rises with every release that must not be undone.
    pub security_counter: u64,
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Where records come from.
    pub data: DataPlan,
    /// Windows and tokens.
    pub window: WindowPlan,
    /// Encoder sizes.
    pub model: ModelPlan,
    /// Masked-token training.
    pub pretrain: PretrainPlan,
    /// Training on labelled pairs.
    pub finetune: FinetunePlan,
    /// What is taken out of the trained model, where anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PrunePlan>,
    /// Ranges, probability and bands.
    pub calibrate: CalibratePlan,
    /// What is tried for INT8.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantise: QuantisePlan,
    /// Graphs and what they may lose.
    pub export: ExportPlan,
}

/// `[data]`: files below the data folder, or a generated panel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// Folder used where LOCUS_DATA is not set, relative to the working folder.
    pub root: PathBuf,
    /// Bases, below the root.
    pub fasta: PathBuf,
    /// Transcripts.
    pub gff3: PathBuf,
    /// Labelled variants.
    pub vcf: PathBuf,
    /// Scores of simple baselines, where there are any.
    #[serde(default)]
    pub floors: Option<PathBuf>,
    /// Genome assembly of the files.
    pub assembly: String,
    /// Genes of a generated panel; the files are then written into the output folder. A test aid.
    #[serde(default)]
    pub generated_genes: Option<usize>,
    /// Keep one record in so many, for trials.
    #[serde(default = "one")]
    pub keep_one_in: usize,
}

/// A key that is left as it is says nothing new.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn one() -> usize {
    1
}

/// `[window]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowPlan {
    /// Bases per token.
    pub k: usize,
    /// Bases from token to token.
    pub stride: usize,
    /// Tokens of a whole window, without [CLS] and [SEP].
    pub kmers: usize,
    /// Padded lengths, ascending.
    pub buckets: Vec<usize>,
    /// Fewest and most bases on each side of a cropped copy.
    pub crop_flank: [u64; 2],
}

/// `[model]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// Width of a hidden state.
    pub hidden: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Dropout in training.
    pub dropout: f64,
}

/// `[pretrain]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainPlan {
    /// Folder of a pretrained model to start from, such as `runs/pretraining/pretrained`; without it training starts
    /// from new weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Steps; 0 skips the stage.
    pub steps: u64,
    /// How often each question is asked; hidden spans alone where nothing is said.
    #[serde(default)]
    pub objectives: Objectives,
    /// Share of tokens to guess.
    pub mask_share: f64,
    /// Shortest and longest hidden span, in tokens.
    pub span: [usize; 2],
    /// Share of windows without track; of no meaning for a language model, whose windows have none.
    #[serde(default)]
    pub track_dropout: f64,
    /// How parameters are moved; a row is a window.
    pub train: TrainPlan,
}

/// `[finetune]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetunePlan {
    /// Passes over the training records.
    pub epochs: u64,
    /// What training leaves to chance.
    pub augment: Augmentation,
    /// Validations per epoch.
    pub validations: u64,
    /// Models that are learnt from beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillPlan>,
    /// How parameters are moved; a row is a pair.
    pub train: TrainPlan,
}

/// `[calibrate]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibratePlan {
    /// Training records that activation ranges are measured on.
    pub range_records: usize,
    /// Share of pathogenic variants that probabilities assume.
    pub prior: f64,
    /// Accuracy wanted of answers outside the uncertain band.
    pub answered_accuracy: f64,
    /// `platt` or `temperature`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Method,
}

/// `[export]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportPlan {
    /// Training records that ONNX and candle are compared on: with transcript, as bare sequences, and cropped.
    pub parity_windows: usize,
    /// Largest difference of a logit.
    pub parity_tolerance: f64,
    /// AUROC that INT8 may lose on validation.
    pub int8_budget: f64,
    /// Golden vectors in the bundle.
    pub golden: usize,
}

/// A recipe of any task.
#[allow(clippy::large_enum_variant, reason = "one value per run")]
#[derive(Clone, Debug)]
pub enum AnyRecipe {
    /// Is a variant pathogenic: no `task` in the file.
    Variant(Recipe),
    /// `task = "sequence"`.
    Sequence(SequenceRecipe),
    /// `task = "language_model"`.
    Language(LanguageRecipe),
}

impl AnyRecipe {
    /// Reads and checks a recipe of whatever task the file names.
    ///
    /// # Errors
    /// As [`Recipe::read`]; another task.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Top {
            task: Option<String>,
        }
        let top: Top = read_toml(path, "variant-effect.toml")?;
        match top.task.as_deref() {
            None => Recipe::read(path).map(Self::Variant),
            Some("sequence") => SequenceRecipe::read(path).map(Self::Sequence),
            Some("language_model") => LanguageRecipe::read(path).map(Self::Language),
            Some(other) => Err(Error::Recipe {
                key: "task".into(),
                got: other.into(),
                expected: "sequence, language_model, or no task for variant effect".into(),
            }),
        }
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        match self {
            Self::Variant(recipe) => &recipe.name,
            Self::Sequence(recipe) => &recipe.name,
            Self::Language(recipe) => &recipe.name,
        }
    }
}

/// Reads a recipe of any task as it stands.
fn read_toml<T: serde::de::DeserializeOwned>(path: &Path, example: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(io_at(path))?;
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Error::Recipe {
            key: format!("{} line {line}", path.display()),
            got: e.message().to_owned(),
            expected: format!("the keys of recipes/{example}"),
        }
    })
}

impl PretrainPlan {
    /// What is hidden of tokens that a k-mer tokenizer cut.
    pub fn masking(&self, tokenizer: &locus_genome::KmerTokenizer) -> Masking {
        Masking {
            share: self.mask_share,
            span: self.span.into(),
            vocab_size: tokenizer.vocab_size() as u32,
            overlap: if tokenizer.stride() == 1 { tokenizer.k() } else { 1 },
        }
    }
}

impl ModelPlan {
    /// Configuration of a model that is pretrained, with the vocabulary and the longest row that it reads.
    pub fn config(&self, vocab_size: usize, longest: usize) -> ModelConfig {
        let track = locus_genome::window::TRACK_CODES;
        ModelConfig {
            model_type: "bert".into(),
            vocab_size,
            type_vocab_size: track.len(),
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: self.ffn,
            hidden_act: "gelu".into(),
            max_position_embeddings: longest,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: self.dropout,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            norm_position: "pre".into(),
            head: HeadKind::Pretraining,
            frames: 1,
            counted: 0,
            wide: None,
            layer_sizes: Vec::new(),
            labels: Vec::new(),
            n_features: 0,
            track_codes: track.map(str::to_owned).to_vec(),
        }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// No such file, unknown keys, or values that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let recipe: Self = read_toml(path, "variant-effect.toml")?;
        recipe.check()?;
        Ok(recipe)
    }

    /// SHA-256 of the recipe's meaning, in hex: comments and order do not change it.
    pub fn digest(&self) -> String {
        self.digest_of(self)
    }

    /// SHA-256 of a part of the recipe together with what every stage rests on.
    pub fn digest_of(&self, part: &impl Serialize) -> String {
        let json =
            serde_json::to_vec(&(part, self.seed, &self.window)).expect("plain numbers and texts serialise");
        hex::encode(Sha256::digest(json))
    }

    /// Configuration of the model.
    pub fn model_config(&self, vocab_size: usize, n_features: usize) -> ModelConfig {
        let longest = self.window.buckets.last().copied().unwrap_or(0);
        ModelConfig {
            head: HeadKind::Pair,
            labels: vec!["pathogenic".into()],
            n_features,
            ..self.model.config(vocab_size, longest)
        }
    }

    /// The data folder: `LOCUS_DATA`, else the recipe's root.
    pub fn data_root(&self) -> PathBuf {
        std::env::var_os(DATA_VARIABLE).map_or_else(|| self.data.root.clone(), PathBuf::from)
    }
}
