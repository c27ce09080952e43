//! Training: tokens per second beside PyTorch, and peak memory with and without activation checkpointing.

pub(crate) mod gpu;
mod step;

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use locus_tests::{python, root};
use serde::Deserialize;

pub(crate) use self::step::{StepArguments, peak_bytes};
use crate::{
    figures::{Figure, Machine, Results},
    sample::summary,
};

/// The peer, as it was compared with.
const PACKAGES: [&str; 3] = ["torch==2.9.1", "transformers==4.57.3", "numpy==2.3.5"];

/// A model and its batch.
struct Shape {
    name: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    rows: usize,
    tokens: usize,
    /// Steps that are timed.
    steps: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "3 layers of 128, 256 rows of 64 tokens",
        layers: 3,
        hidden: 128,
        heads: 4,
        rows: 256,
        tokens: 64,
        steps: 10,
    },
    Shape {
        name: "6 layers of 256, 16 rows of 512 tokens",
        layers: 6,
        hidden: 256,
        heads: 8,
        rows: 16,
        tokens: 512,
        steps: 3,
    },
];

/// What memory is measured on.
const DEEP: Shape = Shape {
    name: "12 layers of 256, 8 rows of 512 tokens",
    layers: 12,
    hidden: 256,
    heads: 8,
    rows: 8,
    tokens: 512,
    steps: 2,
};

/// Steps before the clock runs.
const WARM_UP: usize = 2;

/// What a child says.
#[derive(Deserialize)]
struct Said {
    loss_before: f64,
    tokens_per_second: f64,
    tokens_per_cpu_second: f64,
    peak_bytes: f64,
}

impl Shape {
    fn arguments(&self, weights: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for (name, value) in [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("rows", self.rows),
            ("tokens", self.tokens),
            ("steps", self.steps),
            ("warmup", WARM_UP),
        ] {
            all.extend([format!("--{name}"), value.to_string()]);
        }
        all.extend(["--weights".into(), weights.display().to_string()]);
        all
    }

    fn locus(&self, weights: &Path, threads: usize, checkpointing: bool) -> Result<Said> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("training-step").args(self.arguments(weights));
        // The allocator's setting is the one that `locus` gives itself.
        command.env("RAYON_NUM_THREADS", threads.to_string()).env("MIMALLOC_PURGE_DELAY", "-1");
        if checkpointing {
            command.arg("--checkpointing");
        }
        said(&mut command)
    }

    fn torch(&self, python: &Path, weights: &Path, threads: usize) -> Result<Said> {
        let mut command = Command::new(python);
        command.arg(root().join("bench/peers/torch_training.py")).args(self.arguments(weights));
        said(command.args(["--threads", &threads.to_string()]))
    }
}

fn said(command: &mut Command) -> Result<Said> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?}"))
}

pub(crate) fn run(rounds: usize, out: &Path) -> Result<()> {
    if rounds == 0 {
        bail!("got 0 rounds, expected 1 or more");
    }
    let python = python("transformers", &PACKAGES, "import torch, transformers").context("PyTorch")?;
    let cores = std::thread::available_parallelism()?.get();
    let folder = tempfile::tempdir()?;
    let (date, machine) = (time::OffsetDateTime::now_utc().date().to_string(), Machine::this());
    let figure =
        |name: String, value: f64, unit: &'static str, spread: String, beside: Option<String>| Figure {
            name,
            value,
            unit,
            spread,
            command: format!("cargo run -p locus-bench -- training --rounds {rounds}"),
            seed: Some(step::SEED),
            date: date.clone(),
            machine: machine.clone(),
            beside,
        };
    let mut figures = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let weights = folder.path().join(format!("{number}.safetensors"));
        // By the clock on all cores; and on one thread by what it computed, which other programs disturb less.
        for (threads, on) in [(cores, "all cores"), (1, "one thread, by CPU time")] {
            let speed =
                |said: &Said| if threads == 1 { said.tokens_per_cpu_second } else { said.tokens_per_second };
            let (mut own, mut peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let ours = shape.locus(&weights, threads, false)?;
                let theirs = shape.torch(&python, &weights, threads)?;
                if (ours.loss_before - theirs.loss_before).abs() > 1e-4 {
                    bail!(
                        "{}: got a loss of {} here and {} there, expected the same model",
                        shape.name,
                        ours.loss_before,
                        theirs.loss_before
                    );
                }
                println!("{}, {on}: {:.0} and {:.0} tokens/s", shape.name, speed(&ours), speed(&theirs));
                own.push(speed(&ours));
                peer.push(speed(&theirs));
                ratios.push(speed(&ours) / speed(&theirs));
            }
            let spread = |(_, least, most): (f64, f64, f64), digits: usize| {
                format!("{least:.digits$} to {most:.digits$} in {rounds} alternate rounds")
            };
            let (own, peer, ratio) = (summary(own), summary(peer), summary(ratios));
            let name = |who: &str| format!("{who}, {}, {on}", shape.name);
            figures.push(figure(name("Locus"), own.0, "tokens/s", spread(own, 0), None));
            figures.push(figure(name("PyTorch 2.9.1"), peer.0, "tokens/s", spread(peer, 0), None));
            let beside = Some("bar 0.6, aim 1.0".to_owned());
            figures.push(figure(name("Locus / PyTorch"), ratio.0, "", spread(ratio, 3), beside));
        }
    }
    let weights = folder.path().join("deep.safetensors");
    let peak = |checkpointing: bool| -> Result<f64> {
        let said = DEEP.locus(&weights, cores, checkpointing)?;
        println!("{}, checkpointing {checkpointing}: {:.0} tokens/s", DEEP.name, said.tokens_per_second);
        Ok(said.peak_bytes / f64::from(1 << 20))
    };
    let (kept, again) = (peak(false)?, peak(true)?);
    let once = || "one process each".to_owned();
    figures.push(figure(format!("peak memory, {}", DEEP.name), kept, "MiB", once(), None));
    figures.push(figure(
        format!("peak memory with activation checkpointing, {}", DEEP.name),
        again,
        "MiB",
        once(),
        Some(format!("{:.3} of that without; bar 0.5", again / kept)),
    ));
    let about = format!(
        "Masked-token training in FP32 with dropout, clipping and AdamW on {cores} cores: the same weights, rows and hidden places in both programs, whose losses before training agree to 1e-4; each round starts both anew. Memory is the largest resident size of a process that takes steps."
    );
    Results { title: "Training", about, figures }.write(out)
}
