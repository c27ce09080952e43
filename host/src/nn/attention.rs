//! Multi-head self-attention (Vaswani et al. 2017) as one op from the joint projection to the context.
//!
//! The backward pass computes the probabilities again instead of keeping them. Scores and
//! probabilities lie key after key, so that softmax runs along vectors of queries.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    composed,
    math::exp,
    product::{Left, PAD, product},
    slices::{contiguous, f32s, out},
};

/// Shape of one attention: rows of `tokens` tokens, `heads` heads of `head_width` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Rows.
    pub batch: usize,
    /// Tokens per row.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_width: usize,
}

/// Added to the score of a masked key; finite, so that the exported graph may keep it in half precision.
pub(crate) const MASKED: f32 = -10_000.0;

/// Context [batch·tokens, H] from the joint projection `qkv` [batch·tokens, 3H] plus `bias` [3H], under
/// `mask` [batch, tokens] (1 = attend).
///
/// # Errors
/// Shapes that do not fit.
pub fn attention(qkv: &Tensor, bias: &Tensor, mask: &Tensor, shape: Attention) -> Result<Tensor> {
    let (n, h) = (shape.batch * shape.tokens, shape.heads * shape.head_width);
    if n * h == 0
        || qkv.dims() != [n, 3 * h]
        || bias.dims() != [3 * h]
        || mask.dims() != [shape.batch, shape.tokens]
    {
        bail!(
            "attention: got qkv {:?}, bias {:?} and mask {:?}, expected [{n}, {}], [{}] and [{}, {}]",
            qkv.dims(),
            bias.dims(),
            mask.dims(),
            3 * h,
            3 * h,
            shape.batch,
            shape.tokens,
        );
    }
    if !composed::fused(qkv) {
        return composed::attention(qkv, bias, mask, shape);
    }
    qkv.apply_op3(bias, mask, shape)
}

/// Gradient of [`attention`]'s `qkv` from that of its context; the bias has its column sums.
pub(crate) fn attention_gradient(
    qkv: &Tensor,
    bias: &Tensor,
    mask: &Tensor,
    g: &Tensor,
    shape: Attention,
) -> Result<Tensor> {
    if !composed::fused(qkv) {
        return composed::attention_gradient(qkv, bias, mask, g, shape);
    }
    // An op has three inputs at most: the two small ones travel as one.
    let small = Tensor::cat(&[&bias.detach(), &mask.flatten_all()?], 0)?;
    qkv.apply_op3_no_bwd(g, &small, &Gradient(shape))
}

impl Attention {
    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Tokens and head width as padded in scratch memory.
    fn padded(&self) -> (usize, usize) {
        (self.tokens.next_multiple_of(PAD), self.head_width.next_multiple_of(PAD))
    }
}

/// Scratch memory of one head. Matrices are [tokens, head width] unless they say otherwise; padding is
/// zero and stays zero.
struct Head {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Gradient of the context.
    g: Vec<f32>,
    /// [head width, tokens].
    transposed: Vec<f32>,
    /// Probabilities [keys, queries].
    p: Vec<f32>,
    /// Gradient of the scores [keys, queries].
    ds: Vec<f32>,
    /// One number for each query.
    per_query: Vec<f32>,
    result: Vec<f32>,
}

impl Head {
    fn new(s: &Attention) -> Self {
        let (t, d) = s.padded();
        let z = || vec![0.0; t * d];
        let square = || vec![0.0; t * t];
        Self {
            q: z(),
            k: z(),
            v: z(),
            g: z(),
            transposed: z(),
            p: square(),
            ds: square(),
            per_query: vec![0.0; t],
            result: z(),
        }
    }

    /// Reads one head of one row's joint projection; queries are scaled.
    #[inline(always)]
    fn load(&mut self, s: &Attention, qkv: &[f32], bias: &[f32], head: usize) {
        let (d, h) = (s.head_width, s.width());
        let (_, dp) = s.padded();
        let scale = 1.0 / (d as f32).sqrt();
        for (i, row) in qkv.chunks_exact(3 * h).enumerate() {
            let part = |which: usize| {
                let at = which * h + head * d;
                row[at..at + d].iter().zip(&bias[at..at + d])
            };
            for (y, (x, b)) in self.q[i * dp..].iter_mut().zip(part(0)) {
                *y = (x + b) * scale;
            }
            for (y, (x, b)) in self.k[i * dp..].iter_mut().zip(part(1)) {
                *y = x + b;
            }
            for (y, (x, b)) in self.v[i * dp..].iter_mut().zip(part(2)) {
                *y = x + b;
            }
        }
    }

    /// Softmax over keys of the scores under `mask`.
    #[inline(always)]
    fn probabilities<S: Simd>(&mut self, simd: S, s: &Attention, mask: &[f32]) {
        let (t, d) = s.padded();
        transpose(&self.q, &mut self.transposed, s);
        product(simd, (&self.k, Left::Rows, d), (&self.transposed, s.head_width), (&mut self.p, t));
        let (keys, padding) = self.p.split_at_mut(s.tokens * t);
        padding.fill(0.0);
        let top = &mut self.per_query;
        top.fill(f32::NEG_INFINITY);
        for (row, m) in keys.chunks_exact_mut(t).zip(mask) {
            let add = (1.0 - m) * MASKED;
            for (p, top) in row.iter_mut().zip(top.iter_mut()) {
                *p += add;
                *top = if *p > *top { *p } else { *top };
            }
        }
        // The largest scores make room for the sums, one vector of queries after the other.
        for j in (0..t).step_by(PAD) {
            let mut total = [0.0f32; PAD];
            let mut most = [0.0f32; PAD];
            most.copy_from_slice(&top[j..j + PAD]);
            for row in keys.chunks_exact_mut(t) {
                for ((p, total), top) in row[j..j + PAD].iter_mut().zip(&mut total).zip(&most) {
                    *p = exp(*p - top);
                    *total += *p;
                }
            }
            for (scale, total) in top[j..j + PAD].iter_mut().zip(&total) {
                *scale = 1.0 / total;
            }
        }
        for row in keys.chunks_exact_mut(t) {
            row.iter_mut().zip(top.iter()).for_each(|(p, scale)| *p *= scale);
        }
    }

    /// Gradient of the scores from that of the context.
    #[inline(always)]
    fn score_gradient<S: Simd>(&mut self, simd: S, s: &Attention) {
        let (t, d) = s.padded();
        transpose(&self.g, &mut self.transposed, s);
        product(simd, (&self.v, Left::Rows, d), (&self.transposed, s.head_width), (&mut self.ds, t));
        self.per_query.fill(0.0);
        for (ds, p) in self.ds.chunks_exact(t).zip(self.p.chunks_exact(t)) {
            for ((dot, ds), p) in self.per_query.iter_mut().zip(ds).zip(p) {
                *dot = ds.mul_add(*p, *dot);
            }
        }
        for (ds, p) in self.ds.chunks_exact_mut(t).zip(self.p.chunks_exact(t)) {
            for ((ds, p), dot) in ds.iter_mut().zip(p).zip(&self.per_query) {
                *ds = p * (*ds - dot);
            }
        }
    }
}

/// [tokens, head width] to [head width, tokens].
#[inline(always)]
fn transpose(from: &[f32], to: &mut [f32], s: &Attention) {
    let (t, d) = s.padded();
    for (j, to) in to.chunks_exact_mut(t).take(s.head_width).enumerate() {
        for (to, from) in to.iter_mut().zip(from.chunks_exact(d)) {
            *to = from[j];
        }
    }
}

/// Copies the used part of `result`, times `scale`, to columns `at..` of rows that are `stride` wide.
#[inline(always)]
fn store(result: &[f32], s: &Attention, scale: f32, rows: &mut [f32], stride: usize, at: usize) {
    let (_, d) = s.padded();
    for (row, from) in rows.chunks_exact_mut(stride).zip(result.chunks_exact(d)) {
        for (to, from) in row[at..at + s.head_width].iter_mut().zip(from) {
            *to = from * scale;
        }
    }
}

/// All heads of one row.
struct Row<'a> {
    shape: &'a Attention,
    work: &'a mut Head,
    qkv: &'a [f32],
    bias: &'a [f32],
    mask: &'a [f32],
    context: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (s, work) = (self.shape, self.work);
        let (t, d) = s.padded();
        for head in 0..s.heads {
            work.load(s, self.qkv, self.bias, head);
            work.probabilities(simd, s, self.mask);
            product(simd, (&work.p, Left::Columns, t), (&work.v, s.tokens), (&mut work.result, d));
            store(&work.result, s, 1.0, self.context, s.width(), head * s.head_width);
        }
    }
}

/// The same backward.
struct RowGradient<'a> {
    shape: &'a Attention,
    work: &'a mut Head,
    qkv: &'a [f32],
    bias: &'a [f32],
    mask: &'a [f32],
    g: &'a [f32],
    dqkv: &'a mut [f32],
}

impl WithSimd for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (s, work) = (self.shape, self.work);
        let (t, d) = s.padded();
        let h = s.width();
        let scale = 1.0 / (s.head_width as f32).sqrt();
        for head in 0..s.heads {
            let at = head * s.head_width;
            work.load(s, self.qkv, self.bias, head);
            for (to, from) in work.g.chunks_exact_mut(d).zip(self.g.chunks_exact(h)) {
                to[..s.head_width].copy_from_slice(&from[at..at + s.head_width]);
            }
            work.probabilities(simd, s, self.mask);
            work.score_gradient(simd, s);
            product(simd, (&work.ds, Left::Columns, t), (&work.k, s.tokens), (&mut work.result, d));
            store(&work.result, s, scale, self.dqkv, 3 * h, at);
            // The queries were scaled when they were read.
            product(simd, (&work.ds, Left::Rows, t), (&work.q, s.tokens), (&mut work.result, d));
            store(&work.result, s, 1.0, self.dqkv, 3 * h, h + at);
            product(simd, (&work.p, Left::Rows, t), (&work.g, s.tokens), (&mut work.result, d));
            store(&work.result, s, 1.0, self.dqkv, 3 * h, 2 * h + at);
        }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "locus-attention"
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
        let (qkv, bias, mask) =
            (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let (t, h) = (self.tokens, self.width());
        let mut context = vec![0.0; self.batch * t * h];
        let arch = pulp::Arch::new();
        let rows = context.par_chunks_mut(t * h).zip(qkv.par_chunks(t * 3 * h)).zip(mask.par_chunks(t));
        rows.for_each_init(
            || Head::new(self),
            |work, ((context, qkv), mask)| arch.dispatch(Row { shape: self, work, qkv, bias, mask, context }),
        );
        out(context, (self.batch * t, h))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        bias: &Tensor,
        mask: &Tensor,
        _c: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dqkv = attention_gradient(qkv, bias, mask, &contiguous(g)?, *self)?;
        let db = super::activation::column_sum(&dqkv)?;
        Ok((Some(dqkv), Some(db), None))
    }
}

/// From the joint projection, the context's gradient, and bias and mask one after the other.
struct Gradient(Attention);

impl CustomOp3 for Gradient {
    fn name(&self) -> &'static str {
        "locus-attention-gradient"
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
        let (qkv, g, small) =
            (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let shape = &self.0;
        let (t, h) = (shape.tokens, shape.width());
        let (bias, mask) = small.split_at(3 * h);
        let mut gradient = vec![0.0; shape.batch * t * 3 * h];
        let arch = pulp::Arch::new();
        let rows = gradient
            .par_chunks_mut(t * 3 * h)
            .zip(qkv.par_chunks(t * 3 * h))
            .zip(g.par_chunks(t * h))
            .zip(mask.par_chunks(t));
        rows.for_each_init(
            || Head::new(shape),
            |work, (((dqkv, qkv), g), mask)| {
                arch.dispatch(RowGradient { shape, work, qkv, bias, mask, g, dqkv });
            },
        );
        out(gradient, (shape.batch * t, 3 * h))
    }
}
