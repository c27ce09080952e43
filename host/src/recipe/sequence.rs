//! Recipes of sequence models: `task = "sequence"`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use locus_genome::{
    Alphabet, KmerTokenizer, SequenceEncoder, Tokenizer,
    tokenizer::{AminoAcidTokenizer, RnaTokenizer, SPECIAL_TOKENS, SmilesTokenizer},
};

use super::{DATA_VARIABLE, ExportPlan, ModelPlan, QuantisePlan, is_default, read_toml};
use crate::{
    Error, Result,
    model::{HeadKind, ModelConfig},
    sequence::{BalancePlan, SequenceAugmentation, SetPlan, plan::TargetKind},
    sequence_model::{WidePlan, counted},
    train::TrainPlan,
};

/// A training chain of a sequence model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceRecipe {
    /// What is trained.
    pub task: Task,
    /// Name of the model, as in its manifest.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// Rises with every release that must not be undone.
    pub security_counter: u64,
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Where records come from, and what they are good for.
    pub data: SetPlan,
    /// Tokens and rows.
    pub tokens: TokenPlan,
    /// Encoder sizes.
    pub model: ModelPlan,
    /// Masked-token training on the training records; without it the model starts anew.
    #[serde(default)]
    pub pretrain: Option<MaskedPlan>,
    /// Training on labelled records.
    pub finetune: LabelledPlan,
    /// Activation ranges.
    pub calibrate: RangesPlan,
    /// What is tried for INT8.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantise: QuantisePlan,
    /// Graphs and what they may lose.
    pub export: ExportPlan,
}

/// The task of a recipe that is not of variant effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One answer a sequence.
    Sequence,
}

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenPlan {
    /// Bases per token, in DNA and RNA.
    #[serde(default)]
    pub k: Option<usize>,
    /// Bases from token to token.
    #[serde(default = "one")]
    pub stride: usize,
    /// Reading frames that the track counts and the head pools apart; 1 for none.
    #[serde(default = "one")]
    pub frames: usize,
    /// Counts tokens by class, and in 3 frames by codon position, on the training records, and reads the log-odds
    /// beside the encoder.
    #[serde(default)]
    pub counted: bool,
    /// A linear model that is added to the logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wide: Option<WidePlan>,
    /// Padded lengths of a row, [CLS] and [SEP] included, ascending.
    pub buckets: Vec<usize>,
}

/// `[pretrain]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedPlan {
    /// Passes over the training records.
    pub epochs: u64,
    /// How parameters are moved.
    pub train: TrainPlan,
    /// Share of tokens to guess.
    pub mask_share: f64,
    /// Shortest and longest hidden span, in tokens.
    pub span: [usize; 2],
}

/// `[finetune]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledPlan {
    /// Passes over the training records.
    pub epochs: u64,
    /// Validations per epoch; under 1, one in several epochs.
    pub validations: f64,
    /// How parameters are moved.
    pub train: TrainPlan,
    /// How the classes are weighed.
    #[serde(default)]
    pub balance: BalancePlan,
    /// Share of a target that is spread over all classes.
    #[serde(default)]
    pub smoothing: f32,
    /// Exponent of the focal loss; 0 is cross-entropy.
    #[serde(default)]
    pub focal: f32,
    /// What training leaves to chance.
    #[serde(default)]
    pub augment: SequenceAugmentation,
}

/// `[calibrate]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangesPlan {
    /// Training records that activation ranges are measured on.
    pub range_records: usize,
}

const fn one() -> usize {
    1
}

impl SequenceRecipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// No such file, unknown keys, or values that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let recipe: Self = read_toml(path, "coding.toml")?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The tokenizer of the data's alphabet.
    ///
    /// # Errors
    /// k or stride that it cannot have.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let kmers = || -> Result<KmerTokenizer> {
            Ok(KmerTokenizer::new(self.tokens.k.unwrap_or(0), self.tokens.stride)?)
        };
        Ok(match self.data.alphabet {
            Alphabet::Dna => Tokenizer::Dna(kmers()?),
            Alphabet::Rna => Tokenizer::Rna(RnaTokenizer::new(kmers()?, self.data.t_is_u)),
            Alphabet::AminoAcid => Tokenizer::AminoAcid(AminoAcidTokenizer),
            Alphabet::Smiles => Tokenizer::Smiles(SmilesTokenizer),
        })
    }

    /// What turns a record into a row.
    ///
    /// # Errors
    /// As [`SequenceRecipe::tokenizer`].
    pub fn encoder(&self) -> Result<SequenceEncoder> {
        Ok(match &self.data.wild_type {
            None => SequenceEncoder::new(self.tokenizer()?, self.tokens.frames as u32),
            Some(wild_type) => SequenceEncoder::of_wild_type(self.tokenizer()?, wild_type)?,
        })
    }

    /// Longest row.
    pub fn max_tokens(&self) -> usize {
        self.tokens.buckets.last().copied().unwrap_or(0)
    }

    /// Configuration of the model for these labels.
    ///
    /// # Errors
    /// As [`SequenceRecipe::tokenizer`].
    pub fn model_config(&self, labels: Vec<String>) -> Result<ModelConfig> {
        let frames = self.tokens.frames;
        let mut track_codes = vec!["unknown".to_owned()];
        if self.data.wild_type.is_some() {
            let names = self.tokenizer()?.vocab().into_iter().skip(SPECIAL_TOKENS as usize);
            track_codes.extend(names.map(|name| format!("instead of {name}")));
        } else if frames > 1 {
            track_codes.extend((1..=frames).map(|f| format!("frame {f}")));
        }
        let tokenizer = self.tokenizer()?;
        let vocab_size = tokenizer.vocab_size();
        let counted =
            if self.tokens.counted { counted::channels(&tokenizer, frames, labels.len()) } else { 0 };
        Ok(ModelConfig {
            type_vocab_size: track_codes.len(),
            head: HeadKind::Sequence,
            frames,
            counted,
            wide: self.tokens.wide.as_ref().map(WidePlan::path),
            labels,
            track_codes,
            ..self.model.config(vocab_size, self.max_tokens())
        })
    }

    /// The data folder: `LOCUS_DATA`, else the recipe's root.
    pub fn data_root(&self) -> PathBuf {
        std::env::var_os(DATA_VARIABLE).map_or_else(|| self.data.root.clone(), PathBuf::from)
    }

    /// SHA-256 of the recipe's meaning, in hex.
    pub fn digest(&self) -> String {
        self.digest_of(self)
    }

    /// SHA-256 of a part of the recipe together with what every stage rests on.
    pub fn digest_of(&self, part: &impl Serialize) -> String {
        let json =
            serde_json::to_vec(&(part, self.seed, &self.tokens)).expect("plain numbers and texts serialise");
        hex::encode(Sha256::digest(json))
    }

    /// Refuses values with which a stage would fail, perhaps hours later, or do nothing.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |key: &str, got: String, expected: &str| {
            Err(Error::Recipe { key: key.into(), got, expected: expected.into() })
        };
        self.data.check()?;
        let (t, m, f, e) = (&self.tokens, &self.model, &self.finetune, &self.export);
        for (key, count) in [
            ("model.hidden", m.hidden),
            ("model.layers", m.layers),
            ("model.heads", m.heads),
            ("model.ffn", m.ffn),
            ("finetune.epochs", f.epochs as usize),
            ("calibrate.range_records", self.calibrate.range_records),
            ("export.parity_windows", e.parity_windows),
        ] {
            if count == 0 {
                return wrong(key, "0".into(), "1 or more");
            }
        }
        if !m.hidden.is_multiple_of(m.heads) {
            return wrong("model.heads", m.heads.to_string(), "a divisor of model.hidden");
        }
        let kmers = matches!(self.data.alphabet, Alphabet::Dna | Alphabet::Rna);
        if kmers != t.k.is_some() {
            return wrong("tokens.k", format!("{:?}", t.k), "3 to 6 in DNA and RNA, none elsewhere");
        }
        if !kmers && (t.stride != 1 || t.frames != 1) {
            return wrong("tokens", "stride or frames".into(), "neither outside DNA and RNA");
        }
        if t.frames == 0 || t.frames > 6 || (t.frames > 1 && t.stride != 1) {
            return wrong("tokens.frames", t.frames.to_string(), "1 to 6, over 1 at stride 1 only");
        }
        self.encoder()?;
        if self.data.wild_type.is_some() && (kmers || t.frames > 1) {
            return wrong("data.wild_type", "a sequence".into(), "none in DNA and RNA");
        }
        let ascending = t.buckets.windows(2).all(|b| b[0] < b[1]);
        if t.buckets.is_empty() || !ascending || t.buckets[0] < 3 || self.max_tokens() > 65_536 {
            return wrong(
                "tokens.buckets",
                format!("{:?}", t.buckets),
                "lengths from 3 to 65,536, ascending",
            );
        }
        if !(0.0..1.0).contains(&m.dropout) {
            return wrong("model.dropout", m.dropout.to_string(), "a share from 0 to below 1");
        }
        if !(0.0..1.0).contains(&f.smoothing) || !(0.0..=10.0).contains(&f.focal) {
            let got = format!("{}, {}", f.smoothing, f.focal);
            return wrong("finetune.smoothing, focal", got, "a share from 0 to below 1, and 0 to 10");
        }
        if !f.validations.is_finite() || f.validations <= 0.0 {
            return wrong("finetune.validations", f.validations.to_string(), "a number over 0");
        }
        let regression = self.data.target.kind == TargetKind::Value;
        if regression && (f.smoothing > 0.0 || f.focal > 0.0) {
            return wrong("finetune", "smoothing or focal".into(), "neither where targets are values");
        }
        self.quantise.check()?;
        f.augment.check(&self.data)?;
        f.balance.check(!regression)?;
        if regression && t.counted {
            return wrong("tokens.counted", "true".into(), "false where targets are values");
        }
        if let Some(plan) = &t.wide {
            plan.check(&self.data, self.max_tokens())?;
        }
        f.train.check("finetune.train")?;
        if let Some(p) = &self.pretrain {
            p.train.check("pretrain.train")?;
            if p.epochs == 0 || p.span[0] == 0 || p.span[0] > p.span[1] {
                let got = format!("{} epochs, span {:?}", p.epochs, p.span);
                return wrong("pretrain", got, "1 epoch or more and an ascending span");
            }
            if !(p.mask_share > 0.0 && p.mask_share < 1.0) {
                return wrong("pretrain.mask_share", p.mask_share.to_string(), "a share between 0 and 1");
            }
        }
        if !(8..=4096).contains(&e.golden) {
            return wrong("export.golden", e.golden.to_string(), "8 to 4,096");
        }
        for (key, value) in [("parity_tolerance", e.parity_tolerance), ("int8_budget", e.int8_budget)] {
            if !value.is_finite() || value < 0.0 {
                return wrong(&format!("export.{key}"), value.to_string(), "a number from 0");
            }
        }
        Ok(())
    }
}
