//! The output folder: which stage is done, from which inputs, and the last checkpoint of the one that
//! is not.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error, Result,
    error::io_at,
    files,
    model::{ModelConfig, Params},
    train::{AdamW, LossScale, Ranks},
};

/// Places in one output folder, which is this program's alone while one of these lives; of several ranks the first
/// one holds it for all.
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
    ranks: Ranks,
    device: Device,
    _lock: Option<Arc<File>>,
}

/// What a stage was made from and what came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Digests of the recipe's part and of every input.
    pub inputs: BTreeMap<String, String>,
    /// Digests of the files that it left.
    pub outputs: BTreeMap<String, String>,
    /// Figures of the stage.
    pub figures: BTreeMap<String, f64>,
}

impl Run {
    /// Opens an output folder, made where it is not there, for one process alone.
    ///
    /// # Errors
    /// The folder cannot be made, or [`Error::Busy`].
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_as(folder, Ranks::ALONE)
    }

    /// Opens an output folder for one of several ranks.
    ///
    /// # Errors
    /// As [`Run::open`].
    pub fn open_as(folder: &Path, ranks: Ranks) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        if !ranks.is_first() {
            return Ok(Self { folder: folder.to_owned(), ranks, device: Device::Cpu, _lock: None });
        }
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io_at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                ranks,
                device: Device::Cpu,
                _lock: Some(Arc::new(lock)),
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: folder.to_owned() }),
            Err(TryLockError::Error(e)) => Err(io_at(&path)(e)),
        }
    }

    /// Trains on another device than the CPU.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Where this process trains.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Which of several processes this one is.
    pub const fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// A path below the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a stage that ended said of itself.
    pub fn record(&self, stage: &str) -> Option<StageRecord> {
        read_json(&self.at(&format!("{stage}.stage.json"))).ok()
    }

    /// Says that a stage ended.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn finish(&self, stage: &str, record: &StageRecord) -> Result<()> {
        write_json(&self.at(&format!("{stage}.stage.json")), record)
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
    /// Validations since then.
    pub worse: u64,
    /// Whether it stopped early.
    pub stopped: bool,
    /// Smoothed loss.
    pub loss: Option<f64>,
    /// Seconds spent.
    pub seconds: f64,
    /// What the loss is scaled by, in FP16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<LossScale>,
}

impl TrainState {
    /// Before the first step.
    pub fn new(inputs: BTreeMap<String, String>) -> Self {
        Self { inputs, ..Self::default() }
    }

    /// One more step was taken; gives the smoothed loss.
    pub fn took(&mut self, loss: f32, seconds: f64) -> f64 {
        let loss = f64::from(loss);
        let smooth = self.loss.map_or(loss, |s| 0.98 * s + 0.02 * loss);
        self.loss = Some(smooth);
        self.step += 1;
        self.seconds += seconds;
        smooth
    }
}

/// Parameters that training goes on with, and those of the best validation so far.
#[derive(Debug)]
pub struct Weights {
    /// After the last step.
    pub last: Params,
    /// Their running mean, where the plan asks for one.
    pub average: Option<Params>,
    /// At [`TrainState::best`].
    pub best: Option<Params>,
}

impl Weights {
    /// What is validated and kept: the running mean, where there is one.
    pub const fn shown(&self) -> &Params {
        match &self.average {
            Some(average) => average,
            None => &self.last,
        }
    }
}

/// Writes parameters, optimiser and state as one checkpoint: a kill at any time leaves this one or the
/// one before.
///
/// # Errors
/// The folder cannot be written.
pub fn write_checkpoint(
    folder: &Path,
    weights: &Weights,
    optimizer: &AdamW,
    state: &TrainState,
) -> Result<()> {
    let part = folder.with_extension("part");
    let old = folder.with_extension("old");
    let clear = |p: &Path| if p.exists() { fs::remove_dir_all(p).map_err(io_at(p)) } else { Ok(()) };
    clear(&part)?;
    if let Err(error) = write_whole(&part, weights, optimizer, state) {
        // On a full disk every byte counts; the error that is told is the first one.
        let _ = clear(&part);
        return Err(error);
    }
    if folder.exists() {
        clear(&old)?;
        fs::rename(folder, &old).map_err(io_at(folder))?;
    }
    fs::rename(&part, folder).map_err(io_at(folder))?;
    clear(&old)
}

fn write_whole(folder: &Path, weights: &Weights, optimizer: &AdamW, state: &TrainState) -> Result<()> {
    fs::create_dir_all(folder).map_err(io_at(folder))?;
    weights.last.write(&folder.join(LAST))?;
    optimizer.write(&folder.join(OPTIMIZER))?;
    let mut written = vec![LAST, OPTIMIZER];
    for (params, name) in [(&weights.best, BEST), (&weights.average, AVERAGE)] {
        if let Some(params) = params {
            params.write(&folder.join(name))?;
            written.push(name);
        }
    }
    for name in written {
        files::sync(&folder.join(name))?;
    }
    write_json(&folder.join("state.json"), state)
}

const LAST: &str = "model.safetensors";
const AVERAGE: &str = "average.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Reads the last whole checkpoint made from these inputs.
///
/// # Errors
/// A checkpoint of these inputs that cannot be read.
pub fn read_checkpoint(
    folder: &Path,
    config: &ModelConfig,
    optimizer: &mut AdamW,
    inputs: &BTreeMap<String, String>,
) -> Result<Option<(Weights, TrainState)>> {
    for place in [folder.to_owned(), folder.with_extension("old")] {
        let Ok(state) = read_json::<TrainState>(&place.join("state.json")) else { continue };
        if state.inputs != *inputs {
            continue;
        }
        let read = |name: &str| Params::read(&place.join(name), config, 0);
        let weights = Weights {
            last: read(LAST)?,
            average: place.join(AVERAGE).is_file().then(|| read(AVERAGE)).transpose()?,
            best: state.best.map(|_| read(BEST)).transpose()?,
        };
        optimizer.read(&place.join(OPTIMIZER))?;
        return Ok(Some((weights, state)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_programs_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Run::open(folder.path()).unwrap();
        let other = first.clone();
        assert!(matches!(Run::open(folder.path()), Err(Error::Busy { .. })));
        drop(first);
        assert!(matches!(Run::open(folder.path()), Err(Error::Busy { .. })), "a clone still works in it");
        drop(other);
        assert!(Run::open(folder.path()).is_ok());
    }
}
