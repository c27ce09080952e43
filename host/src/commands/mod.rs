//! The commands: each is a stage that reads the recipe and the output folder and writes into it.

pub mod bundle;
pub mod calibrate;
pub mod evaluate;
pub mod export;
pub mod finetune;
pub mod prepare;
pub mod pretrain;
pub mod score;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{Error, Recipe, Result, data::Dataset, files, model::ModelConfig, stage::Run};

/// What every training stage is given.
#[derive(Debug)]
pub struct Stage {
    /// The recipe.
    pub recipe: Recipe,
    /// The output folder.
    pub run: Run,
}

/// Files of the task, wherever they lie.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    /// Bases.
    pub fasta: PathBuf,
    /// Transcripts.
    pub gff3: PathBuf,
    /// Labelled variants.
    pub vcf: PathBuf,
    /// Scores of baselines, where there are any.
    pub floors: Option<PathBuf>,
}

impl Stage {
    /// Where the files of the task are; a generated panel lies in the output folder.
    pub fn sources(&self) -> SourceFiles {
        let data = &self.recipe.data;
        let root =
            if data.generated_genes.is_some() { self.run.at("panel") } else { self.recipe.data_root() };
        SourceFiles {
            fasta: root.join(&data.fasta),
            gff3: root.join(&data.gff3),
            vcf: root.join(&data.vcf),
            floors: data.floors.as_ref().map(|f| root.join(f)),
        }
    }

    /// The stored dataset with its digest.
    pub(crate) fn dataset(&self, stage: &'static str) -> Result<(Dataset, String)> {
        let path = self.run.at("dataset.bin");
        if !path.exists() {
            return Err(Error::Missing { stage, path, needs: "prepare" });
        }
        Ok((Dataset::read(&path)?, files::sha256(&path)?))
    }

    /// The model's configuration for a dataset.
    pub(crate) fn config(&self, dataset: &Dataset) -> Result<ModelConfig> {
        Ok(self.recipe.model_config(dataset.tokenizer()?.vocab_size(), dataset.features.len()))
    }
}

pub(crate) fn inputs<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// Writes a checkpoint folder to train or export from.
pub(crate) fn write_model(
    stage: &Stage,
    name: &str,
    config: &ModelConfig,
    params: &crate::model::Params,
    tokenizer: &locus_genome::KmerTokenizer,
) -> Result<()> {
    let folder = stage.run.at(name);
    std::fs::create_dir_all(&folder).map_err(crate::error::io_at(&folder))?;
    let part = folder.join("model.safetensors.part");
    params.write(&part)?;
    let whole = folder.join("model.safetensors");
    std::fs::rename(&part, &whole).map_err(crate::error::io_at(&whole))?;
    let path = folder.join("config.json");
    config.write(&path).map_err(crate::error::io_at(&path))?;
    files::write_atomically(&folder.join("tokenizer.json"), tokenizer.to_json().as_bytes())
}
