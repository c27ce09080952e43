//! Guessing hidden tokens.

use candle_core::{Result, Tensor};

use crate::{
    model::{
        ModelConfig, Params,
        encoder::{Context, Encoder, Linear, Rows},
        params::Shapes,
    },
    nn::{bias_add, bias_gelu, layer_norm, select_rows},
};

/// Adds the tensors of [`MlmHead`].
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    let h = config.hidden_size;
    shapes.linear("cls.predictions.transform.dense", h, h);
    shapes.norm("cls.predictions.transform.LayerNorm", h);
    shapes.add("cls.predictions.bias", &[config.vocab_size]);
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
        let x = select_rows(&hidden, positions)?;
        let dense = Linear::of(self.params, "cls.predictions.transform.dense")?;
        let x = bias_gelu(&dense.product(&x)?, dense.bias)?;
        let norm = |p: &str| self.params.get(&format!("cls.predictions.transform.LayerNorm.{p}"));
        let x = layer_norm(&x, norm("weight")?, norm("bias")?, self.config.layer_norm_eps as f32)?;
        let words = self.params.get("bert.embeddings.word_embeddings.weight")?;
        bias_add(&x.matmul(&words.t()?)?, self.params.get("cls.predictions.bias")?)
    }
}
