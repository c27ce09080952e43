//! Attention from batched matrix products; scores and probabilities are f32.

use candle_core::{D, DType, Result, Tensor};

use super::{
    super::attention::{Attention, MASKED},
    matmul, softmax,
};

/// Scaled queries, keys and values, each [batch, heads, tokens, head width].
fn heads(qkv: &Tensor, bias: &Tensor, s: Attention) -> Result<[Tensor; 3]> {
    let z = qkv.broadcast_add(bias)?.reshape((s.batch, s.tokens, 3, s.heads, s.head_width))?;
    let z = z.permute((2, 0, 3, 1, 4))?.contiguous()?;
    let scale = 1.0 / (s.head_width as f64).sqrt();
    Ok([z.get(0)?.affine(scale, 0.0)?, z.get(1)?, z.get(2)?])
}

/// Probabilities [batch, heads, queries, keys].
fn probabilities(q: &Tensor, k: &Tensor, mask: &Tensor, s: Attention) -> Result<Tensor> {
    let scores = matmul(q, &k.t()?)?.to_dtype(DType::F32)?;
    let masked = mask.to_dtype(DType::F32)?.affine(-f64::from(MASKED), f64::from(MASKED))?;
    softmax(&scores.broadcast_add(&masked.reshape((s.batch, 1, 1, s.tokens))?)?)
}

pub(in super::super) fn attention(
    qkv: &Tensor,
    bias: &Tensor,
    mask: &Tensor,
    s: Attention,
) -> Result<Tensor> {
    let [q, k, v] = heads(qkv, bias, s)?;
    let p = probabilities(&q, &k, mask, s)?.to_dtype(qkv.dtype())?;
    matmul(&p, &v)?.transpose(1, 2)?.reshape((s.batch * s.tokens, s.heads * s.head_width))
}

pub(in super::super) fn attention_gradient(
    qkv: &Tensor,
    bias: &Tensor,
    mask: &Tensor,
    g: &Tensor,
    s: Attention,
) -> Result<Tensor> {
    let [q, k, v] = heads(qkv, bias, s)?;
    let p = probabilities(&q, &k, mask, s)?;
    let g = g.reshape((s.batch, s.tokens, s.heads, s.head_width))?.transpose(1, 2)?.contiguous()?;
    let dp = matmul(&g, &v.t()?)?.to_dtype(DType::F32)?;
    let dot = (&dp * &p)?.sum_keepdim(D::Minus1)?;
    let ds = (&p * dp.broadcast_sub(&dot)?)?.to_dtype(qkv.dtype())?;
    let p = p.to_dtype(qkv.dtype())?;
    let dq = matmul(&ds, &k)?.affine(1.0 / (s.head_width as f64).sqrt(), 0.0)?;
    // The queries were scaled when they were read.
    let dk = matmul(&ds.t()?, &q)?;
    let dv = matmul(&p.t()?, &g)?;
    let all = Tensor::stack(&[dq, dk, dv], 0)?.permute((1, 3, 0, 2, 4))?;
    all.reshape((s.batch * s.tokens, 3 * s.heads * s.head_width))
}
