//! What a machine is, and in which state: what its system does not tell is absent.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Before the machine's id in the hash that stands for it: no other program's hash of it is the same.
const DOMAIN: &str = "locus-measure machine v1\n";
/// Bytes of that hash which are kept.
const ID_BYTES: usize = 8;

/// A machine before a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// The start of a hash of `/etc/machine-id`: it tells two machines apart and does not say which hospital's they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Board, such as a Jetson's, where a device tree names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Instruction set.
    pub architecture: String,
    /// Cores that this program may use.
    pub cores: usize,
    /// Whether a hypervisor is below: then clocks and cores are shared with who knows whom.
    pub hypervisor: bool,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Clocks of the cores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<Core>,
    /// Whether clocks may rise above their base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boost: Option<bool>,
    /// Power mode of a Jetson, as `nvpmodel -q` or its state file says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_mode: Option<String>,
    /// What `jetson_clocks --show` says of processors; only root is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jetson_clocks: Vec<String>,
    /// Temperatures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<Temperature>,
    /// Programs that ran or waited in the last 1, 5 and 15 minutes before the run, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
    /// Versions of libraries and programs, as the caller says them.
    pub versions: BTreeMap<String, String>,
}

/// Clock of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its name, such as `cpu0`.
    pub name: String,
    /// Who decides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_khz: Option<u64>,
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_khz: Option<u64>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_khz: Option<u64>,
}

/// A temperature before the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Where, in the kernel's words.
    pub zone: String,
    /// How warm, in degrees Celsius.
    pub celsius: f64,
}

impl Environment {
    /// This machine, now.
    pub fn here(versions: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::below(Path::new("/"));
        environment.versions = versions.into_iter().collect();
        if let Some(said) = said(Command::new("nvpmodel").arg("-q")) {
            environment.power_mode = Some(said.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if let Some(said) = said(Command::new("jetson_clocks").arg("--show")) {
            let cores = said.lines().map(str::trim).filter(|line| line.starts_with("cpu"));
            environment.jetson_clocks = cores.map(str::to_owned).collect();
        }
        environment
    }

    /// A machine whose files lie below a folder.
    fn below(root: &Path) -> Self {
        let read = |name: &str| text(&root.join(name));
        let cpuinfo = read("proc/cpuinfo").unwrap_or_default();
        let memory = field(&read("proc/meminfo").unwrap_or_default(), "MemTotal");
        let kib = memory.and_then(|memory| memory.split(' ').next()?.parse::<u64>().ok());
        let cpu = root.join("sys/devices/system/cpu");
        let turbo = text(&cpu.join("intel_pstate/no_turbo")).map(|no| no == "0");
        Self {
            machine: read("etc/machine-id").map(|id| {
                let hash = Sha256::digest(format!("{DOMAIN}{id}"));
                hex::encode(&hash[..ID_BYTES])
            }),
            board: read("proc/device-tree/model").map(|board| board.trim_end_matches('\0').to_owned()),
            cpu: field(&cpuinfo, "model name"),
            architecture: std::env::consts::ARCH.into(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            hypervisor: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_bytes: kib.map(|kib| kib << 10),
            kernel: read("proc/sys/kernel/osrelease"),
            clocks: clocks(&cpu),
            boost: text(&cpu.join("cpufreq/boost")).map(|boost| boost == "1").or(turbo),
            power_mode: read("var/lib/nvpmodel/status"),
            jetson_clocks: Vec::new(),
            temperatures: temperatures(&root.join("sys/class/thermal")),
            load_average: read("proc/loadavg").and_then(|text| {
                let numbers: Vec<f64> = text.split(' ').take(3).filter_map(|n| n.parse().ok()).collect();
                numbers.try_into().ok()
            }),
            versions: BTreeMap::new(),
        }
    }
}

/// What a file holds; `None` where it holds nothing or is not there.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Of a file of `key: value` lines.
fn field(text: &str, key: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let value = values.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next()?;
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

/// What a program says, where it is there and content.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(said).filter(|said| !said.is_empty())
}

/// Folders whose names are a word and a number, in the order of their numbers.
fn numbered(folder: &Path, word: &str) -> Vec<(usize, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((name.to_str()?.strip_prefix(word)?.parse().ok()?, entry.path()))
        })
        .collect();
    all.sort();
    all
}

fn clocks(folder: &Path) -> Vec<Core> {
    let cores = numbered(folder, "cpu").into_iter().filter(|(_, path)| path.join("cpufreq").is_dir());
    let core = |(n, path): (usize, std::path::PathBuf)| {
        let khz = |name: &str| text(&path.join("cpufreq").join(name))?.parse().ok();
        Core {
            name: format!("cpu{n}"),
            governor: text(&path.join("cpufreq/scaling_governor")),
            now_khz: khz("scaling_cur_freq"),
            min_khz: khz("scaling_min_freq"),
            max_khz: khz("scaling_max_freq"),
        }
    };
    cores.map(core).collect()
}

fn temperatures(folder: &Path) -> Vec<Temperature> {
    let zones = numbered(folder, "thermal_zone").into_iter();
    let temperature = |(_, path): (usize, std::path::PathBuf)| {
        let thousandths: f64 = text(&path.join("temp"))?.parse().ok()?;
        Some(Temperature { zone: text(&path.join("type"))?, celsius: thousandths / 1e3 })
    };
    zones.filter_map(temperature).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jetson_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0"),
            ("proc/meminfo", "MemTotal:        7801640 kB\nMemFree: 1 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 62.50\n"),
            ("proc/sys/kernel/osrelease", "5.15.148-tegra\n"),
            ("proc/loadavg", "0.52 0.40 0.31 1/300 4242\n"),
            ("sys/devices/system/cpu/cpu10/cpufreq/scaling_governor", "schedutil\n"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq", "1510400\n"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_max_freq", "1510400\n"),
            ("sys/devices/system/cpu/cpu3/online", "1\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "51250\n"),
            ("sys/class/thermal/thermal_zone1/type", "cv0-thermal\n"),
            ("var/lib/nvpmodel/status", "pmode:0000\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let seen = Environment::below(root.path());
        assert_eq!(seen.board.as_deref(), Some("NVIDIA Jetson Orin Nano Developer Kit"));
        assert_eq!(
            (seen.memory_bytes, seen.power_mode.as_deref()),
            (Some(7_801_640 << 10), Some("pmode:0000"))
        );
        assert_eq!((seen.load_average, seen.boost, seen.hypervisor), (Some([0.52, 0.40, 0.31]), None, false));
        let clocks: Vec<_> =
            seen.clocks.iter().map(|core| (&*core.name, core.governor.as_deref(), core.now_khz)).collect();
        assert_eq!(
            clocks,
            [("cpu2", Some("performance"), Some(1_510_400)), ("cpu10", Some("schedutil"), None)]
        );
        // A zone that tells no temperature has none.
        assert_eq!(seen.temperatures, [Temperature { zone: "cpu-thermal".into(), celsius: 51.25 }]);
        // Arm's processors do not say their name there.
        assert_eq!(seen.cpu, None);
        let machine = seen.machine.unwrap();
        assert!(machine.len() == 16 && !machine.contains("0123456789abcdef"), "{machine}");
    }

    #[test]
    fn what_is_not_told_is_absent() {
        let root = tempfile::tempdir().unwrap();
        let written = serde_json::to_value(Environment::below(root.path())).unwrap();
        let names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["architecture", "cores", "hypervisor", "versions"]);
    }

    #[test]
    fn this_machine_is_described_and_read_again() {
        let here = Environment::here([("onnxruntime".to_owned(), "1.24.4".to_owned())]);
        let again: Environment = serde_json::from_str(&serde_json::to_string(&here).unwrap()).unwrap();
        assert_eq!(again, here);
        assert!(here.cores > 0 && here.kernel.is_some());
    }
}
