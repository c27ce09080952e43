//! Activation ranges over training records, as the quantiser will see them.

use std::collections::BTreeMap;

use candle_core::Tensor;
use locus_genome::KmerTokenizer;

use crate::{
    Result,
    data::{BatchPlan, Dataset, Split, augment::training_batch},
    model::{Context, ModelConfig, Observer, PairHead, Params},
};

/// Smallest and largest value that enters each matrix product, by its name in the calibration table.
pub type Ranges = BTreeMap<String, (f32, f32)>;

#[derive(Default)]
struct MinMax(Ranges);

impl Observer for MinMax {
    fn observe(&mut self, name: &str, values: &Tensor) -> candle_core::Result<()> {
        let values = values.flatten_all()?;
        let (low, high) = (values.min(0)?.to_scalar::<f32>()?, values.max(0)?.to_scalar::<f32>()?);
        let range = self.0.entry(name.to_owned()).or_insert((low, high));
        *range = (range.0.min(low), range.1.max(high));
        Ok(())
    }
}

/// Ranges over `batches` of training batches, shown as training shows them: with and without transcript,
/// whole and cropped.
///
/// # Errors
/// No training record, or rows that the model cannot take.
pub fn observe_ranges(
    config: &ModelConfig,
    params: &Params,
    dataset: &Dataset,
    tokenizer: &KmerTokenizer,
    plan: &RangePlan<'_>,
) -> Result<Ranges> {
    let mut seen = MinMax::default();
    let train = dataset.of_split(Split::Train);
    let batches = BatchPlan::new(&train, plan.batch, plan.augmentation, plan.seed, u64::MAX - 1);
    for n in 0..batches.len().min(plan.records.div_ceil(plan.batch)) {
        let (batch, _) = training_batch(dataset, tokenizer, &batches.batch(n), plan.buckets);
        PairHead::new(config, params).forward(&batch, &Context::observe(&mut seen))?;
    }
    Ok(seen.0)
}

/// What [`observe_ranges`] runs over.
#[derive(Clone, Copy, Debug)]
pub struct RangePlan<'a> {
    /// Training records, rounded up to whole batches.
    pub records: usize,
    /// Pairs per batch.
    pub batch: usize,
    /// Shares of bare and cropped pairs.
    pub augmentation: crate::data::Augmentation,
    /// Padded lengths.
    pub buckets: &'a [usize],
    /// Seed of the drawing.
    pub seed: u64,
}
