//! What a stage gives to the loop that trains.

use std::{collections::BTreeMap, ops::Range};

use candle_core::{Result as ModelResult, Tensor};

use crate::{
    Result,
    model::{Context, Params},
};

/// What is trained on and how it is judged. The loop asks for some rows of a step at a time: a step's rows are the
/// same however many micro-batches or ranks share them.
pub trait Objective: Sync {
    /// Some rows, ready for the model.
    type Batch: Send;

    /// Rows `rows` of the [`Trainer::batch`](super::Trainer) rows of `step` (from 0). The same for every call;
    /// it may be asked for ahead of time, on another thread.
    ///
    /// # Errors
    /// Data that cannot be read.
    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch>;

    /// Loss of a batch.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn loss(&self, params: &Params, batch: &Self::Batch, context: &Context<'_>) -> ModelResult<Loss>;

    /// Figures by name, on data that is not trained on; none where the stage does not validate.
    ///
    /// # Errors
    /// Data that cannot be read, or shapes that do not fit.
    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>>;

    /// Names of the records of a batch, where they have some; said where its loss is not finite.
    fn records(&self, _batch: &Self::Batch) -> Vec<String> {
        Vec::new()
    }
}

/// Loss of a micro-batch.
pub struct Loss {
    /// Mean over the rows or tokens that have a target; a scalar.
    pub mean: Tensor,
    /// How many these are: micro-batches are weighted by it, so that their sum is one batch. Where it is 0 the
    /// micro-batch is left out.
    pub weight: f64,
    /// Tokens that the model read, padding included.
    pub tokens: u64,
    /// Further figures for the log, means over the same rows, such as the parts of a mixed loss.
    pub figures: BTreeMap<String, f64>,
}

impl Loss {
    /// A loss without further figures.
    pub const fn new(mean: Tensor, weight: f64, tokens: u64) -> Self {
        Self { mean, weight, tokens, figures: BTreeMap::new() }
    }
}
