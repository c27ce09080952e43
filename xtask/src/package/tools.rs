//! Commands of cargo that packages are made with, built once into `.locus/cargo`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;

/// A command of cargo, in one version.
pub(super) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Writes into a program what it was built of.
pub(super) const AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7" };
/// Writes a bill of materials.
pub(super) const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };

impl Tool {
    /// Finds or builds it.
    pub(super) fn get(&self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let folder = process::root().join(".locus/cargo").join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if !program.exists() {
            println!("building {name} {version} into .locus/cargo; a few minutes, once");
            // Speed does not matter, and a debug build is there sooner.
            process::run(
                process::cargo()
                    .args(["install", "--quiet", "--locked", "--debug", "--version", version, name, "--root"])
                    .arg(&folder)
                    .env("CARGO_PROFILE_DEV_DEBUG", "0")
                    .env("CARGO_TARGET_DIR", process::root().join("target/tools")),
            )
            .with_context(|| format!("{name} {version} is not to be had"))?;
        }
        Ok(program)
    }
}
