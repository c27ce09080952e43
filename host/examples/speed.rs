//! Tokens per second of a training step: `cargo run -p locus-host --example speed`.

use locus_host::{
    model::{ModelConfig, PairBatch, Params, Rows},
    train::{AdamW, AdamWOptions, Schedule, pair_step},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let config = ModelConfig {
        model_type: "bert".into(),
        vocab_size: 69,
        type_vocab_size: 9,
        hidden_size: 128,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 512,
        hidden_act: "gelu".into(),
        max_position_embeddings: 64,
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
        n_features: 400,
        track_codes: vec![],
    };
    let params = Params::new(&config, 1)?;
    let mut optimizer =
        AdamW::new(AdamWOptions::default(), Schedule { peak: 1e-3, warmup_steps: 10, total_steps: 1000 });
    let (pairs, tokens) = (128, 63);
    let n = 2 * pairs * tokens;
    let ids: Vec<u32> = (0..n).map(|i| 5 + (i * 7919 % 64) as u32).collect();
    let batch = PairBatch {
        rows: Rows { rows: 2 * pairs, tokens, ids, track: vec![0; n], mask: vec![1.0; n] },
        features: vec![0.1; pairs * 400],
    };
    let labels: Vec<f32> = (0..pairs).map(|i| (i % 2) as f32).collect();
    for round in 0..3 {
        let started = std::time::Instant::now();
        let mut loss = 0.0;
        for i in 0..5 {
            loss = pair_step(&config, &params, &mut optimizer, &batch, &labels, round * 5 + i)?;
        }
        println!("{:.0} tokens/s, loss {loss}", 5.0 * n as f64 / started.elapsed().as_secs_f64());
    }
    Ok(())
}
