//! The same layers from candle's own ops, for tensors that have no fused ones: those on a GPU, and those in half
//! precision. Layer norm, softmax and GELU's slope are computed in f32 whatever the inputs are.

mod attention;
mod loss;
mod rows;

use std::cell::Cell;

use candle_core::{D, DType, Result, Tensor};

pub(super) use self::{
    attention::{attention, attention_gradient},
    loss::{bce_with_logits, class_loss, cross_entropy, huber},
    rows::{embed, select_rows},
};
use super::Dropout;

thread_local! {
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with the composed ops wherever fused ones would do, on this thread: what a GPU runs, run on the CPU.
pub fn without_fused<T>(f: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            REFUSED.set(self.0);
        }
    }
    let _before = Before(REFUSED.replace(true));
    f()
}

/// Whether the fused ops are to run on a tensor: f32 on the CPU.
pub(crate) fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !refused()
}

/// Whether this is inside of [`without_fused`].
pub(crate) fn refused() -> bool {
    REFUSED.get()
}

/// Matrix product; candle has none of bf16 on the CPU, where the factors are widened first.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == DType::BF16 && a.device().is_cpu() {
        return a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(DType::BF16);
    }
    a.matmul(b)
}

/// Softmax over the last dimension.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

pub(super) fn bias_add(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_add(bias)
}

pub(super) fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_add(bias)?.gelu_erf()
}

pub(super) fn bias_gelu_gradient(x: &Tensor, bias: &Tensor, g: &Tensor) -> Result<Tensor> {
    let z = x.to_dtype(DType::F32)?.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    let below = z.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?;
    // The normal density is 1/√(2π) at 0.
    let density = z.sqr()?.affine(-0.5, 0.0)?.exp()?.affine(0.398_942_280_401_432_7, 0.0)?;
    let slope = (below + (z * density)?)?;
    (g.to_dtype(DType::F32)? * slope)?.to_dtype(x.dtype())
}

/// Sums of columns as a product with ones, in f32.
pub(super) fn column_sum(x: &Tensor) -> Result<Tensor> {
    let h = x.dim(D::Minus1)?;
    let x = x.reshape(((), h))?.to_dtype(DType::F32)?;
    Tensor::ones((1, x.dim(0)?), DType::F32, x.device())?.matmul(&x)?.flatten_all()
}

pub(super) fn dropout(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    x.mul(&dropout.factors(x)?)
}

pub(super) fn bias_dropout_residual(
    x: &Tensor,
    bias: &Tensor,
    residual: &Tensor,
    dropout: Dropout,
) -> Result<Tensor> {
    let x = x.broadcast_add(bias)?;
    if dropout == Dropout::NONE { residual + x } else { residual + self::dropout(&x, dropout)? }
}

/// Rows less their means over their deviations, and the reciprocal deviations [.., 1], in f32.
fn normalised(x: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = variance.affine(1.0, f64::from(eps))?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&scale)?, scale))
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let (normal, _) = normalised(x, eps)?;
    let (weight, bias) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
    normal.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(x.dtype())
}

pub(super) fn layer_norm_gradient(
    x: &Tensor,
    weight: &Tensor,
    g: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    let (normal, scale) = normalised(x, eps)?;
    let g = g.to_dtype(DType::F32)?;
    let along = (&g * &normal)?;
    let gw = g.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    let mean = gw.mean_keepdim(D::Minus1)?;
    let slope = (&gw * &normal)?.mean_keepdim(D::Minus1)?;
    let dx = gw.broadcast_sub(&mean)?.sub(&normal.broadcast_mul(&slope)?)?.broadcast_mul(&scale)?;
    let parameters = Tensor::stack(&[column_sum(&along)?, column_sum(&g)?], 0)?;
    Ok((dx.to_dtype(x.dtype())?, parameters))
}
