//! Models in a loop without a service: what no service can be faster than.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use locus_engine::{Logits, Precision, TokenBatch};
use locus_tests::root;
use serde_json::json;

use super::{
    load::Seen,
    model::Model,
    service::{Settings, settings},
};
use crate::sample::Sample;

const WARM_UP: usize = 20;

/// onnxruntime in Python, with its defaults.
pub(super) fn python(python: &Path, model: &Model, lasting: Duration) -> Result<Seen> {
    let (how, more) = (Settings::reference(model.padded), json!({ "seconds": lasting.as_secs_f64() }));
    let told = settings(&how, &model.reads, more)?;
    let mut command = Command::new(python);
    command.arg(root().join("bench/peers/loop_onnxruntime.py")).env("LOCUS_PEER", told.to_string());
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let times: Vec<f64> = serde_json::from_slice(&output.stdout).context("what the loop says")?;
    let (mut sample, seconds) = (Sample::default(), times.iter().sum::<f64>() / 1e3);
    times.iter().for_each(|ms| sample.push(Duration::from_secs_f64(ms / 1e3)));
    Ok(Seen::of(&sample, seconds))
}

/// ONNX Runtime's C interface in a loop, rows of nothing: what a program in C++ would do, written in Rust.
pub(super) fn native(model: &Model, precision: Precision, threads: usize, lasting: Duration) -> Result<Seen> {
    let mut session = model.session(precision, threads)?;
    let (row, mut logits) = (blank(model), Logits::default());
    (0..WARM_UP).try_for_each(|_| session.run(&row, &mut logits))?;
    let (mut sample, began) = (Sample::default(), Instant::now());
    while began.elapsed() < lasting {
        let started = Instant::now();
        session.run(&row, &mut logits)?;
        sample.push(started.elapsed());
    }
    Ok(Seen::of(&sample, began.elapsed().as_secs_f64()))
}

fn blank(model: &Model) -> TokenBatch {
    TokenBatch::blank(model.graphs.inputs, 1, model.padded, model.graphs.n_features as usize)
}
