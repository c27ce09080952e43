//! Bias, and bias with GELU.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{
    composed,
    math::{gelu, gelu_slope},
    slices::{by_rows, contiguous, expect_width, f32s, out, reduce_rows, width},
};

/// `x` [.., H] + `bias` [H].
///
/// # Errors
/// Shapes that do not fit.
pub fn bias_add(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    expect_width("bias", x, &[bias])?;
    if !composed::fused(x) {
        return composed::bias_add(x, bias);
    }
    x.apply_op2(bias, BiasAdd)
}

/// GELU(`x` [.., H] + `bias` [H]).
///
/// # Errors
/// Shapes that do not fit.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    expect_width("bias and GELU", x, &[bias])?;
    if !composed::fused(x) {
        return composed::bias_gelu(x, bias);
    }
    x.apply_op2(bias, BiasGelu)
}

/// Gradient of [`bias_gelu`]'s input from that of its output; the bias has its column sums.
pub(crate) fn bias_gelu_gradient(x: &Tensor, bias: &Tensor, g: &Tensor) -> Result<Tensor> {
    if !composed::fused(x) {
        return composed::bias_gelu_gradient(x, bias, g);
    }
    x.apply_op3_no_bwd(bias, g, &BiasGeluGradient)
}

/// Sums the rows of [.., H] to [H], in f32.
pub(crate) fn column_sum(x: &Tensor) -> Result<Tensor> {
    if !composed::fused(x) {
        return composed::column_sum(x);
    }
    x.apply_op1_no_bwd(&ColumnSum)
}

struct ColumnSum;

impl CustomOp1 for ColumnSum {
    fn name(&self) -> &'static str {
        "locus-column-sum"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32s(s, l, self.name())?;
        let h = width(l);
        let sums = reduce_rows(
            x.len() / h,
            h,
            #[inline(always)]
            |rows, total| {
                for row in rows {
                    total.iter_mut().zip(&x[row * h..][..h]).for_each(|(t, x)| *t += x);
                }
            },
        );
        out(sums, h)
    }
}

struct BiasAdd;

impl CustomOp2 for BiasAdd {
    fn name(&self) -> &'static str {
        "locus-bias"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, b) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?);
        let h = width(l1);
        let mut y = vec![0.0; x.len()];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                for (i, y) in block.chunks_exact_mut(h).enumerate() {
                    let x = &x[(first + i) * h..][..h];
                    y.iter_mut().zip(x).zip(b).for_each(|((y, x), b)| *y = x + b);
                }
            },
        );
        out(y, l1.shape().clone())
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = contiguous(g)?;
        let db = column_sum(&g)?;
        Ok((Some(g), Some(db)))
    }
}

struct BiasGelu;

impl CustomOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "locus-bias-gelu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, b) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?);
        let h = width(l1);
        let mut y = vec![0.0; x.len()];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                for (i, y) in block.chunks_exact_mut(h).enumerate() {
                    let x = &x[(first + i) * h..][..h];
                    y.iter_mut().zip(x).zip(b).for_each(|((y, x), b)| *y = gelu(x + b));
                }
            },
        );
        out(y, l1.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = bias_gelu_gradient(x, b, &contiguous(g)?)?;
        let db = column_sum(&dx)?;
        Ok((Some(dx), Some(db)))
    }
}

struct BiasGeluGradient;

impl CustomOp3 for BiasGeluGradient {
    fn name(&self) -> &'static str {
        "locus-bias-gelu-gradient"
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
        let (x, b, g) = (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let h = width(l1);
        let mut dx = vec![0.0; x.len()];
        by_rows(
            &mut dx,
            h,
            #[inline(always)]
            |first, block| {
                for (i, dx) in block.chunks_exact_mut(h).enumerate() {
                    let at = (first + i) * h;
                    let (x, g) = (&x[at..][..h], &g[at..][..h]);
                    for (((dx, x), b), g) in dx.iter_mut().zip(x).zip(b).zip(g) {
                        *dx = g * gelu_slope(x + b);
                    }
                }
            },
        );
        out(dx, l1.shape().clone())
    }
}
