//! Losses, averaged over their rows.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{
    composed,
    slices::{f32s, out, width},
};

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
    if !composed::fused(logits) {
        return composed::bce_with_logits(logits, targets, weights);
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
    if !composed::fused(logits) {
        return composed::cross_entropy(logits, targets);
    }
    logits.apply_op1(Categorical(Arc::from(targets)))
}

/// How [`class_loss`] counts the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassLoss {
    /// Share of a row's target that is spread over all classes (Szegedy et al. 2016).
    pub smoothing: f32,
    /// Exponent γ of the focal loss (Lin et al. 2017), which counts rows less that are right already; 0 is
    /// cross-entropy.
    pub focal: f32,
    /// Weight of each class; none is one for all.
    pub weights: Vec<f32>,
}

/// Mean loss of `logits` [rows, classes] against class numbers, each row with the weight of its class: label
/// smoothing, focal loss and class weights over softmax cross-entropy.
///
/// # Errors
/// Counts that differ, or a class beyond the last.
pub fn class_loss(logits: &Tensor, targets: &[u32], how: &ClassLoss) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let weights_fit = how.weights.is_empty() || how.weights.len() == classes;
    if rows != targets.len() || rows == 0 || targets.iter().any(|&t| t as usize >= classes) || !weights_fit {
        bail!(
            "class loss: got {rows} rows of {classes} classes, {} targets and {} weights, expected a class for each row",
            targets.len(),
            how.weights.len()
        );
    }
    if !composed::fused(logits) {
        return composed::class_loss(logits, targets, how);
    }
    logits.apply_op1(Weighted { targets: Arc::from(targets), how: how.clone() })
}

/// Mean Huber loss (1964) of `values` [rows, 1] against targets: squared up to a difference of 1, then linear, so
/// that single wild measurements do not lead.
///
/// # Errors
/// Counts that differ.
pub fn huber(values: &Tensor, targets: &[f32]) -> Result<Tensor> {
    if values.elem_count() != targets.len() || targets.is_empty() {
        bail!("huber: got {} values and {} targets, expected as many", values.elem_count(), targets.len());
    }
    if !composed::fused(values) {
        return composed::huber(values, targets);
    }
    values.flatten_all()?.apply_op1(Huber(Arc::from(targets)))
}

struct Weighted {
    targets: Arc<[u32]>,
    how: ClassLoss,
}

impl ClassLoss {
    /// Weight of a row of a class.
    pub fn weight(&self, class: u32) -> f32 {
        self.weights.get(class as usize).copied().unwrap_or(1.0)
    }

    /// Share of the target that class `k` has.
    pub(super) fn share(&self, k: usize, target: u32, classes: usize) -> f32 {
        let spread = self.smoothing / classes as f32;
        spread + if k == target as usize { 1.0 - self.smoothing } else { 0.0 }
    }
}

impl Weighted {
    fn weight(&self, target: u32) -> f32 {
        self.how.weight(target)
    }

    fn total(&self) -> f32 {
        self.targets.iter().map(|&t| self.weight(t)).sum::<f32>().max(f32::MIN_POSITIVE)
    }

    /// Logarithms of the probabilities of a row.
    fn log_softmax(row: &[f32]) -> Vec<f32> {
        let total = Categorical::log_total(row);
        row.iter().map(|z| z - total).collect()
    }
}

impl CustomOp1 for Weighted {
    fn name(&self) -> &'static str {
        "locus-class-loss"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let z = f32s(s, l, self.name())?;
        let classes = width(l);
        let loss = |(row, &t): (&[f32], &u32)| {
            let terms = Self::log_softmax(row).into_iter().enumerate().map(|(k, log_p)| {
                let focus = (1.0 - log_p.exp()).max(0.0).powf(self.how.focal);
                f64::from(self.how.share(k, t, classes) * focus * -log_p)
            });
            f64::from(self.weight(t)) * terms.sum::<f64>()
        };
        let sum: f64 = z.chunks_exact(classes).zip(&*self.targets).map(loss).sum();
        out(vec![(sum / f64::from(self.total())) as f32], ())
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let scale = g.to_scalar::<f32>()? / self.total();
        let (rows, classes) = z.dims2()?;
        let mut d = z.flatten_all()?.to_vec1::<f32>()?;
        for (row, &t) in d.chunks_exact_mut(classes).zip(&*self.targets) {
            let logs = Self::log_softmax(row);
            // p_k times the slope of the k-th term over p_k; softmax then joins them.
            let slopes: Vec<f32> = logs
                .iter()
                .enumerate()
                .map(|(k, &log_p)| {
                    let (p, gamma) = (log_p.exp(), self.how.focal);
                    let rest = (1.0 - p).max(1e-12);
                    let focal = if gamma == 0.0 { 0.0 } else { gamma * rest.powf(gamma - 1.0) * log_p * p };
                    self.how.share(k, t, classes) * (focal - rest.powf(gamma))
                })
                .collect();
            let all: f32 = slopes.iter().sum();
            let weight = scale * self.weight(t);
            for ((z, log_p), slope) in row.iter_mut().zip(&logs).zip(&slopes) {
                *z = weight * (slope - log_p.exp() * all);
            }
        }
        Ok(Some(Tensor::from_vec(d, (rows, classes), &candle_core::Device::Cpu)?))
    }
}

struct Huber(Arc<[f32]>);

impl CustomOp1 for Huber {
    fn name(&self) -> &'static str {
        "locus-huber"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = f32s(s, l, self.name())?;
        let of = |(v, t): (&f32, &f32)| {
            let d = f64::from(v - t).abs();
            if d <= 1.0 { 0.5 * d * d } else { d - 0.5 }
        };
        let sum: f64 = values.iter().zip(&*self.0).map(of).sum();
        out(vec![(sum / self.0.len() as f64) as f32], ())
    }

    fn bwd(&self, v: &Tensor, _loss: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let scale = g.to_scalar::<f32>()? / self.0.len() as f32;
        let slopes =
            v.to_vec1::<f32>()?.into_iter().zip(&*self.0).map(|(v, t)| scale * (v - t).clamp(-1.0, 1.0));
        Ok(Some(Tensor::from_vec(slopes.collect(), self.0.len(), &candle_core::Device::Cpu)?))
    }
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
