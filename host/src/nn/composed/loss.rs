//! Losses in f32.

use candle_core::{D, DType, Result, Tensor};

use super::super::loss::ClassLoss;

/// Logarithms of the probabilities of each row [rows, classes].
fn log_softmax(z: &Tensor) -> Result<Tensor> {
    let z = z.to_dtype(DType::F32)?;
    let z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?.detach())?;
    z.broadcast_sub(&z.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

pub(in super::super) fn bce_with_logits(logits: &Tensor, targets: &[f32], weights: &[f32]) -> Result<Tensor> {
    let z = logits.flatten_all()?.to_dtype(DType::F32)?;
    let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), z.device());
    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let rest = z.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?;
    let loss = ((z.relu()? - (&z * tensor(targets)?)?)? + rest)?;
    (loss * tensor(weights)?)?.sum_all()?.affine(1.0 / total, 0.0)
}

pub(in super::super) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    log_softmax(logits)?.gather(&targets, 1)?.mean_all()?.neg()
}

pub(in super::super) fn class_loss(logits: &Tensor, targets: &[u32], how: &ClassLoss) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let total = targets.iter().map(|&t| how.weight(t)).sum::<f32>().max(f32::MIN_POSITIVE);
    let weighted = targets
        .iter()
        .flat_map(|&t| (0..classes).map(move |k| how.weight(t) / total * how.share(k, t, classes)));
    let weighted = Tensor::from_vec(weighted.collect(), (rows, classes), logits.device())?;
    let logs = log_softmax(logits)?;
    let mut terms = (&logs * weighted)?;
    if how.focal != 0.0 {
        // Where a probability is 1 the power has no slope that is finite.
        let rest = logs.exp()?.affine(-1.0, 1.0)?.clamp(1e-12f32, 1.0f32)?;
        terms = (terms * rest.powf(f64::from(how.focal))?)?;
    }
    terms.sum_all()?.neg()
}

pub(in super::super) fn huber(values: &Tensor, targets: &[f32]) -> Result<Tensor> {
    let values = values.flatten_all()?.to_dtype(DType::F32)?;
    let d = (&values - Tensor::from_slice(targets, targets.len(), values.device())?)?.abs()?;
    let inner = d.minimum(&d.ones_like()?)?;
    // d²/2 up to a difference of 1, d - 1/2 from there on.
    (&inner * (d - inner.affine(0.5, 0.0)?)?)?.mean_all()
}
