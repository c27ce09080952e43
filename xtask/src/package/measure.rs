//! `bench/results/package.json`: how exposed the service is, and how large the packages are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{SOURCES, tempfile_beside};
use crate::{
    benchmarks::{Figure, Results},
    process,
};

const COMMAND: &str = "cargo xtask package --measure";

/// Measures and writes.
pub(super) fn run(packages: &[PathBuf]) -> Result<()> {
    let mut figures = Vec::new();
    let sources = process::root().join(SOURCES);
    for (name, bar, gpu) in [("CPU profile", "2.5", false), ("GPU profile", "4.0", true)] {
        let folder = tempfile_beside("unit")?;
        let unit = folder.join("locusd.service");
        fs::copy(sources.join("locusd.service"), &unit)?;
        if gpu {
            let dropped = folder.join("locusd.service.d");
            fs::create_dir_all(&dropped)?;
            fs::copy(sources.join("gpu.conf"), dropped.join("gpu.conf"))?;
        }
        figures.push(Figure::new(
            format!("exposure of locusd.service, {name}"),
            exposure(&unit)?,
            "of 10",
            "exact: `systemd-analyze security --offline=yes`",
            COMMAND,
            format!("bar {bar}"),
        ));
    }
    for package in packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::metadata(package)?.len();
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        figures.push(Figure::new(name, mebibytes, "MiB", "exact", COMMAND, None::<String>));
    }
    Results {
        title: "Packages".into(),
        about: "What `systemd-analyze` makes of the unit alone and with its drop-in for GPUs (lower is better), and the sizes of the \
                packages."
            .into(),
        figures,
    }
    .write("package")
}

/// The last line: `Overall exposure level for locusd.service: 1.3 OK`.
fn exposure(unit: &Path) -> Result<f64> {
    let said = process::output(
        Command::new("systemd-analyze").args(["security", "--no-pager", "--offline=yes"]).arg(unit),
    )?;
    let (_, level) = said.rsplit_once("locusd.service: ").context("systemd-analyze says no level")?;
    level
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .with_context(|| format!("got {level:?} as level"))
}
