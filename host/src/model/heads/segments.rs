//! Questions about whole rows in pretraining: whether one segment follows another, and in which order segments stood.

use candle_core::{Result, Tensor};

use crate::{
    model::{
        ModelConfig, Params,
        encoder::{Context, Encoder, Linear, Rows},
        params::Shapes,
    },
    nn::{bias_add, select_rows},
};

/// Orders of three segments: at each place, the number of the segment that stands there.
pub const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Adds the tensors of [`SegmentHead`], those of BERT under its names.
pub(in crate::model) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    let h = config.hidden_size;
    shapes.linear("bert.pooler.dense", h, h);
    shapes.linear("cls.seq_relationship", 2, h);
    shapes.linear("cls.segment_order", ORDERS.len(), h);
}

/// What is asked of the segments of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentQuestion {
    /// Whether the second follows the first (Devlin et al. 2019): class 1 where it does.
    Follows,
    /// In which of [`ORDERS`] they stand.
    Order,
}

/// Reads the first token through BERT's pooler.
pub struct SegmentHead<'a> {
    config: &'a ModelConfig,
    params: &'a Params,
}

impl<'a> SegmentHead<'a> {
    /// A head over `params`.
    pub const fn new(config: &'a ModelConfig, params: &'a Params) -> Self {
        Self { config, params }
    }

    /// Logits [rows, answers].
    ///
    /// # Errors
    /// Rows that the configuration cannot take.
    pub fn forward(&self, rows: &Rows, question: SegmentQuestion, context: &Context<'_>) -> Result<Tensor> {
        let hidden = Encoder::new(self.config, self.params).forward(rows, context)?;
        let first: Vec<u32> = (0..rows.rows).map(|n| (n * rows.tokens) as u32).collect();
        let x = select_rows(&hidden, &first)?;
        let dense = Linear::of(self.params, "bert.pooler.dense")?;
        let pooled = bias_add(&dense.product(&x)?, dense.bias)?.tanh()?;
        let out = Linear::of(
            self.params,
            match question {
                SegmentQuestion::Follows => "cls.seq_relationship",
                SegmentQuestion::Order => "cls.segment_order",
            },
        )?;
        bias_add(&out.product(&pooled)?, out.bias)
    }
}
