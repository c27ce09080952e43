//! `cargo xtask test`: format, lints, suites.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::Result;

use crate::{benchmarks, cross, onnxruntime, package, process, soup, trace};

/// Where nextest leaves what the tests printed, below the name of its profile.
const REPORTS: &str = "target/nextest";

/// A Cortex-M4 or M7 with a floating-point unit.
const MICROCONTROLLER: &str = "thumbv7em-none-eabihf";

pub(crate) fn run(full: bool, no_lint: bool) -> Result<()> {
    let library = onnxruntime::ensure()?;
    if full && let Err(error) = onnxruntime::OPENVINO.get() {
        println!("OpenVINO is not to be had: {error:#}");
    }
    if !no_lint {
        process::run(process::cargo().args(["fmt", "--all", "--check"]))?;
        benchmarks::write(true)?;
        trace::run(true)?;
        soup::run(true)?;
    }
    // What a microcontroller uses must do without std.
    for core in ["locus-genome", "locus-firmware-config"] {
        process::run(process::cargo().args(["check", "--quiet", "--no-default-features", "-p", core]))?;
    }
    microcontroller()?;
    if full && let Err(error) = package::run(package::Options::default()) {
        println!("skipped: packages: {error:#}");
    }
    process::run(process::cargo().args(["build", "--workspace", "--all-targets"]))?;
    let nextest = process::exists("cargo-nextest", "--version");
    let mut tests = process::cargo();
    if nextest {
        tests.args(["nextest", "run", "--workspace"]);
        if full {
            tests.args(["--profile", "full", "--run-ignored", "all"]);
        }
    } else {
        tests.args(["test", "--workspace", "--", "--show-output"]);
        if full {
            tests.arg("--include-ignored");
        }
    }
    // A snapshot that differs fails, and leaves nothing behind in the tree.
    tests.env("INSTA_UPDATE", "no");
    if let Some(library) = library {
        tests.env("LOCUS_ONNXRUNTIME", library);
    }
    let report = process::root().join(REPORTS).join(if full { "full" } else { "default" }).join("junit.xml");
    let _ = fs::remove_file(&report);
    let passed = process::run(&mut tests);
    if nextest {
        report_skipped(&report);
    }
    if !full {
        report_ignored()?;
    }
    passed?;
    if full {
        cross::run(cross::Goal::Possible)?;
    }
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

/// Builds what a terminal runs for the microcontroller it runs on, where the target's core library can be had.
fn microcontroller() -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(process::root()).args(["target", "add", MICROCONTROLLER]);
    match rustup.output() {
        Err(error) => println!("skipped: microcontroller: no rustup to add {MICROCONTROLLER} with ({error})"),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            let reason = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            println!("skipped: microcontroller: rustup cannot add {MICROCONTROLLER}: {}", reason.trim());
        }
        Ok(_) => {
            let package = ["build", "--quiet", "--no-default-features", "-p", "locus-firmware-config"];
            process::run(process::cargo().args(package).args(["--target", MICROCONTROLLER]))?;
        }
    }
    Ok(())
}

/// A test that could not run here passes and says why; nextest hides what passing tests print.
fn report_skipped(report: &Path) {
    let report = fs::read_to_string(report).unwrap_or_default();
    let lines = report.lines().filter_map(|line| line.split("skipped: ").nth(1));
    let skipped: BTreeSet<&str> = lines.map(|line| line.split('<').next().unwrap_or(line).trim()).collect();
    for reason in &skipped {
        println!("skipped: {}", reason.replace("&apos;", "'").replace("&quot;", "\""));
    }
    println!("{} kinds of tests were skipped", skipped.len());
}

/// Says of every test that only `--full` runs why it did not run: no runner shows the reason.
fn report_ignored() -> Result<()> {
    let (mut folders, mut reasons) = (vec![process::root().to_owned()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let (path, name) = {
                let entry = entry?;
                (entry.path(), entry.file_name().to_string_lossy().into_owned())
            };
            // Nothing here is ignored, but the texts that its own tests read say so.
            let others =
                name.starts_with('.') || ["target", "runs", "shared", "xtask"].contains(&name.as_str());
            if path.is_dir() && !path.is_symlink() && !others {
                folders.push(path);
            } else if let Some(suite) = name.strip_suffix(".rs") {
                let text = fs::read_to_string(&path)?;
                let ignored =
                    text.lines().filter_map(|l| l.trim().strip_prefix("#[ignore = \"")?.strip_suffix("\"]"));
                reasons.extend(ignored.map(|reason| format!("skipped: {suite}: {reason}")));
            }
        }
    }
    reasons.iter().for_each(|reason| println!("{reason}"));
    Ok(())
}
