//! Models in a loop without a service: what no service can be faster than.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use locus_engine::{Logits, Precision, TokenBatch};
use locus_measure::{Latencies, Outcome, blocking};
use locus_tests::root;
use serde_json::json;

use super::{
    load::{Seen, load},
    model::Model,
    service::{Settings, settings},
};

/// onnxruntime in Python, with its defaults.
pub(super) fn python(python: &Path, model: &Model, lasting: Duration) -> Result<Seen> {
    let (how, more) = (Settings::reference(model.padded), json!({ "seconds": lasting.as_secs_f64() }));
    let told = settings(&how, &model.reads, more)?;
    let mut command = Command::new(python);
    command.arg(root().join("bench/peers/loop_onnxruntime.py")).env("LOCUS_PEER", told.to_string());
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let times: Vec<f64> = serde_json::from_slice(&output.stdout).context("what the loop says")?;
    let mut latencies = Latencies::default();
    times.iter().for_each(|ms| latencies.record(Duration::from_secs_f64(ms / 1e3)));
    let ms = |share| latencies.percentile(share).as_secs_f64() * 1e3;
    Ok(Seen { p50: ms(0.5), p99: ms(0.99), rate: 1e3 * times.len() as f64 / times.iter().sum::<f64>() })
}

/// ONNX Runtime's C interface in a loop, rows of nothing: what a program in C++ would do, written in Rust.
pub(super) fn native(model: &Model, precision: Precision, threads: usize, lasting: Duration) -> Result<Seen> {
    let mut session = model.session(precision, threads)?;
    let graphs = &model.graphs;
    let row = TokenBatch::blank(graphs.inputs, 1, model.padded, graphs.n_features as usize);
    let mut logits = Logits::default();
    let loaded = blocking(load(lasting), |_| match session.run(&row, &mut logits) {
        Ok(()) => Outcome::Answered,
        Err(error) => Outcome::Failed(error.to_string()),
    });
    Seen::of(&loaded)
}
