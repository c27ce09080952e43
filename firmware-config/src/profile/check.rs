//! Which values can be.

use std::path::PathBuf;

use super::{DeviceProfile, PowerMode, ProfileError};

/// Engines that a profile may name.
const ENGINES: [&str; 6] = ["ort-tensorrt", "ort-cuda", "ort-openvino", "ort-cpu", "tract", "fake"];
/// Entries of a list at most.
const MAX_LIST: usize = 32;
const GIB: u64 = 1 << 30;

impl DeviceProfile {
    /// Gives back a profile whose values can all be.
    ///
    /// # Errors
    /// [`ProfileError::Value`] with the first one that cannot.
    pub fn check(self) -> Result<Self, ProfileError> {
        match self.problem() {
            None => Ok(self),
            Some((field, got, expected)) => {
                Err(ProfileError::Value { name: self.name, field, got, expected: expected.to_owned() })
            }
        }
    }

    /// Field, value and what it may be, of the first value that cannot be.
    fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        const PATHS: &str = "up to 32 absolute paths";
        let has = |engine: &str| self.engines.iter().any(|e| e == engine);
        let ascending = self.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        let smallest = self.memory_gib.iter().min().map(|gib| u64::from(*gib) * GIB);
        let (budget, workspace) = (self.memory_budget_bytes, self.tensorrt_workspace_bytes);
        let over =
            |bytes: Option<u64>, limit: Option<u64>| bytes.is_some_and(|b| limit.is_some_and(|l| b > l));
        let tests = [
            (
                self.engines.is_empty() || self.engines.iter().any(|e| !ENGINES.contains(&e.as_str())),
                "engines",
                format!("{:?}", self.engines),
                "ort-tensorrt, ort-cuda, ort-openvino, ort-cpu, tract or fake",
            ),
            (
                !["auto", "fp32", "int8"].contains(&self.precision.as_str()),
                "precision",
                self.precision.clone(),
                "auto, fp32 or int8",
            ),
            (
                !(1..=64).contains(&self.intra_threads),
                "intra_threads",
                self.intra_threads.to_string(),
                "1 to 64",
            ),
            (!(1..=1024).contains(&self.max_batch), "max_batch", self.max_batch.to_string(), "1 to 1,024"),
            (
                !ascending
                    || self.buckets.len() > MAX_LIST
                    || self.buckets.iter().any(|b| !(2..=65_536).contains(b)),
                "buckets",
                format!("{:?}", self.buckets),
                "up to 32 lengths from 2 to 65,536 tokens, ascending",
            ),
            (self.cuda_device.is_some_and(|n| n > 63), "cuda_device", shown(self.cuda_device), "0 to 63"),
            (
                self.compute_capability.as_deref().is_some_and(|text| !is_capability(text)),
                "compute_capability",
                format!("{:?}", self.compute_capability),
                "two numbers with a dot, such as 8.7",
            ),
            (
                self.memory_gib.len() > MAX_LIST
                    || self.memory_gib.iter().any(|gib| !(1..=4096).contains(gib)),
                "memory_gib",
                format!("{:?}", self.memory_gib),
                "up to 32 sizes from 1 to 4,096 GiB",
            ),
            (
                budget.is_some_and(|b| b < 64 << 20) || over(budget, smallest),
                "memory_budget_bytes",
                shown(budget),
                "at least 64 MiB, and no more than the smallest of memory_gib",
            ),
            (
                workspace.is_some_and(|w| w < 1 << 20) || over(workspace, budget),
                "tensorrt_workspace_bytes",
                shown(workspace),
                "at least 1 MiB, and no more than memory_budget_bytes",
            ),
            (
                self.tensorrt_major.is_some_and(|major| !(8..=99).contains(&major)),
                "tensorrt_major",
                shown(self.tensorrt_major),
                "8 or more",
            ),
            (self.dla_cores > 8, "dla_cores", self.dla_cores.to_string(), "0 to 8"),
            (
                self.dla_core.is_some_and(|core| core >= self.dla_cores),
                "dla_core",
                shown(self.dla_core),
                "a number below dla_cores, which counts those that the device has",
            ),
            (
                self.dla_core.is_some() && (!has("ort-tensorrt") || self.precision == "fp32"),
                "dla_core",
                shown(self.dla_core),
                "none without the engine ort-tensorrt or with the precision fp32: a DLA does not compute in FP32",
            ),
            (
                self.openvino_device.as_deref().is_some_and(|name| !is_openvino_device(name)),
                "openvino_device",
                format!("{:?}", self.openvino_device),
                "CPU, GPU, GPU.N or NPU",
            ),
            (
                self.fake_batch_ms.is_some_and(|ms| ms > 600_000 || !has("fake")),
                "fake_batch_ms",
                shown(self.fake_batch_ms),
                "at most 600,000, with the engine fake",
            ),
            (bad_paths(&self.onnxruntime), "onnxruntime", format!("{:?}", self.onnxruntime), PATHS),
            (
                bad_paths(&self.library_folders),
                "library_folders",
                format!("{:?}", self.library_folders),
                PATHS,
            ),
            (
                self.serial_ports.len() > MAX_LIST
                    || self.serial_ports.iter().any(|p| !p.starts_with("/dev/")),
                "serial_ports",
                format!("{:?}", self.serial_ports),
                "up to 32 names or patterns below /dev",
            ),
            (
                bad_modes(&self.power_modes),
                "power_modes",
                format!("{:?}", self.power_modes),
                "up to 32 modes, each with a number and a name of its own",
            ),
        ];
        tests.into_iter().find(|(wrong, ..)| *wrong).map(|(_, field, got, expected)| (field, got, expected))
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

fn is_capability(text: &str) -> bool {
    let number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| number(major) && number(minor))
}

fn is_openvino_device(text: &str) -> bool {
    let number = |n: &str| (1..=2).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    ["CPU", "GPU", "NPU"].contains(&text) || text.strip_prefix("GPU.").is_some_and(number)
}

fn bad_paths(paths: &[PathBuf]) -> bool {
    paths.len() > MAX_LIST || paths.iter().any(|path| !path.is_absolute())
}

fn bad_modes(modes: &[PowerMode]) -> bool {
    let name_is_good =
        |name: &str| (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    let twice = |i: usize| modes[..i].iter().any(|m| m.id == modes[i].id || m.name == modes[i].name);
    modes.len() > MAX_LIST || (0..modes.len()).any(|i| twice(i) || !name_is_good(&modes[i].name))
}
