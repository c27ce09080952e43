//! `cargo xtask cross`: the box for 64-bit Arm, and its flow suite and its numbers under qemu.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    benchmarks::{Figure, Results},
    onnxruntime, process,
};

/// The target: Jetsons, single-board computers, Arm servers.
pub(crate) const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// Takes symbols out of its programs.
pub(crate) const STRIP: &str = "aarch64-linux-gnu-strip";
/// Where its programs are built.
const FOLDER: &str = "target/cross";
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64-static";
/// Where Debian has the target's C library.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";
/// What apt has of it.
const PACKAGES: [&str; 4] =
    ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "libstdc++6-arm64-cross", "qemu-user-static"];
/// Bar for FP32: kernels differ in the order of their sums only.
const BAR: f64 = 1e-4;
const COMMAND: &str = "cargo xtask cross";
const BUNDLE: &str = "models/variant-effect.locus";
/// Bases on each side of a variant of the draw that are changed too.
const AROUND: usize = 16;

/// What is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Whatever can be done here: what is missing is said.
    Possible,
    /// All of it.
    All,
    /// The suite and the comparison, with the programs that were built before, however they were built.
    Built,
}

/// Builds, runs and measures.
pub(crate) fn run(goal: Goal) -> Result<()> {
    if let Err(error) = prepare() {
        ensure!(goal == Goal::Possible, error);
        println!("skipped: arm64: {error:#}");
        return Ok(());
    }
    let library = onnxruntime::ARM64.get()?;
    if goal != Goal::Built {
        println!("building locusd and locusctl for {TRIPLE}; the first time takes a quarter of an hour");
        let mut cargo = process::cargo();
        cargo.args(["build", "--quiet", "--package", "locus-edge", "--bins", "--example", "logits"]);
        process::run(targeting(&mut cargo))?;
        let native = ["build", "--quiet", "--workspace", "--bins", "--examples"];
        process::run(process::cargo().args(native))?;
    }
    let programs = emulated()?;
    println!("the flow suite, with locusd and locusctl of {TRIPLE} under {EMULATOR}");
    process::run(
        process::cargo()
            // One at a time: under emulation each has little time left for the other.
            .args(["test", "--quiet", "--workspace", "--test", "flow", "--", "--test-threads=1"])
            .env("LOCUS_PROGRAMS", &programs)
            .env("LOCUS_ONNXRUNTIME", &library),
    )?;
    compare(&programs, &library, goal)
}

/// Compilers and emulator, installed where they are not and this user may.
pub(crate) fn prepare() -> Result<()> {
    let there = || [COMPILER, EMULATOR].iter().all(|program| process::exists(program, "--version"));
    if !there() {
        let apt = |arguments: &[&str]| {
            process::output(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
        };
        apt(&["update", "-qq"])
            .and_then(|_| {
                apt(&[&["install", "-y", "-qq", "--no-install-recommends"], PACKAGES.as_slice()].concat())
            })
            .with_context(|| format!("{} are needed, from Debian's packages", PACKAGES.join(", ")))?;
        ensure!(there(), "got no {COMPILER} or {EMULATOR} after installing them");
    }
    process::output(Command::new("rustup").current_dir(process::root()).args(["target", "add", TRIPLE]))
        .with_context(|| format!("the standard library for {TRIPLE}"))
        .map(|_| ())
}

/// Tells cargo to build for it.
pub(crate) fn targeting(cargo: &mut Command) -> &mut Command {
    // A folder of its own: a build that takes long holds up no other one.
    cargo
        .args(["--target", TRIPLE, "--target-dir", FOLDER])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER)
        .env("CC_aarch64_unknown_linux_gnu", COMPILER)
}

/// Where cargo leaves its programs.
pub(crate) fn built() -> PathBuf {
    process::root().join(FOLDER).join(TRIPLE).join("debug")
}

/// A folder of programs as the tests call them: the box's run under the emulator, the workbench's here.
fn emulated() -> Result<PathBuf> {
    let folder = process::root().join(FOLDER).join("emulated");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let serial = process::root().join(FOLDER).join("termios2.so");
    process::run(
        Command::new(COMPILER)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(&serial)
            .arg(process::root().join("xtask/src/termios2.c"))
            .arg("-ldl"),
    )?;
    for (name, place) in [("locusd", "locusd"), ("locusctl", "locusctl"), ("logits", "examples/logits")] {
        let (script, program) = (folder.join(name), built().join(place));
        // The cable between terminal and box is the test's, and the emulator cannot lock its ends.
        let own = process::root().join("target/debug/locusctl");
        let cable = match name {
            "locusctl" => format!("[ \"$1\" = cable ] && exec {:?} \"$@\"\n", own.display()),
            _ => String::new(),
        };
        let run = format!(
            "exec {EMULATOR} -L {SYSROOT} -E LD_PRELOAD={} {:?} \"$@\"",
            serial.display(),
            program.display()
        );
        fs::write(&script, format!("#!/bin/sh\n{cable}{run}\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(folder)
}

/// Logits of both machines, over the golden vectors and every variant around the drawn ones.
fn compare(programs: &Path, library: &Path, goal: Goal) -> Result<()> {
    let requests = programs.join("requests.jsonl");
    let asked = around_the_draw(&requests)?;
    let here = process::root().join("target/debug/examples/logits");
    let (mut figures, mut left_out) = (Vec::new(), String::new());
    for (engine, precision, bar) in
        [("ort-cpu", "fp32", true), ("tract", "fp32", true), ("ort-cpu", "int8", false)]
    {
        let of = |program: &Path, library: Option<&Path>| -> Result<Vec<f64>> {
            let mut command = Command::new(program);
            command.current_dir(process::root()).arg(BUNDLE).arg(&requests).args([engine, precision]);
            if let Some(library) = library {
                command.env("LOCUS_ONNXRUNTIME", library);
            }
            logits(&process::output(&mut command)?)
        };
        let x86 = of(&here, onnxruntime::ensure()?.as_deref())?;
        let arm64 = match of(&programs.join("logits"), Some(library)) {
            Err(error) if goal == Goal::Built => {
                println!("skipped: {engine} in these programs: {error:#}");
                left_out = format!(" The programs that were measured are without {engine}.");
                continue;
            }
            logits => logits?,
        };
        ensure!(
            x86.len() == arm64.len() && x86.len() > asked,
            "got {} and {} logits, expected those of {asked} variants and of the golden vectors",
            x86.len(),
            arm64.len()
        );
        let most = x86.iter().zip(&arm64).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{engine} {precision}: {} logits, largest difference from x86 {most:e}", x86.len());
        ensure!(
            !bar || most <= BAR,
            "got a difference of {most:e} on {engine} in {precision}, expected {BAR:e} or less"
        );
        let spread =
            x86.iter().copied().fold(f64::MIN, f64::max) - x86.iter().copied().fold(f64::MAX, f64::min);
        figures.push(Figure::new(
            format!("largest difference of a logit from x86, {engine}, {precision}"),
            most,
            "",
            format!("{} logits, {:.1} from the lowest to the highest; exact", x86.len(), spread),
            COMMAND,
            bar.then(|| format!("bar {BAR:e}")),
        ));
    }
    Results {
        title: "64-bit Arm".into(),
        about: format!(
            "locusd and locusctl for {TRIPLE} under qemu's user emulation, with the wheel of ONNX Runtime {} for aarch64. The flow \
             suite passes: HTTPS, MQTT and a serial line, a flash while it runs, a restart, the journal. Logits are compared with \
             those of this machine. A stand-in gives the emulator the one call of serial lines that it lacks. Nothing was run on an Arm \
             processor.{left_out}",
            onnxruntime::ARM64.version()
        ),
        figures,
    }
    .write("arm64")
}

/// A list of logits a line.
fn logits(text: &str) -> Result<Vec<f64>> {
    let rows = text.lines().map(|line| Ok(serde_json::from_str::<Vec<f64>>(line)?));
    Ok(rows.collect::<Result<Vec<_>>>()?.concat())
}

/// Writes requests: in each drawn sequence the variant itself, and each base around it changed to another one.
fn around_the_draw(file: &Path) -> Result<usize> {
    let drawn: Value =
        serde_json::from_str(&fs::read_to_string(process::root().join("tests/fixtures/demo.json"))?)?;
    let mut lines = Vec::new();
    for fact in drawn["variants"].as_array().context("no variants in the draw")? {
        let sequence = fact["sequence"].as_str().context("no sequence")?;
        let mutation = fact["mutation"].as_str().context("no mutation")?;
        let centre: usize = mutation[1..mutation.len() - 1].parse()?;
        let mut mutations = vec![mutation.to_owned()];
        for position in centre.saturating_sub(AROUND).max(1)..=(centre + AROUND).min(sequence.len()) {
            let base = &sequence[position - 1..position];
            let other = match base {
                "A" => "C",
                "C" => "T",
                "G" => "A",
                _ => "G",
            };
            mutations.push(format!("{base}{position}{other}"));
        }
        for mutation in mutations {
            lines.push(
                json!({"sequence": sequence, "mutation": mutation, "transcript": fact["transcript"]})
                    .to_string(),
            );
        }
    }
    fs::write(file, lines.join("\n") + "\n")?;
    Ok(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hundred_variants_are_made_of_the_draw_each_of_another_base() {
        let file = std::env::temp_dir().join(format!("locus-cross-{}.jsonl", std::process::id()));
        let count = around_the_draw(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(count > 300 && text.lines().count() == count);
        for line in text.lines() {
            let request: Value = serde_json::from_str(line).unwrap();
            let (sequence, mutation) =
                (request["sequence"].as_str().unwrap(), request["mutation"].as_str().unwrap());
            let position: usize = mutation[1..mutation.len() - 1].parse().unwrap();
            assert_eq!(&sequence[position - 1..position], &mutation[..1]);
            assert_ne!(&mutation[..1], &mutation[mutation.len() - 1..]);
        }
    }

    #[test]
    fn logits_are_read_as_they_are_printed() {
        assert_eq!(logits("[1.5]\n[-0.25, 3.0]\n").unwrap(), [1.5, -0.25, 3.0]);
        assert!(logits("fault").is_err());
    }
}
