//! One optimiser step.

use candle_core::{Result, Tensor, bail};

use super::{AdamW, Gradients};
use crate::{
    model::{Context, MlmHead, ModelConfig, PairBatch, PairHead, Params, Rows},
    nn::{bce_with_logits, cross_entropy},
};

/// Binary cross-entropy of a pair batch against its labels (0 to 1).
///
/// # Errors
/// Shapes that do not fit.
pub fn pair_loss(
    config: &ModelConfig,
    params: &Params,
    batch: &PairBatch,
    labels: &[f32],
    context: &Context<'_>,
) -> Result<Tensor> {
    let logits = PairHead::new(config, params).forward(batch, context)?;
    bce_with_logits(&logits, labels, &vec![1.0; labels.len()])
}

/// Trains on one pair batch; dropout is placed by `seed`. Returns the loss before the step.
///
/// # Errors
/// Shapes that do not fit, or a gradient that is not finite.
pub fn pair_step(
    config: &ModelConfig,
    params: &Params,
    optimizer: &mut AdamW,
    batch: &PairBatch,
    labels: &[f32],
    seed: u64,
) -> Result<f32> {
    let context = Context::train(config.hidden_dropout_prob, seed);
    let loss = pair_loss(config, params, batch, labels, &context)?;
    take(params, optimizer, &loss)
}

/// Trains on one masked batch: `positions` of the rows were hidden, `targets` are their token ids.
///
/// # Errors
/// As [`pair_step`].
pub fn mlm_step(
    config: &ModelConfig,
    params: &Params,
    optimizer: &mut AdamW,
    rows: &Rows,
    positions: &[u32],
    targets: &[u32],
    seed: u64,
) -> Result<f32> {
    let context = Context::train(config.hidden_dropout_prob, seed);
    let logits = MlmHead::new(config, params).forward(rows, positions, &context)?;
    let loss = cross_entropy(&logits, targets)?;
    take(params, optimizer, &loss)
}

fn take(params: &Params, optimizer: &mut AdamW, loss: &Tensor) -> Result<f32> {
    let mut gradients = Gradients::default();
    gradients.add(params, &loss.backward()?, 1.0)?;
    let norm = optimizer.update(params, &gradients.mean()?)?;
    if !norm.is_finite() {
        bail!("step {}: got a gradient norm of {norm}, expected a finite one", optimizer.steps());
    }
    loss.to_scalar()
}
