//! The objective that the trainer is given.

use std::{collections::BTreeMap, ops::Range};

use candle_core::{D, DType, Device, Result as ModelResult, Tensor};
use locus_genome::KmerTokenizer;

use super::{
    Batch, Kind, Objectives, Windows,
    bits::{self, Question},
    objectives::Maker,
};
use crate::{
    Result,
    model::{Context, MlmHead, ModelConfig, Params, SegmentHead, SegmentQuestion},
    nn::cross_entropy,
    train::{Loss, Objective},
};

/// A language model in training.
pub struct LanguageModel<'a, W> {
    /// Makes its rows.
    pub maker: Maker<'a, W>,
    /// Which questions are asked.
    pub objectives: Objectives,
    /// The model.
    pub config: &'a ModelConfig,
    /// Rows of a step.
    pub batch: usize,
    /// Held-out bases that it is validated on; none where it is not.
    pub questions: Vec<Question>,
}

/// Logits of a batch [targets, answers].
fn logits(
    config: &ModelConfig,
    params: &Params,
    batch: &Batch,
    context: &Context<'_>,
) -> ModelResult<Tensor> {
    let segments = |question| SegmentHead::new(config, params).forward(&batch.rows, question, context);
    match batch.kind {
        Kind::Mlm => MlmHead::new(config, params).forward(&batch.rows, &batch.places, context),
        Kind::NextSegment => segments(SegmentQuestion::Follows),
        Kind::Order => segments(SegmentQuestion::Order),
    }
}

impl<W: Windows> Objective for LanguageModel<'_, W> {
    type Batch = Batch;

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Batch> {
        let first = step * self.batch as u64;
        let kind = self.objectives.of_step(self.maker.seed, step);
        self.maker.batch(kind, first + rows.start as u64..first + rows.end as u64)
    }

    fn loss(&self, params: &Params, batch: &Batch, context: &Context<'_>) -> ModelResult<Loss> {
        let tokens = (batch.rows.rows * batch.rows.tokens) as u64;
        if batch.targets.is_empty() {
            return Ok(Loss::new(Tensor::zeros((), DType::F32, &Device::Cpu)?, 0.0, tokens));
        }
        let logits = logits(self.config, params, batch, context)?;
        let mean = cross_entropy(&logits, &batch.targets)?;
        let mut loss = Loss::new(mean, batch.targets.len() as f64, tokens);
        if self.objectives != Objectives::default() {
            let right = logits.argmax(D::Minus1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
            let right = right.iter().zip(&batch.targets).filter(|(a, b)| a == b).count();
            let share = right as f64 / batch.targets.len().max(1) as f64;
            loss.figures.insert(format!("{}_accuracy", batch.kind.name()), share);
        }
        Ok(loss)
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        let tokenizer: &KmerTokenizer = self.maker.windows.tokenizer();
        let bits = bits::model_bits((self.config, params), tokenizer, &self.questions, false)?;
        let mean = bits.iter().sum::<f64>() / bits.len().max(1) as f64;
        Ok(BTreeMap::from([("bits_per_base".to_owned(), mean)]))
    }
}
