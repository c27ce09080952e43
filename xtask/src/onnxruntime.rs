//! ONNX Runtime comes in a Python wheel, which is fetched with pip and unpacked into `.locus`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::process;

/// The version that results were measured with.
const VERSION: &str = "1.24.4";

fn folder() -> PathBuf {
    process::root().join(".locus/onnxruntime").join(VERSION)
}

fn library() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder())
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so")))
        .collect();
    found.sort();
    found.pop()
}

/// Finds or fetches the library. `Ok(None)`, with a line that says so, where it cannot be had.
pub(crate) fn ensure() -> Result<Option<PathBuf>> {
    if let Some(set) = std::env::var_os("LOCUS_ONNXRUNTIME") {
        return Ok(Some(set.into()));
    }
    if let Some(library) = library() {
        return Ok(Some(library));
    }
    match fetch() {
        Ok(library) => Ok(Some(library)),
        Err(e) => {
            println!("ONNX Runtime {VERSION} is not to be had ({e:#}); models run on tract instead");
            Ok(None)
        }
    }
}

fn fetch() -> Result<PathBuf> {
    println!("fetching ONNX Runtime {VERSION} (its Python wheel) into .locus/onnxruntime");
    let wheels = process::root().join(".locus/wheels");
    fs::create_dir_all(&wheels)?;
    let python = if process::exists("python3", "--version") { "python3" } else { "python" };
    process::output(
        Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--dest"])
            .arg(&wheels)
            .arg(format!("onnxruntime=={VERSION}")),
    )?;
    let wheel = fs::read_dir(&wheels)?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| {
            p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("onnxruntime-{VERSION}-")))
        })
        .context("pip fetched no wheel")?;
    let unpacked = wheels.join("unpacked");
    process::output(Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    fs::create_dir_all(folder())?;
    let capi = unpacked.join("onnxruntime/capi");
    for entry in fs::read_dir(&capi).with_context(|| format!("no {}", capi.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_owned();
        if name.to_string_lossy().starts_with("libonnxruntime") {
            // A rename within one folder: a half-copied library is never found.
            let part = folder().join("part");
            fs::copy(&path, &part)?;
            fs::rename(&part, folder().join(name))?;
        }
    }
    fs::remove_dir_all(&wheels)?;
    library().context("the wheel holds no libonnxruntime.so")
}
