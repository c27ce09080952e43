//! Recipes of language models: `task = "language_model"`.

use std::path::{Path, PathBuf};

use locus_genome::KmerTokenizer;
use serde::{Deserialize, Serialize};

use super::{
    ModelPlan, PretrainPlan,
    check::{check_buckets, check_name, wrong},
    read_toml,
};
use crate::{Result, model::ModelConfig};

/// The `task` of these recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageTask {
    /// A language model over genomes.
    LanguageModel,
}

/// Pretraining alone, for other recipes to start from (`pretrain.from`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageRecipe {
    /// What is trained.
    pub task: LanguageTask,
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Genomes.
    pub data: CorpusPlan,
    /// Windows and tokens.
    pub window: RowPlan,
    /// Encoder sizes.
    pub model: ModelPlan,
    /// Training.
    pub pretrain: PretrainPlan,
}

/// `[data]`: genomes below the data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusPlan {
    /// Folder used where LOCUS_DATA is not set, relative to the working folder.
    pub root: PathBuf,
    /// Files that are read.
    pub fasta: Vec<FastaPlan>,
    /// Labelled variants, where there are any: records named as regions are held out where they hold validation
    /// variants, and left out where they hold test variants.
    #[serde(default)]
    pub variants: Option<PathBuf>,
    /// Share of the blocks of 100,000 bases that is held out, of records of which neither variants nor a `split=` in
    /// the header says it.
    #[serde(default)]
    pub held_out_share: f64,
    /// Largest share of a window that is not A, C, G or T.
    #[serde(default)]
    pub max_ambiguous: f64,
    /// Held-out bases that are guessed for the bits per base.
    pub held_out_bases: usize,
}

/// `[[data.fasta]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastaPlan {
    /// File below the root.
    pub path: PathBuf,
    /// A word that a record's header must have, such as `split=train`.
    #[serde(default)]
    pub keep: Option<String>,
}

/// `[window]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowPlan {
    /// Bases per token.
    pub k: usize,
    /// Bases from token to token.
    pub stride: usize,
    /// Tokens of a window, without [CLS] and [SEP].
    pub kmers: usize,
    /// Padded lengths, ascending.
    pub buckets: Vec<usize>,
}

impl LanguageRecipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// No such file, unknown keys, or values that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let recipe: Self = read_toml(path, "pretraining.toml")?;
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        let (d, w) = (&self.data, &self.window);
        check_name(&self.name, &self.version)?;
        self.tokenizer()?;
        // Three segments of one token each, and a base with both of its neighbours.
        if w.kmers < 3 * w.k {
            return wrong("window.kmers", w.kmers, "3 k or more");
        }
        check_buckets(&w.buckets, w.kmers)?;
        self.model.check()?;
        self.pretrain.check((w.k, w.stride))?;
        if self.pretrain.steps == 0 {
            return wrong("pretrain.steps", 0, "1 or more");
        }
        if d.fasta.is_empty() {
            return wrong("data.fasta", "no file", "one or more");
        }
        for (key, share) in
            [("data.held_out_share", d.held_out_share), ("data.max_ambiguous", d.max_ambiguous)]
        {
            if !(0.0..1.0).contains(&share) {
                return wrong(key, share, "a share from 0 to under 1");
            }
        }
        if d.held_out_bases == 0 {
            return wrong("data.held_out_bases", 0, "1 or more");
        }
        Ok(())
    }

    /// Cuts bases into tokens.
    ///
    /// # Errors
    /// k or stride that cannot be.
    pub fn tokenizer(&self) -> Result<KmerTokenizer> {
        Ok(KmerTokenizer::new(self.window.k, self.window.stride)?)
    }

    /// Configuration of the model.
    ///
    /// # Errors
    /// As [`LanguageRecipe::tokenizer`].
    pub fn model_config(&self) -> Result<ModelConfig> {
        let longest = self.window.buckets.last().copied().unwrap_or(0);
        Ok(self.model.config(self.tokenizer()?.vocab_size(), longest))
    }

    /// The data folder: `LOCUS_DATA`, else the recipe's root.
    pub fn data_root(&self) -> PathBuf {
        std::env::var_os(super::DATA_VARIABLE).map_or_else(|| self.data.root.clone(), PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::AnyRecipe;
    use std::fs;

    use super::*;

    const RECIPE: &str = r#"
task = "language_model"
name = "t"
version = "0.0.1"
seed = 1
[data]
root = "."
held_out_share = 0.1
held_out_bases = 10
[[data.fasta]]
path = "a.fa"
[window]
k = 3
stride = 1
kmers = 61
buckets = [64]
[model]
hidden = 16
layers = 1
heads = 2
ffn = 32
dropout = 0.1
[pretrain]
steps = 20
mask_share = 0.2
span = [3, 6]
[pretrain.objectives]
mlm = 1.0
[pretrain.train]
batch = 8
learning_rate = 1e-3
warmup = 2
weight_decay = 0.02
clip = 1.0
"#;

    fn read(text: &str) -> Result<LanguageRecipe> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        LanguageRecipe::read(file.path())
    }

    #[test]
    fn a_recipe_says_its_task_and_the_shipped_one_is_good() {
        assert!(read(RECIPE).is_ok());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/pretraining.toml");
        LanguageRecipe::read(&shipped).unwrap();
        assert!(matches!(AnyRecipe::read(&shipped), Ok(AnyRecipe::Language(_))));
        assert!(matches!(AnyRecipe::read(&shipped.with_file_name("smoke.toml")), Ok(AnyRecipe::Variant(_))));
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        for (key, line, wrong) in [
            ("name", "name = \"t\"", "name = \"\""),
            ("data.fasta", "[[data.fasta]]\npath = \"a.fa\"", ""),
            ("data.fasta", "[[data.fasta]]\npath = \"a.fa\"", "fasta = []"),
            ("data.held_out_share", "held_out_share = 0.1", "held_out_share = 1.0"),
            ("data.held_out_bases", "held_out_bases = 10", "held_out_bases = 0"),
            ("data.max_ambiguous", "held_out_share = 0.1", "max_ambiguous = -0.1"),
            ("window.kmers", "kmers = 61", "kmers = 8"),
            ("window.buckets", "buckets = [64]", "buckets = [62]"),
            ("stride", "stride = 1", "stride = 2"),
            ("model.heads", "heads = 2", "heads = 0"),
            ("pretrain.steps", "steps = 20", "steps = 0"),
            ("pretrain.span", "span = [3, 6]", "span = [2, 6]"),
            ("pretrain.objectives", "mlm = 1.0", "mlm = 0.0"),
            ("pretrain.objectives", "mlm = 1.0", "mlm = 1.0\norder = -1.0"),
            ("pretrain.train.warmup", "warmup = 2", "warmup = 20"),
            ("unknown field", "mlm = 1.0", "mlm = 1.0\nmasked = 1.0"),
        ] {
            assert!(RECIPE.contains(line), "{line}");
            let error = read(&RECIPE.replacen(line, wrong, 1)).unwrap_err().to_string();
            assert!(error.contains(key.split('.').next_back().unwrap()), "{key}: {error}");
        }
    }
}
