//! Dropout (Srivastava et al. 2014) that drops, and the residual step around it.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    activation::column_sum,
    composed,
    slices::{by_rows, contiguous, expect_width, f32s, out, width},
};

/// Which elements are dropped: a hash of seed and index, so that the backward pass needs no mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f32,
    seed: u32,
}

impl Dropout {
    /// Drops nothing.
    pub const NONE: Self = Self { rate: 0.0, seed: 0 };

    /// Drops a share `rate` (0 to below 1) of the elements, chosen by `seed`.
    pub fn new(rate: f32, seed: u64) -> Self {
        Self { rate: rate.clamp(0.0, 0.99), seed: (seed ^ (seed >> 32)) as u32 }
    }

    /// Factor of element `index`: 0, or 1/(1 - rate).
    #[inline(always)]
    pub(super) fn factor(self, index: usize) -> f32 {
        // A 32-bit finaliser with low bias; wrapping arithmetic vectorises.
        let mut x = (index as u32).wrapping_mul(0x9e37_79b9) ^ self.seed;
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        // 24 bits, as a float keeps them all.
        let uniform = (x >> 8) as f32 * (1.0 / 16_777_216.0);
        if uniform < self.rate { 0.0 } else { 1.0 / (1.0 - self.rate) }
    }

    /// The factors of all elements of `x`, where `x` is: drawn on the CPU, so that they are the same on every
    /// device, and sent as bytes.
    pub(super) fn factors(self, x: &Tensor) -> Result<Tensor> {
        let kept = |index: usize| u8::from(self.factor(index) != 0.0);
        let kept: Vec<u8> = (0..x.elem_count()).into_par_iter().map(kept).collect();
        let kept = Tensor::from_vec(kept, x.shape(), x.device())?.to_dtype(DType::F32)?;
        kept.affine(f64::from(1.0 / (1.0 - self.rate)), 0.0)?.to_dtype(x.dtype())
    }
}

/// `x` with dropout.
///
/// # Errors
/// No memory.
pub fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    if dropout.rate == 0.0 {
        return Ok(x.clone());
    }
    if composed::fused(x) { x.apply_op1(Drop(dropout)) } else { composed::dropout(x, dropout) }
}

/// `residual` + dropout(`x` [.., H] + `bias` [H]).
///
/// # Errors
/// Shapes that do not fit.
pub fn bias_dropout_residual(
    x: &Tensor,
    bias: &Tensor,
    residual: &Tensor,
    dropout: Dropout,
) -> Result<Tensor> {
    expect_width("residual", x, &[bias])?;
    if residual.dims() != x.dims() {
        bail!("residual: got {:?}, expected the input's {:?}", residual.dims(), x.dims());
    }
    if !composed::fused(x) {
        return composed::bias_dropout_residual(x, bias, residual, dropout);
    }
    x.apply_op3(bias, residual, Residual(dropout))
}

struct Drop(Dropout);

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "locus-dropout"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32s(s, l, self.name())?;
        let h = width(l);
        let mut y = vec![0.0; x.len()];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                let at = first * h;
                let n = block.len();
                for (i, (y, x)) in block.iter_mut().zip(&x[at..at + n]).enumerate() {
                    *y = x * self.0.factor(at + i);
                }
            },
        );
        out(y, l.shape().clone())
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(contiguous(g)?.apply_op1_no_bwd(self)?))
    }
}

struct Residual(Dropout);

impl CustomOp3 for Residual {
    fn name(&self) -> &'static str {
        "locus-bias-dropout-residual"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, b, r) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let h = width(l1);
        let mut y = vec![0.0; x.len()];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                for (i, y) in block.chunks_exact_mut(h).enumerate() {
                    let at = (first + i) * h;
                    let (x, r) = (&x[at..][..h], &r[at..][..h]);
                    for (j, (((y, x), b), r)) in y.iter_mut().zip(x).zip(b).zip(r).enumerate() {
                        *y = (x + b).mul_add(self.0.factor(at + j), *r);
                    }
                }
            },
        );
        out(y, l1.shape().clone())
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _b: &Tensor,
        _r: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = contiguous(g)?;
        let dx = if self.0.rate == 0.0 { g.clone() } else { g.apply_op1_no_bwd(&Drop(self.0))? };
        let db = column_sum(&dx)?;
        Ok((Some(dx), Some(db), Some(g)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_share_is_dropped_and_the_mean_is_kept() {
        for rate in [0.1, 0.5] {
            let d = Dropout::new(rate, 7);
            let factors: Vec<f32> = (0..200_000).map(|i| d.factor(i)).collect();
            let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f32 / 200_000.0;
            let mean = factors.iter().sum::<f32>() / 200_000.0;
            assert!((dropped - rate).abs() < 0.005 && (mean - 1.0).abs() < 0.01, "{rate}: {dropped} {mean}");
        }
        let (a, b) = (Dropout::new(0.5, 1), Dropout::new(0.5, 2));
        let same = (0..10_000).filter(|&i| a.factor(i) == b.factor(i)).count();
        assert!((4_500..5_500).contains(&same), "{same}");
        assert!((0..1000).all(|i| Dropout::NONE.factor(i) == 1.0));
    }
}
