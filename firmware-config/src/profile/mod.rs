//! Device profiles: what the hardware is. TOML, with `inherit` naming the profile it starts from.

mod check;
mod error;
mod raw;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::ProfileError;
use raw::Raw;

/// What a device is, checked. Its `Serialize` shows it with what it inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceProfile {
    /// Name of the profile.
    pub name: String,
    /// Whether Locus was run on this hardware.
    pub verified: bool,
    /// Engines in the order to try them.
    pub engines: Vec<String>,
    /// `auto`, `fp32` or `int8`.
    pub precision: String,
    /// Cores that engines may use, where the machine has as many.
    pub intra_threads: u32,
    /// Rows per batch at most.
    pub max_batch: u32,
    /// Lengths in tokens that are prepared, of those that a model has; empty for all of them.
    pub buckets: Vec<u32>,
    /// CUDA device, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda_device: Option<u32>,
    /// What the GPU's code must be compiled for, such as 8.7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Memory of the modules that are sold under this name, in GiB; the CPU and the GPU share it.
    pub memory_gib: Vec<u32>,
    /// Memory that the GPU's allocator may take, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget_bytes: Option<u64>,
    /// Major version of the TensorRT that the device's system brings. From 11 on precision is in the graph alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensorrt_major: Option<u32>,
    /// Memory that TensorRT may use while it builds, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensorrt_workspace_bytes: Option<u64>,
    /// Deep learning accelerators that the device has.
    pub dla_cores: u32,
    /// The one to use; the GPU takes what it cannot compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dla_core: Option<u32>,
    /// Device of OpenVINO, such as `CPU`, `GPU.0` or `NPU`; the CPU where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openvino_device: Option<String>,
    /// Time that a batch of the engine `fake` takes, to measure everything around a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fake_batch_ms: Option<u32>,
    /// Where ONNX Runtime may be: the first that is there is loaded, unless another one is named elsewhere.
    pub onnxruntime: Vec<PathBuf>,
    /// Where the libraries of CUDA and TensorRT may be, beside the places that the system looks in.
    pub library_folders: Vec<PathBuf>,
    /// Where terminals appear, as names or patterns.
    pub serial_ports: Vec<String>,
    /// What `nvpmodel -m` knows; nothing is switched.
    pub power_modes: Vec<PowerMode>,
}

/// A power mode of a Jetson.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerMode {
    /// Number, for `nvpmodel -m`.
    pub id: u32,
    /// Name, as `nvpmodel -q` shows it.
    pub name: String,
}

/// The profiles that come with Locus.
const SHIPPED: [(&str, &str); 8] = [
    ("base", include_str!("../../profiles/base.toml")),
    ("cpu-x86", include_str!("../../profiles/cpu-x86.toml")),
    ("cpu-arm", include_str!("../../profiles/cpu-arm.toml")),
    ("jetson-orin-nano", include_str!("../../profiles/jetson-orin-nano.toml")),
    ("jetson-orin-nx", include_str!("../../profiles/jetson-orin-nx.toml")),
    ("jetson-agx-orin", include_str!("../../profiles/jetson-agx-orin.toml")),
    ("jetson-agx-xavier", include_str!("../../profiles/jetson-agx-xavier.toml")),
    ("jetson-thor", include_str!("../../profiles/jetson-thor.toml")),
];

impl DeviceProfile {
    /// Names of the profiles that come with Locus.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A profile that comes with Locus.
    ///
    /// # Errors
    /// No such profile.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let text = shipped_text(name)?;
        Self::parse(name, text)
    }

    /// Reads TOML; `inherit` names a shipped profile.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let mut whole = raw(name, text)?;
        let verified = whole.verified.unwrap_or(false);
        let mut seen = vec![name.to_owned()];
        let mut next = whole.inherit.take();
        while let Some(parent) = next {
            if seen.contains(&parent) {
                return Err(ProfileError::Cycle { name: name.to_owned() });
            }
            let mut read = raw(&parent, shipped_text(&parent)?)?;
            next = read.inherit.take();
            whole = whole.over(read);
            seen.push(parent);
        }
        let missing = |field: &'static str, expected: &str| ProfileError::Value {
            name: name.to_owned(),
            field,
            got: "nothing".into(),
            expected: format!("{expected}; inherit = \"base\" has one"),
        };
        let profile = Self {
            name: name.to_owned(),
            verified,
            engines: whole.engines.ok_or_else(|| missing("engines", "a list of engines"))?,
            precision: whole.precision.ok_or_else(|| missing("precision", "auto, fp32 or int8"))?,
            intra_threads: whole.intra_threads.ok_or_else(|| missing("intra_threads", "1 to 64"))?,
            max_batch: whole.max_batch.ok_or_else(|| missing("max_batch", "1 to 1,024"))?,
            buckets: whole.buckets.unwrap_or_default(),
            cuda_device: whole.cuda_device,
            compute_capability: whole.compute_capability,
            memory_gib: whole.memory_gib.unwrap_or_default(),
            memory_budget_bytes: whole.memory_budget_bytes,
            tensorrt_major: whole.tensorrt_major,
            tensorrt_workspace_bytes: whole.tensorrt_workspace_bytes,
            dla_cores: whole.dla_cores.unwrap_or(0),
            dla_core: whole.dla_core,
            openvino_device: whole.openvino_device,
            fake_batch_ms: whole.fake_batch_ms,
            onnxruntime: whole.onnxruntime.unwrap_or_default(),
            library_folders: whole.library_folders.unwrap_or_default(),
            serial_ports: whole.serial_ports.unwrap_or_default(),
            power_modes: whole.power_modes.unwrap_or_default(),
        };
        profile.check()
    }
}

fn raw(name: &str, text: &str) -> Result<Raw, ProfileError> {
    toml::from_str(text).map_err(|e| ProfileError::Toml { name: name.to_owned(), source: Box::new(e) })
}

fn shipped_text(name: &str) -> Result<&'static str, ProfileError> {
    SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text).ok_or_else(|| ProfileError::Unknown {
        name: name.to_owned(),
        known: SHIPPED.map(|(n, _)| n).join(", "),
    })
}
