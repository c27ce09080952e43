//! The same stages for models of whole sequences.

pub mod bundle;
mod calibrate;
pub mod evaluate;
pub(super) mod export;
mod fasta;
mod finetune;
mod prepare;
mod pretrain;
pub mod score;

use std::{collections::BTreeMap, path::PathBuf};

use locus_genome::EncodedSequence;

pub use calibrate::run as calibrate;
pub use export::run as export;
pub use finetune::run as finetune;
pub use prepare::run as prepare;
pub use pretrain::run as pretrain;

use super::{
    ChainRecipe, Link, Stage,
    report::{REPORT, ReportArgs},
    write_checkpoint_folder,
};
use crate::{
    Result,
    error::io_at,
    files,
    model::{ModelConfig, Params},
    recipe::SequenceRecipe,
    sequence::{SequenceSet, record::is_packed},
    stage::write_json,
};

/// The whole chain, from where it stopped, to an unsigned bundle in the output folder, with its report on validation
/// (`report.json`, `report.html`) and its model card (`card.md`).
///
/// # Errors
/// As every stage.
pub fn run(stage: &SequenceStage, date: &str, source: Option<String>) -> Result<PathBuf> {
    super::export::ready(stage)?;
    prepare(stage)?;
    pretrain(stage)?;
    finetune(stage)?;
    calibrate(stage)?;
    export(stage)?;
    let bundle = stage.run.at(&format!("{}.locus", stage.recipe.name));
    bundle::create(stage, &bundle, date, source)?;
    write_json(&stage.run.at(REPORT), &evaluate::on_validation(stage, &bundle)?)?;
    super::report::run(&ReportArgs::of_run(&stage.run, &bundle))?;
    Ok(bundle)
}

/// A stage of a sequence model's chain.
pub type SequenceStage = Stage<SequenceRecipe>;

/// Changes whenever the same recipe makes other rows.
const ENCODING_VERSION: u32 = 1;

impl ChainRecipe for SequenceRecipe {
    fn own_inputs(stage: &Stage<Self>, link: Link) -> Result<BTreeMap<String, String>> {
        let r = &stage.recipe;
        let part = match link {
            Link::Prepare => r.digest_of(&r.data),
            Link::Pretrain => r.digest_of(&(&r.pretrain, &r.model)),
            Link::Finetune => r.digest_of(&(&r.finetune, &r.model)),
            // Not of this chain.
            Link::Prune => r.digest_of(&()),
            Link::Calibrate => r.digest_of(&(&r.calibrate, &r.quantise, r.export.int8_budget)),
            Link::Export => r.digest_of(&(&r.export, r.quantise.flips_budget)),
        };
        let mut all = BTreeMap::from([("recipe".to_owned(), part)]);
        if link == Link::Prepare {
            all.insert("encoding".into(), ENCODING_VERSION.to_string());
            for file in &r.data.files {
                let role = file.path.display().to_string();
                all.insert(role, files::sha256(&r.data_root().join(&file.path))?);
            }
        }
        Ok(all)
    }

    fn prepared(&self) -> &'static [&'static str] {
        if is_packed(self.data.alphabet) { &["dataset.bin", "dataset.packed"] } else { &["dataset.bin"] }
    }
}

impl SequenceStage {
    /// The stored set, where every stage before `asking` is done.
    fn set(&self, asking: &'static str) -> Result<SequenceSet> {
        self.require_before(asking)?;
        SequenceSet::read(&self.run.at("dataset.bin"))
    }

    /// The stored set and what a stage is made from; `None`, said once, where the stage is done.
    fn begin(&self, link: Link) -> Result<Option<(SequenceSet, BTreeMap<String, String>)>> {
        let set = self.set(link.name())?;
        Ok(if self.done_before(link)? { None } else { Some((set, self.made_from(link)?)) })
    }

    /// The model's configuration for a set: its classes, or the name of its value.
    fn config(&self, set: &SequenceSet) -> Result<ModelConfig> {
        let value = || vec![self.recipe.data.target.field.clone()];
        self.recipe.model_config(if set.classes.is_empty() { value() } else { set.classes.clone() })
    }

    /// Rows of some records.
    fn encode(&self, set: &SequenceSet, records: &[usize]) -> Result<Vec<EncodedSequence>> {
        let encoder = self.recipe.encoder()?;
        records.iter().map(|&i| Ok(encoder.encode(&set.sequence(i)?)?)).collect()
    }

    /// The chosen checkpoint.
    fn best(&self) -> Result<(ModelConfig, Params)> {
        let place = self.run.at("best/config.json");
        let config = ModelConfig::read(&place).map_err(io_at(&place))?;
        let params = Params::read(&self.run.at("best/model.safetensors"), &config, 0)?;
        Ok((config, params))
    }

    /// Writes a checkpoint folder to train or export from; of several ranks the first one does.
    fn write_model(&self, name: &str, config: &ModelConfig, params: &Params) -> Result<()> {
        if !self.run.ranks().is_first() {
            return Ok(());
        }
        let folder = self.run.at(name);
        write_checkpoint_folder(&folder, config, params, &self.recipe.tokenizer()?.to_json())?;
        write_json(&folder.join("window.json"), &self.recipe.tokens)
    }
}
