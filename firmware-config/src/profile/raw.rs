//! What is written in a profile, before it is looked at.

use std::path::PathBuf;

use serde::Deserialize;

use super::PowerMode;

/// One file; what it leaves out is its parent's.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) inherit: Option<String>,
    pub(super) verified: Option<bool>,
    pub(super) engines: Option<Vec<String>>,
    pub(super) precision: Option<String>,
    pub(super) intra_threads: Option<u32>,
    pub(super) max_batch: Option<u32>,
    pub(super) buckets: Option<Vec<u32>>,
    pub(super) cuda_device: Option<u32>,
    pub(super) compute_capability: Option<String>,
    pub(super) memory_gib: Option<Vec<u32>>,
    pub(super) memory_budget_bytes: Option<u64>,
    pub(super) tensorrt_major: Option<u32>,
    pub(super) tensorrt_workspace_bytes: Option<u64>,
    pub(super) dla_cores: Option<u32>,
    pub(super) dla_core: Option<u32>,
    pub(super) openvino_device: Option<String>,
    pub(super) fake_batch_ms: Option<u32>,
    pub(super) onnxruntime: Option<Vec<PathBuf>>,
    pub(super) library_folders: Option<Vec<PathBuf>>,
    pub(super) serial_ports: Option<Vec<String>>,
    pub(super) power_modes: Option<Vec<PowerMode>>,
}

macro_rules! fill {
    ($child:ident, $parent:ident, $($field:ident),+) => {
        Raw { $($field: $child.$field.or($parent.$field)),+, ..$child }
    };
}

impl Raw {
    /// Takes from `parent` what is not written here. Never `verified`: that one device was tried says nothing about
    /// another.
    pub(super) fn over(self, parent: Self) -> Self {
        fill!(
            self,
            parent,
            engines,
            precision,
            intra_threads,
            max_batch,
            buckets,
            cuda_device,
            compute_capability,
            memory_gib,
            memory_budget_bytes,
            tensorrt_major,
            tensorrt_workspace_bytes,
            dla_cores,
            dla_core,
            openvino_device,
            fake_batch_ms,
            onnxruntime,
            library_folders,
            serial_ports,
            power_modes
        )
    }
}
