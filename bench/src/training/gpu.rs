//! Training on a GPU: tokens per second in BF16 beside PyTorch.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use locus_host::device::DeviceChoice;
use locus_tests::{python, root};

use super::{PACKAGES, Shape, said, step, summary};
use crate::figures::{Figure, Machine, Results};

const TITLE: &str = "Training on a GPU";

/// Small steps show what a step costs besides its products; large ones show the products.
const SHAPES: [Shape; 2] = [
    Shape {
        name: "3 layers of 128, 1,024 rows of 64 tokens",
        layers: 3,
        hidden: 128,
        heads: 4,
        rows: 1_024,
        tokens: 64,
        steps: 50,
    },
    Shape {
        name: "12 layers of 768, 32 rows of 512 tokens",
        layers: 12,
        hidden: 768,
        heads: 12,
        rows: 32,
        tokens: 512,
        steps: 20,
    },
];

/// Measures, or writes down that there was nothing to measure on.
pub(crate) fn run(rounds: usize, out: &Path) -> Result<()> {
    if rounds == 0 {
        bail!("got 0 rounds, expected 1 or more");
    }
    if let Err(why) = DeviceChoice::Cuda(Some(0)).open() {
        println!("not run: {why}");
        let about = "Not run: no GPU was there. `cargo xtask cuda --bench` measures tokens per second in BF16 beside PyTorch; the bar is 0.6 of PyTorch's, the aim 1.0.".to_owned();
        return Results { title: TITLE, about, figures: Vec::new() }.write(out);
    }
    let python =
        python("transformers", &PACKAGES, "import torch, transformers; assert torch.cuda.is_available()")
            .context("PyTorch")?;
    let gpu = Command::new("nvidia-smi").args(["--query-gpu=name", "--format=csv,noheader"]).output()?;
    let gpu = String::from_utf8_lossy(&gpu.stdout).lines().next().unwrap_or("a GPU").trim().to_owned();
    let folder = tempfile::tempdir()?;
    let (date, machine) = (time::OffsetDateTime::now_utc().date().to_string(), Machine::this());
    let mut figures = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        let weights = folder.path().join(format!("{number}.safetensors"));
        let (mut own, mut peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg("training-step")
                .args(shape.arguments(&weights))
                .args(["--device", "cuda:0", "--bf16"]);
            let ours = said(&mut command)?;
            let mut command = Command::new(&python);
            command.arg(root().join("bench/peers/torch_training.py")).args(shape.arguments(&weights));
            let theirs = said(command.args(["--threads", "1", "--device", "cuda", "--bf16"]))?;
            // Both are computed in FP32 before training; TF32 is off in both.
            if (ours.loss_before - theirs.loss_before).abs() > 1e-3 {
                bail!(
                    "{}: got a loss of {} here and {} there, expected the same model",
                    shape.name,
                    ours.loss_before,
                    theirs.loss_before
                );
            }
            println!(
                "{}: {:.0} and {:.0} tokens/s",
                shape.name, ours.tokens_per_second, theirs.tokens_per_second
            );
            own.push(ours.tokens_per_second);
            peer.push(theirs.tokens_per_second);
            ratios.push(ours.tokens_per_second / theirs.tokens_per_second);
        }
        for (who, values, unit, beside) in [
            ("Locus", own, "tokens/s", None),
            ("PyTorch 2.9.1", peer, "tokens/s", None),
            ("Locus / PyTorch", ratios, "", Some("bar 0.6, aim 1.0")),
        ] {
            let (value, least, most) = summary(values);
            figures.push(Figure {
                name: format!("{who}, {}", shape.name),
                value,
                unit,
                spread: format!("{least:.3} to {most:.3} in {rounds} alternate rounds"),
                command: "cargo xtask cuda --bench".into(),
                seed: Some(step::SEED),
                date: date.clone(),
                machine: machine.clone(),
                beside: beside.map(str::to_owned),
            });
        }
    }
    let about = format!(
        "Masked-token training in BF16 with FP32 parameters, dropout, clipping and AdamW on one {gpu}: the same weights, rows and hidden places in both programs; each round starts both anew. PyTorch runs under autocast."
    );
    Results { title: TITLE, about, figures }.write(out)
}
