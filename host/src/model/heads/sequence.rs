//! What is a sequence, or how much: one row a sequence, its reading frames pooled apart.

use candle_core::{D, Device, Result, Tensor, bail};

use crate::{
    model::{
        ModelConfig, Params,
        encoder::{Context, Encoder, Linear, Rows},
        params::Shapes,
    },
    nn::{bias_add, bias_gelu, dropout},
};

/// Width of the head's hidden layer.
const WIDTH: usize = 128;
/// Taken from padding before the largest value of each channel is: finite, as in the exported graph.
const PADDING: f64 = 10_000.0;

/// Adds the tensors of [`SequenceHead`].
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    shapes.linear("head.dense", WIDTH, (config.frames + 2) * config.hidden_size);
    shapes.linear("head.out", config.labels.len(), WIDTH);
}

/// Sequence head: reads the mean over the tokens of each reading frame, the largest value of each channel and
/// the first token. Which of the frames of a fragment is the coding one is not known, so one dense layer
/// reads them in every rotation, and the largest answer of each of its channels counts: the same logits,
/// whichever frame the sequence begins in.
pub struct SequenceHead<'a> {
    config: &'a ModelConfig,
    params: &'a Params,
}

impl<'a> SequenceHead<'a> {
    /// A head over `params`.
    pub const fn new(config: &'a ModelConfig, params: &'a Params) -> Self {
        Self { config, params }
    }

    /// Logits [rows, labels].
    ///
    /// # Errors
    /// Rows that the configuration cannot take.
    pub fn forward(&self, rows: &Rows, context: &Context<'_>) -> Result<Tensor> {
        let (n, tokens, h, frames) =
            (rows.rows, rows.tokens, self.config.hidden_size, self.config.frames.max(1));
        if rows.mask.len() != n * tokens || rows.track.len() != n * tokens {
            bail!("sequence head: got {} masks, expected {n} rows of {tokens} tokens", rows.mask.len());
        }
        let hidden =
            Encoder::new(self.config, self.params).forward(rows, context)?.reshape((n, tokens, h))?;
        let means = (1..=frames)
            .map(|frame| self.mean(rows, &hidden, |i| frames == 1 || rows.track[i] as usize == frame))
            .collect::<Result<Vec<_>>>()?;
        let mask = Tensor::from_vec(rows.mask.clone(), (n, tokens, 1), &Device::Cpu)?;
        let most = hidden.broadcast_add(&mask.affine(PADDING, -PADDING)?)?.max(1)?;
        let first = hidden.narrow(1, 0, 1)?.squeeze(1)?;
        let rotations = (0..frames)
            .map(|by| {
                let pooled = (0..frames).map(|f| &means[(f + by) % frames]);
                Tensor::cat(&pooled.chain([&most, &first]).collect::<Vec<_>>(), 1)
            })
            .collect::<Result<Vec<_>>>()?;
        let x = Tensor::stack(&rotations, 1)?.reshape((n * frames, (frames + 2) * h))?;
        context.see("head.dense_input", &x)?;
        let dense = Linear::of(self.params, "head.dense")?;
        let x = bias_gelu(&dense.product(&x)?, dense.bias)?;
        let x = if frames == 1 { x } else { x.reshape((n, frames, WIDTH))?.max(D::Minus2)? };
        let x = dropout(&x, context.dropout())?;
        let out = Linear::of(self.params, "head.out")?;
        bias_add(&out.product(&x)?, out.bias)
    }

    /// Mean hidden state [rows, H] over the attended tokens that `keep` names; 0 without any.
    fn mean(&self, rows: &Rows, hidden: &Tensor, keep: impl Fn(usize) -> bool) -> Result<Tensor> {
        let mut weights: Vec<f32> =
            rows.mask.iter().enumerate().map(|(i, m)| if keep(i) { *m } else { 0.0 }).collect();
        for row in weights.chunks_exact_mut(rows.tokens) {
            let total = row.iter().sum::<f32>().max(1.0);
            row.iter_mut().for_each(|w| *w /= total);
        }
        Tensor::from_vec(weights, (rows.rows, 1, rows.tokens), &Device::Cpu)?.matmul(hidden)?.squeeze(1)
    }
}
