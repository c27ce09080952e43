//! `cargo xtask test`: format, lints, suites.

use anyhow::Result;

use crate::{benchmarks, onnxruntime, process};

pub(crate) fn run(full: bool, no_lint: bool) -> Result<()> {
    let library = onnxruntime::ensure()?;
    if !no_lint {
        process::run(process::cargo().args(["fmt", "--all", "--check"]))?;
        benchmarks::write(true)?;
    }
    // What a microcontroller uses must do without std.
    for core in ["locus-genome", "locus-firmware-config"] {
        process::run(process::cargo().args(["check", "--quiet", "--no-default-features", "-p", core]))?;
    }
    process::run(process::cargo().args(["build", "--workspace", "--all-targets"]))?;
    let nextest = process::exists("cargo-nextest", "--version");
    let mut tests = process::cargo();
    if nextest {
        tests.args(["nextest", "run", "--workspace"]);
        if full {
            tests.args(["--run-ignored", "all"]);
        }
    } else {
        tests.args(["test", "--workspace"]);
        if full {
            tests.args(["--", "--include-ignored"]);
        }
    }
    if let Some(library) = library {
        tests.env("LOCUS_ONNXRUNTIME", library);
    }
    process::run(&mut tests)?;
    if !no_lint {
        process::run(process::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]))?;
        if process::exists("cargo-deny", "--version") {
            process::run(process::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
        } else {
            println!("skipped: cargo-deny is not installed");
        }
    }
    Ok(())
}
