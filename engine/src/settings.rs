//! What engines take from a device profile, in checked types.

use std::{path::PathBuf, time::Duration};

use locus_firmware_config::profile::DeviceProfile;

use crate::Error;
use crate::ort::library;
use crate::session::{EngineKind, LoadOptions, Precision, SessionError};

/// Settings of the machine, whatever the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Engines in order of preference.
    pub order: Vec<EngineKind>,
    /// Precision where a run asks for none.
    pub precision: Precision,
    /// Cores that engines may use.
    pub threads: usize,
    /// Rows per batch at most, whatever the model takes.
    pub max_batch: u32,
    /// GPU number.
    pub device_id: i32,
    /// Lengths in tokens to prepare, of those that a model has; empty for all of them.
    pub buckets: Vec<u32>,
    /// Memory that the GPU's allocator may take, in bytes.
    pub memory_bytes: Option<usize>,
    /// Workspace of the TensorRT builder, in bytes.
    pub workspace_bytes: Option<usize>,
    /// Major version of TensorRT, where it is known: from 11 on it takes no precision flags.
    pub tensorrt_major: Option<u32>,
    /// Deep learning accelerator to use.
    pub dla_core: Option<u32>,
    /// Device of OpenVINO, its CPU where none is named.
    pub openvino_device: Option<String>,
    /// Time that a batch of the fake engine takes.
    pub fake_batch: Duration,
    /// Where ONNX Runtime may be.
    pub onnxruntime: Vec<PathBuf>,
    /// Where the libraries of CUDA and TensorRT may be.
    pub library_folders: Vec<PathBuf>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            order: EngineKind::DEFAULT_ORDER.to_vec(),
            precision: Precision::Auto,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_batch: u32::MAX,
            device_id: 0,
            buckets: Vec::new(),
            memory_bytes: None,
            workspace_bytes: None,
            tensorrt_major: None,
            dla_core: None,
            openvino_device: None,
            fake_batch: Duration::ZERO,
            onnxruntime: Vec::new(),
            library_folders: Vec::new(),
        }
    }
}

impl EngineSettings {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`SessionError::UnknownEngine`], [`SessionError::UnknownPrecision`] or [`Error::Profile`] for a value
    /// that this build does not know.
    pub fn from_profile(profile: &DeviceProfile) -> Result<Self, Error> {
        let order =
            profile.engines.iter().map(|name| name.parse()).collect::<Result<Vec<_>, SessionError>>()?;
        let device = profile.cuda_device.unwrap_or(0);
        let device_id = i32::try_from(device).map_err(|_| Error::Profile {
            field: "cuda_device",
            got: device.to_string(),
            expected: "the number of a GPU of this machine".into(),
        })?;
        Ok(Self {
            order,
            precision: profile.precision.parse()?,
            threads: profile.intra_threads as usize,
            max_batch: profile.max_batch,
            device_id,
            buckets: profile.buckets.clone(),
            memory_bytes: profile.memory_budget_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
            workspace_bytes: profile.tensorrt_workspace_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
            tensorrt_major: profile.tensorrt_major,
            dla_core: profile.dla_core,
            openvino_device: profile.openvino_device.clone(),
            fake_batch: Duration::from_millis(profile.fake_batch_ms.unwrap_or(0).into()),
            onnxruntime: profile.onnxruntime.clone(),
            library_folders: profile.library_folders.clone(),
        })
    }

    /// The lengths of a model that this machine prepares.
    ///
    /// # Errors
    /// [`Error::Profile`] when the profile lists none of them.
    pub(crate) fn buckets_of(&self, model: &[u32]) -> Result<Vec<u32>, Error> {
        let kept: Vec<u32> =
            model.iter().copied().filter(|b| self.buckets.is_empty() || self.buckets.contains(b)).collect();
        if kept.is_empty() && !model.is_empty() {
            return Err(Error::Profile {
                field: "buckets",
                got: format!("{:?}", self.buckets),
                expected: format!("some of the model's {model:?}, or no buckets at all"),
            });
        }
        Ok(kept)
    }

    /// Cores that engines may use: the profile's number, where the machine has as many.
    pub(crate) fn cores(&self) -> usize {
        self.threads.min(std::thread::available_parallelism().map_or(1, Into::into)).max(1)
    }

    /// Fills what `options` leave to the profile.
    pub(crate) fn fill(&self, options: &LoadOptions) -> LoadOptions {
        let mut filled = options.clone();
        if filled.order.is_empty() {
            filled.order.clone_from(&self.order);
        }
        if filled.precision == Precision::Auto {
            filled.precision = self.precision;
        }
        if filled.intra_threads == 0 {
            filled.intra_threads = self.cores();
        }
        if filled.onnxruntime.is_none() {
            filled.onnxruntime = library::of_profile(&self.onnxruntime);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_is_understood_and_none_names_the_fake_engine() {
        for name in DeviceProfile::shipped() {
            let settings = EngineSettings::from_profile(&DeviceProfile::named(name).unwrap()).unwrap();
            assert!(!settings.order.is_empty() && !settings.order.contains(&EngineKind::Fake), "{name}");
        }
    }

    #[test]
    fn a_run_wins_over_the_profile_and_the_profile_fills_the_rest() {
        let text = "inherit = \"base\"\nprecision = \"fp32\"\nintra_threads = 3\nengines = [\"tract\"]\n";
        let settings = EngineSettings::from_profile(&DeviceProfile::parse("mine", text).unwrap()).unwrap();
        let filled = settings.fill(&LoadOptions::default());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!((filled.precision, filled.intra_threads), (Precision::Fp32, cores.min(3)));
        assert_eq!(filled.order, [EngineKind::Tract]);
        let asked = LoadOptions {
            order: vec![EngineKind::OrtCpu],
            precision: Precision::Int8,
            intra_threads: 1,
            ..LoadOptions::default()
        };
        let filled = settings.fill(&asked);
        assert_eq!((filled.precision, filled.intra_threads), (Precision::Int8, 1));
        assert_eq!(filled.order, [EngineKind::OrtCpu]);
    }

    #[test]
    fn values_that_only_another_build_knows_are_refused() {
        let base = DeviceProfile::named("base").unwrap();
        let bad = [
            DeviceProfile { engines: vec!["npu".into()], ..base.clone() },
            DeviceProfile { precision: "int4".into(), ..base.clone() },
            DeviceProfile { cuda_device: Some(u32::MAX), ..base },
        ];
        for profile in bad {
            assert!(EngineSettings::from_profile(&profile).is_err(), "{profile:?}");
        }
    }

    #[test]
    fn a_profile_leaves_lengths_out_but_never_all_of_them() {
        let settings =
            |buckets: &[u32]| EngineSettings { buckets: buckets.to_vec(), ..EngineSettings::default() };
        assert_eq!(settings(&[]).buckets_of(&[32, 64]).unwrap(), [32, 64]);
        assert_eq!(settings(&[64, 128]).buckets_of(&[32, 64]).unwrap(), [64]);
        let error = settings(&[128]).buckets_of(&[32, 64]).unwrap_err().to_string();
        assert!(error.contains("buckets is [128], expected some of the model's [32, 64]"), "{error}");
    }
}
