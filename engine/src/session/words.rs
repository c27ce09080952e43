//! The words for engines and precisions, as profiles, flags and answers spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SessionError;

/// The engines that Locus knows, each with the provider that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EngineKind {
    /// ONNX Runtime with the TensorRT provider.
    OrtTensorrt,
    /// ONNX Runtime with the CUDA provider.
    OrtCuda,
    /// ONNX Runtime with the OpenVINO provider: Intel's CPUs, GPUs and NPUs.
    OrtOpenvino,
    /// ONNX Runtime on the CPU.
    OrtCpu,
    /// tract: pure Rust, CPU, FP32 only.
    Tract,
    /// No model at all: numbers made from token ids, to test what lies around an engine.
    Fake,
}

impl EngineKind {
    /// Every kind, in the order of preference that a profile without an order gets; `Fake` is not in it.
    pub const DEFAULT_ORDER: [Self; 2] = [Self::OrtCpu, Self::Tract];

    /// The word used in profiles, flags and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrtTensorrt => "ort-tensorrt",
            Self::OrtCuda => "ort-cuda",
            Self::OrtOpenvino => "ort-openvino",
            Self::OrtCpu => "ort-cpu",
            Self::Tract => "tract",
            Self::Fake => "fake",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EngineKind {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all =
            [Self::OrtTensorrt, Self::OrtCuda, Self::OrtOpenvino, Self::OrtCpu, Self::Tract, Self::Fake];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| SessionError::UnknownEngine {
            got: text.chars().take(32).collect(),
            expected: all.map(Self::as_str).join(", "),
        })
    }
}

/// What the site asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// The fastest that is within the accuracy contract on this machine.
    #[default]
    Auto,
    /// `fp32.onnx`.
    Fp32,
    /// `int8.onnx`, rewritten for x86 or as it is.
    Int8,
}

impl FromStr for Precision {
    type Err = SessionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "fp32" => Ok(Self::Fp32),
            "int8" => Ok(Self::Int8),
            _ => Err(SessionError::UnknownPrecision { got: text.chars().take(32).collect() }),
        }
    }
}

/// What really runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivePrecision {
    /// 32-bit floats.
    Fp32,
    /// INT8 with signed activations: the graph as it is in the bundle.
    Int8S8,
    /// INT8 with activations rewritten as uint8, zero point 128: the same numbers on x86 kernels.
    Int8U8,
    /// INT8 with signed activations, the rest in half precision.
    Int8Fp16,
    /// No arithmetic of a model.
    Fake,
}

impl ActivePrecision {
    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Int8S8 => "int8-s8",
            Self::Int8U8 => "int8-u8",
            Self::Int8Fp16 => "int8-fp16",
            Self::Fake => "fake",
        }
    }

    /// Whether a graph in INT8 runs, so that its golden logits and tolerance apply.
    pub fn is_int8(self) -> bool {
        matches!(self, Self::Int8S8 | Self::Int8U8 | Self::Int8Fp16)
    }
}

impl fmt::Display for ActivePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for kind in ["ort-tensorrt", "ort-cuda", "ort-openvino", "ort-cpu", "tract", "fake"] {
            assert_eq!(kind.parse::<EngineKind>().unwrap().to_string(), kind);
            assert_eq!(
                serde_json::to_string(&kind.parse::<EngineKind>().unwrap()).unwrap(),
                format!("{kind:?}")
            );
        }
        assert!("onnx".parse::<EngineKind>().is_err());
        assert!("fp16".parse::<Precision>().is_err());
    }
}
