//! Checkpoint and calibration table to ONNX to signed bundle. Reads safetensors and never sees the
//! library that trained them.

mod bundle;
mod config;
mod draft;
mod error;
mod keys;
mod lower;
mod pack;
mod read_back;
mod smooth;
mod trust;
mod weights;

pub use bundle::{BundleBuilder, delta, sign, split};
pub use config::{HeadKind, LayerSize, ModelConfig, WidePath};
pub use error::ExportError;
pub use keys::{generate, read_private};
pub use lower::{
    Layer, build_fp32, build_int8, build_int8_fp16, build_int8_fp16_rounding_in_fp32, layers, to_bytes,
};
pub use pack::{sign_pack, write_pack};
pub use read_back::GraphWeights;
pub use smooth::smoothed;
pub use trust::{sign_trust, unsigned_trust};
pub use weights::{SafetensorsWeights, WeightSource};
