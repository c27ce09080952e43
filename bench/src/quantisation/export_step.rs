//! A child that exports a BERT of random weights, and says how long it took and how much memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use locus_calibration::{CalibrationTable, Method};
use locus_export::{SafetensorsWeights, build_fp32, build_int8, build_int8_fp16, to_bytes};
use locus_genome::EncodedSequence;
use locus_host::{
    model::{ModelConfig, Params},
    sequence_model::observe,
};
use serde::{Deserialize, Serialize};

use crate::training::peak_bytes;

/// Seed of the weights.
pub(crate) const SEED: u64 = 1;
/// As the reference has it.
const VOCABULARY: usize = 66;
const TOKENS: usize = 128;
/// Rows that ranges are seen on.
const ROWS: i64 = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArguments {
    /// Layers
    #[arg(long)]
    layers: usize,
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
}

/// What a child says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) seconds: f64,
    pub(crate) peak_bytes: f64,
}

pub(crate) fn child(layers: usize, out: &Path) -> Result<Said> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["export-step", "--layers", &layers.to_string(), "--out"]).arg(out);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what a child says")
}

/// The reference's shape, so many layers deep.
pub(crate) fn config(layers: usize, vocabulary: usize) -> Result<ModelConfig> {
    Ok(serde_json::from_value(serde_json::json!({
        "model_type": "bert", "vocab_size": vocabulary, "type_vocab_size": 2, "hidden_size": 768,
        "num_hidden_layers": layers, "num_attention_heads": 12, "intermediate_size": 3072,
        "hidden_act": "gelu", "max_position_embeddings": TOKENS, "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
        "norm_position": "post", "head": "sequence", "labels": ["benign", "pathogenic"], "n_features": 0,
        "track_codes": [],
    }))?)
}

/// Writes `config.json`, random weights and the three graphs; the seconds that the export took.
pub(crate) fn write(config: &ModelConfig, out: &Path) -> Result<f64> {
    fs::create_dir_all(out)?;
    fs::write(out.join("config.json"), serde_json::to_string(config)?)?;
    let checkpoint = out.join("model.safetensors");
    let table = {
        let params = Params::new(config, SEED)?;
        params.write(&checkpoint)?;
        let vocabulary = config.vocab_size as i64;
        let row = |n: i64| EncodedSequence {
            ids: (0..TOKENS as i64).map(|at| (at * (2 * n + 3) + n) % vocabulary).collect(),
            track: vec![0; TOKENS],
            letters: TOKENS,
            ambiguous: 0,
        };
        let seen = observe(config, &params, &(0..ROWS).map(row).collect::<Vec<_>>())?;
        CalibrationTable {
            method: Method::MinMax.to_string(),
            samples: ROWS as u64,
            ranges: seen.ranges(Method::MinMax),
            ..CalibrationTable::default()
        }
    };
    let started = Instant::now();
    let bytes = fs::read(&checkpoint)?;
    let weights = SafetensorsWeights::parse(&bytes)?;
    fs::write(out.join("fp32.onnx"), to_bytes(&build_fp32(config, &weights)?))?;
    fs::write(out.join("int8.onnx"), to_bytes(&build_int8(config, &weights, &table)?))?;
    fs::write(out.join("int8-fp16.onnx"), to_bytes(&build_int8_fp16(config, &weights, &table)?))?;
    Ok(started.elapsed().as_secs_f64())
}

impl ExportArguments {
    pub(crate) fn run(&self) -> Result<()> {
        let seconds = write(&config(self.layers, VOCABULARY)?, &self.out)?;
        let said = Said { seconds, peak_bytes: peak_bytes()? as f64 };
        println!("{}", serde_json::to_string(&said)?);
        Ok(())
    }
}
