//! The commands: each is a stage that reads the recipe and the output folder and writes into it.

pub mod align;
pub mod bundle;
pub mod calibrate;
mod chain;
pub mod evaluate;
pub mod evidence;
pub mod explain;
pub mod export;
pub mod finetune;
pub mod interchange;
pub mod language;
pub mod pack;
pub mod prepare;
pub mod pretrain;
mod proof;
pub mod prune;
mod quantise;
pub mod report;
pub mod score;
pub mod sequence;
pub mod structure;
pub mod trust;

use std::path::{Path, PathBuf};

use locus_genome::KmerTokenizer;

pub(crate) use self::chain::{ChainRecipe, Link};
use self::report::ReportArgs;
use crate::{
    Recipe, Result,
    data::{Dataset, Encoding},
    error::io_at,
    files,
    model::{ModelConfig, Params},
    stage::{Run, write_json},
};

/// What every training stage is given.
#[derive(Debug)]
pub struct Stage<R = Recipe> {
    /// The recipe.
    pub recipe: R,
    /// The output folder.
    pub run: Run,
    /// The ONNX Runtime library, where it was named.
    pub onnxruntime: Option<PathBuf>,
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

    /// The stored dataset, where every stage before `asking` is done; with its digest.
    pub(crate) fn dataset(&self, asking: &'static str) -> Result<(Dataset, String)> {
        self.require_before(asking)?;
        let path = self.run.at("dataset.bin");
        Ok((Dataset::read(&path)?, files::sha256(&path)?))
    }

    /// The model's configuration for a dataset.
    pub(crate) fn config(&self, dataset: &Dataset) -> Result<ModelConfig> {
        Ok(self.recipe.model_config(dataset.tokenizer()?.vocab_size(), dataset.features.len()))
    }
}

/// The whole chain, from where it stopped, to an unsigned bundle in the output folder, with its report on validation
/// (`report.json`, `report.html`) and its model card (`card.md`).
///
/// # Errors
/// As every stage.
pub fn run(stage: &Stage, date: &str, source: Option<String>) -> Result<PathBuf> {
    export::ready(stage)?;
    prepare::run(stage)?;
    if stage.recipe.has(Link::Finetune) {
        pretrain::run(stage)?;
        finetune::run(stage)?;
    }
    if stage.recipe.has(Link::Prune) {
        prune::run(stage)?;
    }
    calibrate::run(stage)?;
    export::run(stage)?;
    let bundle = stage.run.at(&format!("{}.locus", stage.recipe.name));
    bundle::create(stage, &bundle, date, source)?;
    evaluate::on_validation(stage, &bundle)?;
    report::run(&ReportArgs::of_run(&stage.run, &bundle))?;
    Ok(bundle)
}

/// Writes a checkpoint folder to train or export from; of several ranks the first one does.
pub(crate) fn write_model(
    stage: &Stage,
    name: &str,
    config: &ModelConfig,
    params: &Params,
    tokenizer: &KmerTokenizer,
) -> Result<()> {
    if !stage.run.ranks().is_first() {
        return Ok(());
    }
    let folder = stage.run.at(name);
    write_checkpoint_folder(&folder, config, params, &tokenizer.to_json())?;
    write_json(&folder.join("window.json"), &Encoding::of(&stage.recipe.window))
}

/// Writes weights, configuration and tokenizer.
pub(crate) fn write_checkpoint_folder(
    folder: &Path,
    config: &ModelConfig,
    params: &Params,
    tokenizer: &str,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(io_at(folder))?;
    let part = folder.join("model.safetensors.part");
    params.write(&part)?;
    files::sync(&part)?;
    let whole = folder.join("model.safetensors");
    std::fs::rename(&part, &whole).map_err(io_at(&whole))?;
    write_json(&folder.join("config.json"), config)?;
    files::write_atomically(&folder.join("tokenizer.json"), tokenizer.as_bytes())
}
