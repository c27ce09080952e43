//! The output folder: which stage is done, from which inputs, and the last checkpoint of the one that
//! is not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Result,
    error::io_at,
    files,
    model::{ModelConfig, Params},
    train::AdamW,
};

/// Places in one output folder.
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
}

/// What a stage was made from and what came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Digest of the recipe's part and of every input.
    pub inputs: BTreeMap<String, String>,
    /// Figures of the stage.
    pub figures: BTreeMap<String, f64>,
}

impl Run {
    /// Opens an output folder, made where it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A path below the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The record of a stage that ended, where its inputs are still the same.
    pub fn done(&self, stage: &str, inputs: &BTreeMap<String, String>) -> Option<StageRecord> {
        let record: StageRecord = read_json(&self.at(&format!("{stage}.stage.json"))).ok()?;
        (record.inputs == *inputs).then_some(record)
    }

    /// Says that a stage ended.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn finish(
        &self,
        stage: &str,
        inputs: BTreeMap<String, String>,
        figures: BTreeMap<String, f64>,
    ) -> Result<()> {
        write_json(&self.at(&format!("{stage}.stage.json")), &StageRecord { inputs, figures })
    }
}

/// Reads a JSON file.
///
/// # Errors
/// No such file, or other content.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(io_at(path))?;
    serde_json::from_str(&text).map_err(std::io::Error::from).map_err(io_at(path))
}

/// Writes a JSON file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::from).map_err(io_at(path))?;
    text.push('\n');
    files::write_atomically(path, text.as_bytes())
}

/// Where training stands: everything that the next step depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Digests of the recipe's part and of every input.
    pub inputs: BTreeMap<String, String>,
    /// Steps taken.
    pub step: u64,
    /// Best validation score so far, and its step.
    pub best: Option<(f64, u64)>,
    /// Seconds spent.
    pub seconds: f64,
}

/// Writes parameters, optimiser and state as one checkpoint: a kill at any time leaves this one or the
/// one before.
///
/// # Errors
/// The folder cannot be written.
pub fn write_checkpoint(folder: &Path, params: &Params, optimizer: &AdamW, state: &TrainState) -> Result<()> {
    let part = folder.with_extension("part");
    let old = folder.with_extension("old");
    let clear = |p: &Path| if p.exists() { fs::remove_dir_all(p).map_err(io_at(p)) } else { Ok(()) };
    clear(&part)?;
    fs::create_dir_all(&part).map_err(io_at(&part))?;
    params.write(&part.join("model.safetensors"))?;
    optimizer.write(&part.join("optimizer.safetensors"))?;
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let path = part.join(name);
        fs::File::open(&path).and_then(|f| f.sync_all()).map_err(io_at(&path))?;
    }
    write_json(&part.join("state.json"), state)?;
    if folder.exists() {
        clear(&old)?;
        fs::rename(folder, &old).map_err(io_at(folder))?;
    }
    fs::rename(&part, folder).map_err(io_at(folder))?;
    clear(&old)
}

/// Reads the last whole checkpoint made from these inputs.
///
/// # Errors
/// A checkpoint of these inputs that cannot be read.
pub fn read_checkpoint(
    folder: &Path,
    config: &ModelConfig,
    optimizer: &mut AdamW,
    inputs: &BTreeMap<String, String>,
) -> Result<Option<(Params, TrainState)>> {
    for place in [folder.to_owned(), folder.with_extension("old")] {
        let Ok(state) = read_json::<TrainState>(&place.join("state.json")) else { continue };
        if state.inputs != *inputs {
            continue;
        }
        let params = Params::read(&place.join("model.safetensors"), config, 0)?;
        optimizer.read(&place.join("optimizer.safetensors"))?;
        return Ok(Some((params, state)));
    }
    Ok(None)
}
