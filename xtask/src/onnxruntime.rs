//! ONNX Runtime comes in a Python wheel, which is fetched with pip and unpacked into `.locus`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process;

/// A Python wheel with the library in it.
pub(crate) struct Wheel {
    package: &'static str,
    version: &'static str,
    /// Folder below `.locus`.
    folder: &'static str,
    /// Beginnings of the names of the files that are needed.
    files: &'static [&'static str],
    /// What pip is told where it is for other machines than this one.
    platform: &'static [&'static str],
}

/// The version that results were measured with.
pub(crate) const CPU: Wheel = Wheel {
    package: "onnxruntime",
    version: "1.24.4",
    folder: "onnxruntime",
    files: &["libonnxruntime"],
    platform: &[],
};
/// The same version for 64-bit Arm.
pub(crate) const ARM64: Wheel = Wheel {
    package: "onnxruntime",
    version: CPU.version,
    folder: "onnxruntime-arm64",
    files: &["libonnxruntime"],
    platform: &[
        "--platform=manylinux_2_28_aarch64",
        "--platform=manylinux_2_27_aarch64",
        "--python-version=3.12",
        "--implementation=cp",
    ],
};
/// With the provider for Intel's processors; 250 MB unpacked.
pub(crate) const OPENVINO: Wheel = Wheel {
    package: "onnxruntime-openvino",
    version: "1.24.1",
    folder: "openvino",
    files: &["libonnxruntime", "libopenvino", "libtbb"],
    platform: &[],
};
/// The licence of what is in a wheel.
const NOTICES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

impl Wheel {
    fn folder(&self) -> PathBuf {
        process::root().join(".locus").join(self.folder).join(self.version)
    }

    fn library(&self) -> Option<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.folder())
            .ok()?
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so")))
            .collect();
        found.sort();
        found.pop()
    }

    /// Its version.
    pub(crate) const fn version(&self) -> &'static str {
        self.version
    }

    /// Finds or fetches the texts of its licences.
    pub(crate) fn notices(&self) -> Result<Vec<PathBuf>> {
        let files = || NOTICES.map(|name| self.folder().join(name)).to_vec();
        if !files().iter().all(|file| file.exists()) {
            self.fetch()?;
        }
        Ok(files())
    }

    /// Finds or fetches the library.
    pub(crate) fn get(&self) -> Result<PathBuf> {
        match self.library() {
            Some(library) => Ok(library),
            None => self.fetch(),
        }
    }

    fn fetch(&self) -> Result<PathBuf> {
        let Self { package, version, .. } = self;
        println!("fetching {package} {version} (a Python wheel) into .locus/{}", self.folder);
        let wheels = process::root().join(".locus").join(format!("{}-wheel", self.folder));
        fs::create_dir_all(&wheels)?;
        let python = if process::exists("python3", "--version") { "python3" } else { "python" };
        process::output(
            Command::new(python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary=:all:", "--dest"])
                .arg(&wheels)
                .args(self.platform)
                .arg(format!("{package}=={version}")),
        )?;
        let beginning = format!("{}-{version}-", package.replace('-', "_"));
        let wheel = fs::read_dir(&wheels)?
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&beginning)))
            .context("pip fetched no wheel")?;
        let unpacked = wheels.join("unpacked");
        process::output(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
        fs::create_dir_all(self.folder())?;
        let capi = unpacked.join("onnxruntime/capi");
        let mut names = Vec::new();
        for entry in fs::read_dir(&capi).with_context(|| format!("no {}", capi.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if self.files.iter().any(|beginning| name.starts_with(beginning)) {
                names.push(name);
            }
        }
        for notice in NOTICES.iter().map(|name| unpacked.join("onnxruntime").join(name)) {
            if notice.exists() {
                self.take(&notice)?;
            }
        }
        // The library itself last, each by a rename within one folder: half of it is never found.
        names.sort_by_key(|name| name.starts_with("libonnxruntime.so"));
        for name in names {
            self.take(&capi.join(&name))?;
        }
        fs::remove_dir_all(&wheels)?;
        self.library().context("the wheel holds no libonnxruntime.so")
    }

    fn take(&self, file: &Path) -> Result<()> {
        let part = self.folder().join("part");
        fs::copy(file, &part)?;
        Ok(fs::rename(&part, self.folder().join(file.file_name().context("a file without a name")?))?)
    }
}

/// Finds or fetches the library. `Ok(None)`, with a line that says so, where it cannot be had.
pub(crate) fn ensure() -> Result<Option<PathBuf>> {
    if let Some(set) = std::env::var_os("LOCUS_ONNXRUNTIME") {
        return Ok(Some(set.into()));
    }
    match CPU.get() {
        Ok(library) => Ok(Some(library)),
        Err(e) => {
            println!("ONNX Runtime {} is not to be had ({e:#}); models run on tract instead", CPU.version);
            Ok(None)
        }
    }
}
