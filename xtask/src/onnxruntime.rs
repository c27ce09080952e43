//! ONNX Runtime comes in a Python wheel, which is fetched with pip and unpacked into `.locus`.

use std::{fs, path::PathBuf, process::Command};

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
}

/// The version that results were measured with.
pub(crate) const CPU: Wheel =
    Wheel { package: "onnxruntime", version: "1.24.4", folder: "onnxruntime", files: &["libonnxruntime"] };
/// With the provider for Intel's processors; 250 MB unpacked.
pub(crate) const OPENVINO: Wheel = Wheel {
    package: "onnxruntime-openvino",
    version: "1.24.1",
    folder: "openvino",
    files: &["libonnxruntime", "libopenvino", "libtbb"],
};

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
        let wheels = process::root().join(".locus/wheels");
        fs::create_dir_all(&wheels)?;
        let python = if process::exists("python3", "--version") { "python3" } else { "python" };
        process::output(
            Command::new(python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary=:all:", "--dest"])
                .arg(&wheels)
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
        // The library itself last, each by a rename within one folder: half of it is never found.
        names.sort_by_key(|name| name.starts_with("libonnxruntime.so"));
        for name in names {
            let part = self.folder().join("part");
            fs::copy(capi.join(&name), &part)?;
            fs::rename(&part, self.folder().join(name))?;
        }
        fs::remove_dir_all(&wheels)?;
        self.library().context("the wheel holds no libonnxruntime.so")
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
