//! What is read off the hidden states.

use candle_core::{Device, Result, Tensor, bail};

use super::{
    ModelConfig, Params,
    encoder::{Context, Encoder, Linear, Rows},
};
use crate::nn::{bias_add, bias_gelu, dropout, layer_norm};

/// Reference and alternate rows of one batch, with the annotation features.
#[derive(Clone, Debug)]
pub struct PairBatch {
    /// All reference rows, then all alternate rows, so that one encoder pass reads both.
    pub rows: Rows,
    /// Features [pairs, n], row after row.
    pub features: Vec<f32>,
}

/// Variant-effect head: reads the tokens where reference and alternate differ, the mean change, the
/// mean reference and the features. It needs no index of the variant.
pub struct PairHead<'a> {
    config: &'a ModelConfig,
    params: &'a Params,
}

impl<'a> PairHead<'a> {
    /// A head over `params`.
    pub const fn new(config: &'a ModelConfig, params: &'a Params) -> Self {
        Self { config, params }
    }

    /// Logits [pairs, labels].
    ///
    /// # Errors
    /// An odd number of rows, or features of another width.
    pub fn forward(&self, batch: &PairBatch, context: &Context<'_>) -> Result<Tensor> {
        let rows = &batch.rows;
        let (pairs, tokens, h) = (rows.rows / 2, rows.tokens, self.config.hidden_size);
        if !rows.rows.is_multiple_of(2) || batch.features.len() != pairs * self.config.n_features {
            bail!(
                "pair head: got {} rows and {} features, expected 2 rows and {} features a pair",
                rows.rows,
                batch.features.len(),
                self.config.n_features
            );
        }
        let hidden =
            Encoder::new(self.config, self.params).forward(rows, context)?.reshape((2, pairs, tokens, h))?;
        let (r, a) = (hidden.get(0)?, hidden.get(1)?);
        let half = pairs * tokens;
        let weights = |at: &dyn Fn(usize) -> f32| -> Result<Tensor> {
            let mut w: Vec<f32> = (0..half).map(at).collect();
            for row in w.chunks_exact_mut(tokens) {
                let total = row.iter().sum::<f32>().max(1.0);
                row.iter_mut().for_each(|w| *w /= total);
            }
            Tensor::from_vec(w, (pairs, 1, tokens), &Device::Cpu)
        };
        let differs = weights(&|i| f32::from(u8::from(rows.ids[i] != rows.ids[half + i])))?;
        let attended = weights(&|i| rows.mask[i])?;
        let pool = |w: &Tensor, x: &Tensor| w.matmul(x)?.squeeze(1);
        let difference = (&r - &a)?;
        let features =
            Tensor::from_vec(batch.features.clone(), (pairs, self.config.n_features), &Device::Cpu)?;
        context.see("head.features.dense1_input", &features)?;
        let inner = self.gelu(&features, "head.features.dense1")?;
        context.see("head.features.dense2_input", &inner)?;
        let feature_state = self.gelu(&inner, "head.features.dense2")?;
        let x = Tensor::cat(
            &[
                pool(&differs, &a)?,
                pool(&differs, &difference)?,
                pool(&attended, &difference.abs()?)?,
                pool(&attended, &r)?,
                feature_state,
            ],
            1,
        )?;
        context.see("head.dense_input", &x)?;
        let x = dropout(&self.gelu(&x, "head.dense")?, context.dropout())?;
        let out = Linear::of(self.params, "head.out")?;
        bias_add(&out.product(&x)?, out.bias)
    }

    fn gelu(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let dense = Linear::of(self.params, name)?;
        bias_gelu(&dense.product(x)?, dense.bias)
    }
}

/// Masked-token head, its decoder tied to the word embeddings.
pub struct MlmHead<'a> {
    config: &'a ModelConfig,
    params: &'a Params,
}

impl<'a> MlmHead<'a> {
    /// A head over `params`.
    pub const fn new(config: &'a ModelConfig, params: &'a Params) -> Self {
        Self { config, params }
    }

    /// Logits [hidden positions, vocabulary] at `positions` (indices into rows·tokens).
    ///
    /// # Errors
    /// A position beyond the rows.
    pub fn forward(&self, rows: &Rows, positions: &[u32], context: &Context<'_>) -> Result<Tensor> {
        let hidden = Encoder::new(self.config, self.params).forward(rows, context)?;
        let index = Tensor::from_vec(positions.to_vec(), positions.len(), &Device::Cpu)?;
        let x = hidden.index_select(&index, 0)?;
        let dense = Linear::of(self.params, "cls.predictions.transform.dense")?;
        let x = bias_gelu(&dense.product(&x)?, dense.bias)?;
        let norm = |p: &str| self.params.get(&format!("cls.predictions.transform.LayerNorm.{p}"));
        let x = layer_norm(&x, norm("weight")?, norm("bias")?, self.config.layer_norm_eps as f32)?;
        let words = self.params.get("bert.embeddings.word_embeddings.weight")?;
        bias_add(&x.matmul(&words.t()?)?, self.params.get("cls.predictions.bias")?)
    }
}
