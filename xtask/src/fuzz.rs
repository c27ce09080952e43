//! `cargo xtask fuzz`: feeds every parser from its corpus, by a seed; by coverage where a nightly compiler is.

use anyhow::{Result, bail};

use crate::process;

/// Runs the driver of the crate `fuzz` with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    process::run(process::cargo().args(["run", "--quiet", "--package", "locus-fuzz", "--"]).args(arguments))
}

/// Lets libFuzzer look for new cases of a target for a while; what is new is added to its corpus.
pub(crate) fn coverage(target: &str, seconds: u32) -> Result<()> {
    if !process::exists("cargo-fuzz", "--version") {
        bail!(
            "cargo-fuzz is not installed; `cargo install cargo-fuzz --locked`, and `rustup toolchain install nightly`"
        );
    }
    let corpus = process::root().join("fuzz/corpus").join(target);
    // No shared memory of a sanitizer is needed: the box forbids unsafe code.
    let mut command = process::cargo();
    command.env("RUSTUP_TOOLCHAIN", "nightly").args([
        "fuzz",
        "run",
        "--fuzz-dir",
        "fuzz/libfuzzer",
        "--sanitizer",
        "none",
        "any",
    ]);
    command.arg(corpus).args([
        "--",
        &format!("-max_total_time={seconds}"),
        "-timeout=10",
        "-rss_limit_mb=4096",
    ]);
    process::run(command.env("LOCUS_FUZZ_TARGET", target))
}
