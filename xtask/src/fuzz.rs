//! `cargo xtask fuzz`: feeds every parser from its corpus, by a seed.

use anyhow::Result;

use crate::process;

/// Runs the driver of the crate `fuzz` with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    process::run(process::cargo().args(["run", "--quiet", "--package", "locus-fuzz", "--"]).args(arguments))
}
