//! The child that takes training steps and says how fast.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use locus_host::{
    device::DeviceChoice,
    model::{Context, MlmHead, ModelConfig, Params, Rows},
    nn::cross_entropy,
    train::{AdamW, AdamWOptions, Gradients, Precision, Schedule},
};
use serde_json::json;

/// Seed of weights and dropout.
pub(super) const SEED: u64 = 1;

#[derive(Args)]
pub(crate) struct StepArguments {
    #[arg(long)]
    layers: usize,
    #[arg(long)]
    hidden: usize,
    #[arg(long)]
    heads: usize,
    #[arg(long)]
    rows: usize,
    #[arg(long)]
    tokens: usize,
    #[arg(long)]
    steps: usize,
    #[arg(long)]
    warmup: usize,
    /// Where the weights are written, for the peer
    #[arg(long)]
    weights: PathBuf,
    #[arg(long)]
    checkpointing: bool,
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Layers in BF16; on a GPU
    #[arg(long)]
    bf16: bool,
}

impl StepArguments {
    fn config(&self) -> ModelConfig {
        ModelConfig {
            model_type: "bert".into(),
            vocab_size: 69,
            type_vocab_size: 9,
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: 4 * self.hidden,
            hidden_act: "gelu".into(),
            max_position_embeddings: self.tokens,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            norm_position: "pre".into(),
            head: Default::default(),
            frames: 1,
            counted: 0,
            wide: None,
            layer_sizes: Vec::new(),
            labels: vec!["pathogenic".into()],
            n_features: 1,
            track_codes: vec![],
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let config = self.config();
        let params = Params::new(&config, SEED)?;
        params.write(&self.weights)?;
        let params = params.to_device(&self.device.open()?)?;
        let precision = if self.bf16 { Precision::Bf16 } else { Precision::Fp32 };
        let n = self.rows * self.tokens;
        let ids: Vec<u32> = (0..n).map(|i| 5 + (i * 7919 % 64) as u32).collect();
        let places: Vec<u32> = (0..n as u32).step_by(5).collect();
        let targets: Vec<u32> = places.iter().map(|&p| ids[p as usize]).collect();
        let rows = Rows { rows: self.rows, tokens: self.tokens, ids, track: vec![0; n], mask: vec![1.0; n] };
        let loss = |params: &Params, context: &Context<'_>| {
            let logits = MlmHead::new(&config, params).forward(&rows, &places, context)?;
            cross_entropy(&logits, &targets)
        };
        let before = loss(&params.frozen(), &Context::eval())?.to_scalar::<f32>()?;
        let schedule = Schedule { peak: 1e-3, warmup_steps: 0, total_steps: 1_000 };
        let mut optimizer = AdamW::new(AdamWOptions::default(), schedule);
        let mut step = |number: usize| -> Result<()> {
            let context = Context::train(config.hidden_dropout_prob, SEED + number as u64)
                .checkpointing(self.checkpointing)
                .precision(precision.dtype());
            let mean = loss(&params, &context)?;
            let mut gradients = Gradients::default();
            gradients.add(&params, &mean.backward()?, places.len() as f64)?;
            optimizer.update(&params, &gradients.mean()?)?;
            Ok(())
        };
        (0..self.warmup).try_for_each(&mut step)?;
        params.device().synchronize()?;
        let (began, cpu) = (Instant::now(), cpu_seconds()?);
        (self.warmup..self.warmup + self.steps).try_for_each(&mut step)?;
        params.device().synchronize()?;
        let tokens = (self.steps * n) as f64;
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
        let said = json!({
            "loss_before": before, "tokens_per_second": tokens / seconds,
            "tokens_per_cpu_second": tokens / cpu, "peak_bytes": peak_bytes()?,
        });
        println!("{said}");
        Ok(())
    }
}

/// Seconds that this process has computed so far, on all its threads.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in brackets: user time is the 12th field, system time the 13th, in hundredths of a second.
    let fields = stat.rsplit_once(')').context("no name")?.1.split_whitespace().skip(11).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

/// The largest resident size of this process so far.
pub(crate) fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
