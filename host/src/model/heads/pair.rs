//! Is a variant pathogenic: reference and alternate rows, with the annotation features.

use candle_core::{Result, Tensor, bail};

use crate::{
    model::{
        ModelConfig, Params,
        encoder::{Context, Encoder, Linear, Rows},
        params::Shapes,
    },
    nn::{bias_add, bias_gelu, dropout},
};

/// Adds the tensors of [`PairHead`].
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    shapes.linear("head.features.dense1", 128, config.n_features);
    shapes.linear("head.features.dense2", 64, 128);
    shapes.linear("head.dense", 128, 4 * config.hidden_size + 64);
    shapes.linear("head.out", config.labels.len(), 128);
}

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
        let pairs = rows.rows / 2;
        if !rows.rows.is_multiple_of(2) || batch.features.len() != pairs * self.config.n_features {
            bail!(
                "pair head: got {} rows and {} features, expected 2 rows and {} features a pair",
                rows.rows,
                batch.features.len(),
                self.config.n_features
            );
        }
        let hidden = Encoder::new(self.config, self.params).forward(rows, context)?;
        let features =
            Tensor::from_vec(batch.features.clone(), (pairs, self.config.n_features), hidden.device())?;
        self.read(&hidden, rows, &features, context)
    }

    /// Logits [pairs, labels] from the hidden states of reference and alternate rows and features [pairs, n].
    ///
    /// # Errors
    /// Hidden states or features of other rows.
    pub fn read(
        &self,
        hidden: &Tensor,
        rows: &Rows,
        features: &Tensor,
        context: &Context<'_>,
    ) -> Result<Tensor> {
        let (pairs, tokens, h) = (rows.rows / 2, rows.tokens, self.config.hidden_size);
        let device = hidden.device();
        let hidden = hidden.reshape((2, pairs, tokens, h))?;
        let (r, a) = (hidden.get(0)?, hidden.get(1)?);
        let half = pairs * tokens;
        let weights = |at: &dyn Fn(usize) -> f32| -> Result<Tensor> {
            let mut w: Vec<f32> = (0..half).map(at).collect();
            for row in w.chunks_exact_mut(tokens) {
                let total = row.iter().sum::<f32>().max(1.0);
                row.iter_mut().for_each(|w| *w /= total);
            }
            Tensor::from_vec(w, (pairs, 1, tokens), device)
        };
        let differs = weights(&|i| f32::from(u8::from(rows.ids[i] != rows.ids[half + i])))?;
        let attended = weights(&|i| rows.mask[i])?;
        let pool = |w: &Tensor, x: &Tensor| w.matmul(x)?.squeeze(1);
        let difference = (&r - &a)?;
        context.see("head.features.dense1_input", features)?;
        let inner = dropout(&self.gelu(features, "head.features.dense1")?, context.dropout())?;
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
