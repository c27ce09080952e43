//! What is a sequence, or how much: one row a sequence, its reading frames pooled apart.

use candle_core::{D, Result, Tensor, bail};
use locus_genome::tokenizer::SEP;

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
/// What is pooled beside the frames.
const POOLED: usize = 4;
/// Taken from padding before the largest value of each channel is: finite, as in the exported graph.
const PADDING: f64 = 10_000.0;

/// Adds the tensors of [`SequenceHead`].
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    shapes.linear("head.dense", WIDTH, (config.frames + POOLED) * config.hidden_size);
    shapes.linear("head.out", config.labels.len(), WIDTH);
}

/// Sequence head: reads the mean over the tokens of each reading frame, the largest value of each channel, [CLS],
/// and the tokens at both ends, where exons and genes have their signals. Which of the frames of a fragment is the coding one is not known, so one dense layer
/// reads them in every rotation, and the largest answer of each of its channels counts: the same logits,
/// whichever frame the sequence begins in. Where the track marks the letters that differ from a wild type, the mean is
/// over these alone.
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
            .map(|frame| {
                self.mean(rows, &hidden, |i| match rows.track[i] as usize {
                    // Without frames a track marks what is changed, where it says anything at all.
                    code if frames == 1 => self.config.type_vocab_size == 1 || code > 0,
                    code => code == frame,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mask = Tensor::from_vec(rows.mask.clone(), (n, tokens, 1), hidden.device())?;
        let most = hidden.broadcast_add(&mask.affine(PADDING, -PADDING)?)?.max(1)?;
        let token = |at: usize| hidden.narrow(1, at.min(tokens - 1), 1)?.squeeze(1);
        let ends = [token(0)?, token(1)?, self.last(rows, &hidden)?];
        let rotations = (0..frames)
            .map(|by| {
                let pooled = (0..frames).map(|f| &means[(f + by) % frames]);
                Tensor::cat(&pooled.chain([&most]).chain(&ends).collect::<Vec<_>>(), 1)
            })
            .collect::<Result<Vec<_>>>()?;
        let x = Tensor::stack(&rotations, 1)?.reshape((n * frames, (frames + POOLED) * h))?;
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
        let kept = rows.mask.iter().enumerate().map(|(i, m)| if keep(i) { *m } else { 0.0 });
        pool(kept.collect(), rows.tokens, hidden)
    }

    /// Hidden state [rows, H] of the token before [SEP].
    fn last(&self, rows: &Rows, hidden: &Tensor) -> Result<Tensor> {
        let before = |row: &[u32]| {
            let next = row[1..].iter().map(|&id| f32::from(u8::from(id == SEP)));
            next.chain([0.0]).collect::<Vec<f32>>()
        };
        pool(rows.ids.chunks_exact(rows.tokens).flat_map(before).collect(), rows.tokens, hidden)
    }
}

/// Weighted mean [rows, H] of `hidden` [rows, tokens, H]; 0 where all weights are.
fn pool(mut weights: Vec<f32>, tokens: usize, hidden: &Tensor) -> Result<Tensor> {
    for row in weights.chunks_exact_mut(tokens) {
        let total = row.iter().sum::<f32>().max(1.0);
        row.iter_mut().for_each(|w| *w /= total);
    }
    let rows = weights.len() / tokens;
    Tensor::from_vec(weights, (rows, 1, tokens), hidden.device())?.matmul(hidden)?.squeeze(1)
}
