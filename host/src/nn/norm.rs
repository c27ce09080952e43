//! Layer normalisation (Ba et al. 2016) over the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    composed,
    slices::{by_rows, contiguous, expect_width, f32s, out, reduce_rows, width},
};

/// Normalises each row of `x` [.., H], scales by `weight` [H] and shifts by `bias` [H].
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    expect_width("layer norm", x, &[weight, bias])?;
    if !composed::fused(x) {
        return composed::layer_norm(x, weight, bias, eps);
    }
    x.apply_op3(weight, bias, Forward { eps })
}

/// Gradient of the input, and those of weight and bias stacked [2, H], from the output's gradient.
pub(crate) fn layer_norm_gradient(
    x: &Tensor,
    weight: &Tensor,
    g: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    if !composed::fused(x) {
        return composed::layer_norm_gradient(x, weight, g, eps);
    }
    let dx = x.apply_op3_no_bwd(weight, g, &BackwardInput { eps })?;
    Ok((dx, x.apply_op2_no_bwd(g, &BackwardParameters { eps })?))
}

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row.iter().copied()) / n;
    let variance = sum(row.iter().map(|v| (v - mean) * (v - mean))) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Sums in 16 lanes, which vectorises where a plain fold must keep its order.
#[inline(always)]
pub(super) fn sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, v) in values.enumerate() {
        lanes[i & 15] += v;
    }
    lanes.iter().sum()
}

struct Forward {
    eps: f32,
}

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "locus-layer-norm"
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
        let (x, w, b) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let h = width(l1);
        let mut y = vec![0.0; x.len()];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                for (i, y) in block.chunks_exact_mut(h).enumerate() {
                    let x = &x[(first + i) * h..][..h];
                    let (mean, scale) = moments(x, self.eps);
                    for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
                        *y = ((x - mean) * scale).mul_add(*w, *b);
                    }
                }
            },
        );
        out(y, l1.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, parameters) = layer_norm_gradient(x, w, &contiguous(g)?, self.eps)?;
        Ok((Some(dx), Some(parameters.get(0)?), Some(parameters.get(1)?)))
    }
}

struct BackwardInput {
    eps: f32,
}

impl CustomOp3 for BackwardInput {
    fn name(&self) -> &'static str {
        "locus-layer-norm-input-gradient"
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
        let (x, w, g) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let h = width(l1);
        let n = h as f32;
        let mut dx = vec![0.0; x.len()];
        by_rows(
            &mut dx,
            h,
            #[inline(always)]
            |first, block| {
                for (i, dx) in block.chunks_exact_mut(h).enumerate() {
                    let at = (first + i) * h;
                    let (x, g) = (&x[at..][..h], &g[at..][..h]);
                    let (mean, scale) = moments(x, self.eps);
                    let gw = sum(g.iter().zip(w).map(|(g, w)| g * w)) / n;
                    let gwx = sum(g.iter().zip(w).zip(x).map(|((g, w), x)| g * w * (x - mean) * scale)) / n;
                    for (((dx, g), w), x) in dx.iter_mut().zip(g).zip(w).zip(x) {
                        *dx = scale * (g * w - gw - (x - mean) * scale * gwx);
                    }
                }
            },
        );
        out(dx, l1.shape().clone())
    }
}

/// Gradients of weight and bias, stacked [2, H].
struct BackwardParameters {
    eps: f32,
}

impl CustomOp2 for BackwardParameters {
    fn name(&self) -> &'static str {
        "locus-layer-norm-parameter-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, g) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?);
        let h = width(l1);
        let sums = reduce_rows(
            x.len() / h,
            2 * h,
            #[inline(always)]
            |rows, total| {
                let (dw, db) = total.split_at_mut(h);
                for row in rows {
                    let (x, g) = (&x[row * h..][..h], &g[row * h..][..h]);
                    let (mean, scale) = moments(x, self.eps);
                    for (((dw, db), x), g) in dw.iter_mut().zip(db.iter_mut()).zip(x).zip(g) {
                        *dw += g * (x - mean) * scale;
                        *db += g;
                    }
                }
            },
        );
        out(sums, (2, h))
    }
}
