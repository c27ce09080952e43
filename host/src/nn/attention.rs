//! Multi-head self-attention (Vaswani et al. 2017) as one op from the joint projection to the context.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{
    math::exp,
    slices::{Direct, contiguous, f32s, out},
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
    qkv.apply_op3(bias, mask, shape)
}

/// Query, key and value of one head, each [tokens, head_width], key and value bias added.
struct Head {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Transposed copies [head_width, tokens] make the inner loops run along tokens.
    kt: Vec<f32>,
    vt: Vec<f32>,
    p: Vec<f32>,
}

impl Head {
    fn new(s: &Attention) -> Self {
        let n = s.tokens * s.head_width;
        let z = || vec![0.0; n];
        Self { q: z(), k: z(), v: z(), kt: z(), vt: z(), p: vec![0.0; s.tokens * s.tokens] }
    }

    #[inline(always)]
    fn load(&mut self, s: &Attention, qkv: &[f32], bias: &[f32], head: usize) {
        let (d, t) = (s.head_width, s.tokens);
        let h = s.heads * d;
        let scale = 1.0 / (d as f32).sqrt();
        for i in 0..t {
            let row = &qkv[i * 3 * h..][..3 * h];
            for j in 0..d {
                let at = head * d + j;
                let (k, v) = (row[h + at] + bias[h + at], row[2 * h + at] + bias[2 * h + at]);
                self.q[i * d + j] = (row[at] + bias[at]) * scale;
                self.k[i * d + j] = k;
                self.v[i * d + j] = v;
                self.kt[j * t + i] = k;
                self.vt[j * t + i] = v;
            }
        }
    }

    /// Probabilities [tokens, tokens].
    #[inline(always)]
    fn softmax(&mut self, s: &Attention, mask: &[f32]) {
        let (d, t) = (s.head_width, s.tokens);
        for i in 0..t {
            let p = &mut self.p[i * t..][..t];
            for (p, m) in p.iter_mut().zip(mask) {
                *p = (1.0 - m) * MASKED;
            }
            for j in 0..d {
                let q = self.q[i * d + j];
                p.iter_mut().zip(&self.kt[j * t..][..t]).for_each(|(p, k)| *p = q.mul_add(*k, *p));
            }
            let top = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            p.iter_mut().for_each(|p| *p = exp(*p - top));
            let total: f32 = p.iter().sum();
            let scale = 1.0 / total;
            p.iter_mut().for_each(|p| *p *= scale);
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
        let (d, t) = (self.head_width, self.tokens);
        let h = self.heads * d;
        let mut context = vec![0.0; self.batch * t * h];
        let arch = pulp::Arch::new();
        context.par_chunks_mut(t * h).enumerate().for_each_init(
            || Head::new(self),
            |work, (row, context)| {
                arch.dispatch(Direct(
                    #[inline(always)]
                    || {
                        let qkv = &qkv[row * t * 3 * h..][..t * 3 * h];
                        for head in 0..self.heads {
                            work.load(self, qkv, bias, head);
                            work.softmax(self, &mask[row * t..][..t]);
                            for i in 0..t {
                                let c = &mut context[i * h + head * d..][..d];
                                for (j, &p) in work.p[i * t..][..t].iter().enumerate() {
                                    c.iter_mut()
                                        .zip(&work.v[j * d..][..d])
                                        .for_each(|(c, v)| *c = p.mul_add(*v, *c));
                                }
                            }
                        }
                    },
                ));
            },
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
        // The context's gradient rides behind the projection, because an op has three inputs at most.
        let joint = Tensor::cat(&[qkv, &contiguous(g)?], 1)?;
        let dqkv = joint.apply_op3_no_bwd(bias, mask, &Gradient(*self))?;
        let db = super::activation::column_sum(&dqkv)?;
        Ok((Some(dqkv), Some(db), None))
    }
}

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
        let (joint, bias, mask) =
            (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let s = &self.0;
        let (d, t) = (s.head_width, s.tokens);
        let h = s.heads * d;
        let scale = 1.0 / (d as f32).sqrt();
        let mut gradient = vec![0.0; s.batch * t * 3 * h];
        let arch = pulp::Arch::new();
        let scratch = || {
            (
                Head::new(s),
                vec![0.0f32; t * 3 * h],
                vec![0.0f32; t * d],
                vec![0.0f32; t],
                vec![0.0f32; 3 * t * d],
            )
        };
        gradient.par_chunks_mut(t * 3 * h).enumerate().for_each_init(
            scratch,
            |(work, qkv, g, dp, sums), (row, gradient)| {
                arch.dispatch(Direct(
                    #[inline(always)]
                    || {
                        let joint = &joint[row * t * 4 * h..][..t * 4 * h];
                        for i in 0..t {
                            qkv[i * 3 * h..][..3 * h].copy_from_slice(&joint[i * 4 * h..][..3 * h]);
                        }
                        for head in 0..s.heads {
                            work.load(s, qkv, bias, head);
                            work.softmax(s, &mask[row * t..][..t]);
                            for i in 0..t {
                                g[i * d..][..d].copy_from_slice(&joint[i * 4 * h + 3 * h + head * d..][..d]);
                            }
                            sums.fill(0.0);
                            let (dq, rest) = sums.split_at_mut(t * d);
                            let (dk, dv) = rest.split_at_mut(t * d);
                            for i in 0..t {
                                let p = &work.p[i * t..][..t];
                                let gi = &g[i * d..][..d];
                                dp.fill(0.0);
                                for (j, &gij) in gi.iter().enumerate() {
                                    dp.iter_mut()
                                        .zip(&work.vt[j * t..][..t])
                                        .for_each(|(dp, v)| *dp = gij.mul_add(*v, *dp));
                                }
                                let dot: f32 =
                                    super::norm::sum(p.iter().zip(dp.iter()).map(|(p, dp)| p * dp));
                                // dp becomes the gradient of the scores.
                                dp.iter_mut().zip(p).for_each(|(dp, p)| *dp = p * (*dp - dot));
                                let q = &work.q[i * d..][..d];
                                for j in 0..t {
                                    let (ds, pj) = (dp[j], p[j]);
                                    let k = &work.k[j * d..][..d];
                                    dq[i * d..][..d]
                                        .iter_mut()
                                        .zip(k)
                                        .for_each(|(dq, k)| *dq = ds.mul_add(*k, *dq));
                                    dk[j * d..][..d]
                                        .iter_mut()
                                        .zip(q)
                                        .for_each(|(dk, q)| *dk = ds.mul_add(*q, *dk));
                                    dv[j * d..][..d]
                                        .iter_mut()
                                        .zip(gi)
                                        .for_each(|(dv, g)| *dv = pj.mul_add(*g, *dv));
                                }
                            }
                            for i in 0..t {
                                let row = &mut gradient[i * 3 * h..][..3 * h];
                                for j in 0..d {
                                    let at = head * d + j;
                                    row[at] = dq[i * d + j] * scale;
                                    row[h + at] = dk[i * d + j];
                                    row[2 * h + at] = dv[i * d + j];
                                }
                            }
                        }
                    },
                ));
            },
        );
        out(gradient, (s.batch * t, 3 * h))
    }
}
