//! Where tensors are computed: the CPU, or an NVIDIA GPU.

use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result, train::Ranks};

/// What `--device` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where this program has CUDA and one answers, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU by its number; without one, that of this process on its machine.
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(|n| Self::Cuda(Some(n)))
                .ok_or_else(|| format!("got {text}, expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl DeviceChoice {
    /// Opens the device, and says which one it is where it is a GPU. Each rank takes the GPU of its own number on its
    /// machine, or the first where the launcher shows it only one.
    ///
    /// # Errors
    /// [`Error::Device`]: a GPU is asked for and this program has no CUDA, or none of that number answers;
    /// [`Error::Ranks`]: a local rank that is no number.
    pub fn open(self) -> Result<Device> {
        let device = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto if !cfg!(feature = "cuda") => return Ok(Device::Cpu),
            Self::Auto => match own_gpu() {
                Err(Error::Device { got, .. }) => {
                    complain!("device: cpu; {got}");
                    return Ok(Device::Cpu);
                }
                device => device?,
            },
            Self::Cuda(None) => own_gpu()?,
            Self::Cuda(Some(n)) => gpu(n)?,
        };
        complain!("device: {}", name(&device));
        Ok(device)
    }
}

/// The device in the words of `--device`.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// What ran a checkpoint, in the words of a report.
pub(crate) fn candle_on(device: &Device) -> String {
    if device.is_cpu() { "candle".into() } else { format!("candle on {}", name(device)) }
}

/// The GPU of this process on its machine.
fn own_gpu() -> Result<Device> {
    let own = Ranks::local_from_environment()?;
    gpu(own).or_else(|error| if own > 0 { gpu(0) } else { Err(error) })
}

fn gpu(number: usize) -> Result<Device> {
    if !cfg!(feature = "cuda") {
        return Err(Error::Device {
            got: format!("cuda:{number} for a program without CUDA"),
            expected: "cpu, or the program that `cargo xtask cuda` builds".into(),
        });
    }
    Device::new_cuda(number).map_err(|error| Error::Device {
        got: format!(
            "no answer from cuda:{number} ({})",
            error.to_string().lines().next().unwrap_or_default()
        ),
        expected: "an NVIDIA GPU of that number and its driver (`nvidia-smi` lists them), or --device cpu"
            .into(),
    })
}

/// The devices that tests run on: the CPU, and a GPU where there is one.
#[cfg(test)]
pub(crate) fn all() -> Vec<Device> {
    let gpu = gpu(0);
    if let Err(error) = &gpu {
        say!("skipped: GPU: {error}");
    }
    std::iter::once(Device::Cpu).chain(gpu.ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_device_is_understood() {
        let of = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(of("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(of("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(of("cuda"), Ok(DeviceChoice::Cuda(None)));
        assert_eq!(of("cuda:3"), Ok(DeviceChoice::Cuda(Some(3))));
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda:x", "", "CPU"] {
            assert!(of(wrong).unwrap_err().contains("expected auto, cpu, cuda or cuda:N"), "{wrong}");
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_a_gpu_that_is_not_says_what_to_do() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        // No machine has so many.
        let error = DeviceChoice::Cuda(Some(9_999)).open().unwrap_err().to_string();
        assert!(error.contains("cuda:9999") && error.contains("expected"), "{error}");
        assert_eq!(error.contains("cargo xtask cuda"), !cfg!(feature = "cuda"), "{error}");
        if !cfg!(feature = "cuda") {
            assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        }
    }
}
