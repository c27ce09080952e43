//! What is a sequence, or how much: one row a sequence, its reading frames pooled apart.

use candle_core::{D, Device, Result, Tensor, bail};
use locus_genome::tokenizer::SEP;

use crate::{
    model::{
        ModelConfig, Params,
        encoder::{Context, Encoder, Linear, Rows},
        heads::wide,
        params::Shapes,
    },
    nn::{bias_add, bias_gelu, dropout},
};

/// Width of the head's hidden layer.
const WIDTH: usize = 128;
/// What is pooled beside the frames.
const POOLED: usize = 4;
/// What was counted of each token, [vocabulary, channels].
pub(crate) const TABLE: &str = "head.counted.table";
/// What the wide features are multiplied with.
pub(crate) const SCALE: &str = "head.counted.scale";
/// What is then added to them.
pub(crate) const SHIFT: &str = "head.counted.shift";
/// Totals over tokens are given in this many.
const TOTAL: f32 = 64.0;
/// Taken from padding before the largest value of each channel is: finite, as in the exported graph.
const PADDING: f64 = 10_000.0;

/// Adds the tensors of [`SequenceHead`].
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    shapes.linear("head.dense", WIDTH, (config.frames + POOLED) * config.hidden_size);
    shapes.linear("head.out", config.labels.len(), WIDTH);
    if config.counted > 0 {
        let features = config.wide_features();
        shapes.add(TABLE, &[config.vocab_size, config.counted]);
        shapes.add(SCALE, &[features]);
        shapes.add(SHIFT, &[features]);
        shapes.linear("head.wide", WIDTH, features);
    }
    wide::shapes(config, shapes);
}

/// Sequence head: reads the mean over the tokens of each reading frame, the largest value of each channel, [CLS],
/// and the tokens at both ends, where exons and genes have their signals. Which of the frames of a fragment is the coding one is not known, so one dense layer
/// reads them in every rotation, and the largest answer of each of its channels counts: the same logits,
/// whichever frame the sequence begins in. Where the track marks the letters that differ from a wild type, the mean is
/// over these alone.
///
/// Beside the encoder may stand a wide path (Cheng et al. 2016): what was counted of each token before training, log-odds
/// of the classes above all (Wang & Manning 2012), pooled by frame and read by a layer of its own that is added to the
/// dense one's product.
///
/// And a linear model of n-grams or of substitutions may be added to the logits, fitted before training and left as it is:
/// [`WidePath`](crate::model::WidePath).
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
        let deep = self.deep(rows, context)?;
        if self.config.wide.is_none() {
            Ok(deep)
        } else {
            deep + wide::logits(self.config, self.params, rows)?
        }
    }

    /// Logits [rows, labels] without what the linear model adds to them.
    ///
    /// # Errors
    /// As [`SequenceHead::forward`].
    pub fn deep(&self, rows: &Rows, context: &Context<'_>) -> Result<Tensor> {
        let (n, tokens, h, frames) =
            (rows.rows, rows.tokens, self.config.hidden_size, self.config.frames.max(1));
        if rows.mask.len() != n * tokens || rows.track.len() != n * tokens {
            bail!("sequence head: got {} masks, expected {n} rows of {tokens} tokens", rows.mask.len());
        }
        let hidden =
            Encoder::new(self.config, self.params).forward(rows, context)?.reshape((n, tokens, h))?;
        let means = (1..=frames)
            .map(|frame| share(self.frame(rows, frame), tokens).and_then(|w| pool(&w, &hidden)))
            .collect::<Result<Vec<_>>>()?;
        let mask = Tensor::from_vec(rows.mask.clone(), (n, tokens, 1), hidden.device())?;
        let most = hidden.broadcast_add(&mask.affine(PADDING, -PADDING)?)?.max(1)?;
        let token = |at: usize| hidden.narrow(1, at.min(tokens - 1), 1)?.squeeze(1);
        let ends = [token(0)?, token(1)?, pool(&last(rows)?, &hidden)?];
        let rotations = (0..frames)
            .map(|by| {
                let pooled = (0..frames).map(|f| &means[(f + by) % frames]);
                Tensor::cat(&pooled.chain([&most]).chain(&ends).collect::<Vec<_>>(), 1)
            })
            .collect::<Result<Vec<_>>>()?;
        let x = Tensor::stack(&rotations, 1)?.reshape((n * frames, (frames + POOLED) * h))?;
        context.see("head.dense_input", &x)?;
        let dense = Linear::of(self.params, "head.dense")?;
        let mut x = dense.product(&dropout(&x, context.dropout())?)?;
        if self.config.counted > 0 {
            let fixed = |name: &str| Ok::<_, candle_core::Error>(self.params.get(name)?.detach());
            let features = self.wide(rows)?.broadcast_mul(&fixed(SCALE)?)?.broadcast_add(&fixed(SHIFT)?)?;
            let wide = Linear::of(self.params, "head.wide")?;
            x = (x + bias_add(&wide.product(&dropout(&features, context.dropout())?)?, wide.bias)?)?;
        }
        let x = bias_gelu(&x, dense.bias)?;
        let x = if frames == 1 { x } else { x.reshape((n, frames, WIDTH))?.max(D::Minus2)? };
        let x = dropout(&x, context.dropout())?;
        let out = Linear::of(self.params, "head.out")?;
        bias_add(&out.product(&x)?, out.bias)
    }

    /// Wide features [rows·frames, features] before they are scaled, the frames in every rotation. The table that they
    /// come from is never trained: gradients end at it.
    pub(crate) fn wide(&self, rows: &Rows) -> Result<Tensor> {
        let (tokens, frames, width) = (rows.tokens, self.config.frames.max(1), self.config.counted);
        let table = self.params.get(TABLE)?.flatten_all()?.to_vec1::<f32>()?;
        let inside: Vec<Vec<f32>> = (1..=frames).map(|frame| self.frame(rows, frame)).collect();
        let mut features: Vec<f32> = Vec::with_capacity(rows.rows * frames * self.config.wide_features());
        for (n, ids) in rows.ids.chunks_exact(tokens).enumerate() {
            let Some(known) = ids
                .iter()
                .map(|&id| table.get(id as usize * width..(id as usize + 1) * width))
                .collect::<Option<Vec<_>>>()
            else {
                bail!("sequence head: got a token id beyond the {} of the vocabulary", self.config.vocab_size)
            };
            let pooled: Vec<[Vec<f32>; 3]> =
                inside.iter().map(|inside| pooled(&known, &inside[n * tokens..][..tokens], width)).collect();
            let last = ids.iter().position(|&id| id == SEP).and_then(|at| at.checked_sub(1));
            let nothing = vec![0.0; width];
            let ends = [known.get(1).copied(), last.map(|at| known[at])].map(|e| e.unwrap_or(&nothing));
            for by in 0..frames {
                (0..frames).for_each(|f| features.extend(pooled[(f + by) % frames].iter().flatten()));
                features.extend(ends.into_iter().flatten());
            }
        }
        let shape = (rows.rows * frames, self.config.wide_features());
        Tensor::from_vec(features, shape, self.params.device())
    }

    /// 1 for the attended tokens of a frame, which count from 1; 0 elsewhere.
    fn frame(&self, rows: &Rows, frame: usize) -> Vec<f32> {
        let keep = |code: usize| match self.config.frames {
            // Without frames a track marks what is changed, where it says anything at all.
            0 | 1 => self.config.type_vocab_size == 1 || code > 0,
            _ => code == frame,
        };
        rows.mask.iter().zip(&rows.track).map(|(m, &t)| if keep(t as usize) { *m } else { 0.0 }).collect()
    }
}

/// Mean, total and least value of each channel over the tokens of a frame; tokens outside it count as 0 in the last.
fn pooled(known: &[&[f32]], inside: &[f32], width: usize) -> [Vec<f32>; 3] {
    let (mut sum, mut least) = (vec![0.0; width], vec![f32::INFINITY; width]);
    for (channels, &inside) in known.iter().zip(inside) {
        for ((x, sum), least) in channels.iter().zip(&mut sum).zip(&mut least) {
            *sum += x * inside;
            *least = least.min(x * inside);
        }
    }
    let count = inside.iter().sum::<f32>().max(1.0);
    let mean = sum.iter().map(|s| s / count).collect();
    sum.iter_mut().for_each(|s| *s /= TOTAL);
    [mean, sum, least]
}

/// Weights [rows, 1, tokens] that are 1 at the token before [SEP].
fn last(rows: &Rows) -> Result<Tensor> {
    let before = |row: &[u32]| {
        let next = row[1..].iter().map(|&id| f32::from(u8::from(id == SEP)));
        next.chain([0.0]).collect::<Vec<f32>>()
    };
    share(rows.ids.chunks_exact(rows.tokens).flat_map(before).collect(), rows.tokens)
}

/// Weights [rows, 1, tokens] that sum to 1 in each row, or are all 0.
fn share(mut weights: Vec<f32>, tokens: usize) -> Result<Tensor> {
    for row in weights.chunks_exact_mut(tokens) {
        let total = row.iter().sum::<f32>().max(1.0);
        row.iter_mut().for_each(|w| *w /= total);
    }
    let rows = weights.len() / tokens;
    Tensor::from_vec(weights, (rows, 1, tokens), &Device::Cpu)
}

/// Weighted sum [rows, H] of `x` [rows, tokens, H] by `weights` [rows, 1, tokens].
fn pool(weights: &Tensor, x: &Tensor) -> Result<Tensor> {
    weights.to_device(x.device())?.matmul(x)?.squeeze(1)
}
