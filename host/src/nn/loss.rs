//! Losses, averaged over their rows.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::slices::{f32s, out, width};

/// Mean binary cross-entropy of `logits` (any shape) against `targets` (0 to 1), each with a weight.
///
/// # Errors
/// Counts that differ.
pub fn bce_with_logits(logits: &Tensor, targets: &[f32], weights: &[f32]) -> Result<Tensor> {
    if logits.elem_count() != targets.len() || targets.len() != weights.len() || targets.is_empty() {
        bail!(
            "bce: got {} logits, {} targets and {} weights, expected as many of each",
            logits.elem_count(),
            targets.len(),
            weights.len()
        );
    }
    logits.flatten_all()?.apply_op1(Binary { targets: Arc::from(targets), weights: Arc::from(weights) })
}

/// Mean cross-entropy of `logits` [rows, classes] against class numbers.
///
/// # Errors
/// Counts that differ, or a class beyond the last.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if rows != targets.len() || rows == 0 || targets.iter().any(|&t| t as usize >= classes) {
        bail!(
            "cross entropy: got {rows} rows of {classes} classes and {} targets, expected a class for each row",
            targets.len()
        );
    }
    logits.apply_op1(Categorical(Arc::from(targets)))
}

struct Binary {
    targets: Arc<[f32]>,
    weights: Arc<[f32]>,
}

impl CustomOp1 for Binary {
    fn name(&self) -> &'static str {
        "locus-bce"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let z = f32s(s, l, self.name())?;
        let total: f64 = self.weights.iter().map(|w| f64::from(*w)).sum();
        let loss: f64 = z
            .iter()
            .zip(&*self.targets)
            .zip(&*self.weights)
            .map(|((&z, &y), &w)| f64::from(w) * f64::from(z.max(0.0) - z * y + (-z.abs()).exp().ln_1p()))
            .sum();
        out(vec![(loss / total) as f32], ())
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let total: f32 = self.weights.iter().sum();
        let g = g.to_scalar::<f32>()? / total;
        let z = z.to_vec1::<f32>()?;
        let slope = |((z, y), w): ((f32, &f32), &f32)| g * w * (1.0 / (1.0 + (-z).exp()) - y);
        let d: Vec<f32> = z.into_iter().zip(&*self.targets).zip(&*self.weights).map(slope).collect();
        let n = d.len();
        Ok(Some(Tensor::from_vec(d, n, &candle_core::Device::Cpu)?))
    }
}

struct Categorical(Arc<[u32]>);

impl Categorical {
    fn log_total(row: &[f32]) -> f32 {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        top + row.iter().map(|z| (z - top).exp()).sum::<f32>().ln()
    }
}

impl CustomOp1 for Categorical {
    fn name(&self) -> &'static str {
        "locus-cross-entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let z = f32s(s, l, self.name())?;
        let classes = width(l);
        let rows = z.chunks_exact(classes).zip(&*self.0);
        let loss: f64 = rows.map(|(row, &t)| f64::from(Self::log_total(row) - row[t as usize])).sum();
        out(vec![(loss / self.0.len() as f64) as f32], ())
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let scale = g.to_scalar::<f32>()? / self.0.len() as f32;
        let (rows, classes) = z.dims2()?;
        let mut d = z.flatten_all()?.to_vec1::<f32>()?;
        for (row, &t) in d.chunks_exact_mut(classes).zip(&*self.0) {
            let total = Self::log_total(row);
            row.iter_mut().for_each(|z| *z = scale * (*z - total).exp());
            row[t as usize] -= scale;
        }
        Ok(Some(Tensor::from_vec(d, (rows, classes), &candle_core::Device::Cpu)?))
    }
}
