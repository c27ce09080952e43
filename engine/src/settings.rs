//! What engines take from a device profile, in checked types.

use locus_firmware_config::profile::DeviceProfile;

use crate::Error;
use crate::session::{EngineKind, LoadOptions, Precision, SessionError};

/// Settings of the machine, whatever the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Engines in order of preference.
    pub order: Vec<EngineKind>,
    /// Precision where a run asks for none.
    pub precision: Precision,
    /// Threads inside one operator.
    pub threads: usize,
    /// Rows per batch at most, whatever the model takes.
    pub max_batch: u32,
    /// GPU number.
    pub device_id: i32,
    /// Workspace of the TensorRT builder, in bytes.
    pub workspace_bytes: Option<usize>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            order: EngineKind::DEFAULT_ORDER.to_vec(),
            precision: Precision::Auto,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_batch: u32::MAX,
            device_id: 0,
            workspace_bytes: None,
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
            workspace_bytes: profile.tensorrt_workspace_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
        })
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
            filled.intra_threads = self.threads;
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
        assert_eq!((filled.precision, filled.intra_threads), (Precision::Fp32, 3));
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
}
