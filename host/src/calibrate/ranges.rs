//! Activation ranges over training records, as the quantiser will see them.

use std::collections::BTreeMap;

use candle_core::Tensor;
use locus_calibration::MinMax;
use locus_genome::KmerTokenizer;

use crate::{
    Result,
    data::{BatchPlan, Dataset, Split, augment::training_batch},
    model::{Context, ModelConfig, Observer, PairHead, Params},
};

/// Smallest and largest value that enters each matrix product, by its name in the calibration table.
pub type Ranges = BTreeMap<String, (f32, f32)>;

#[derive(Default)]
struct Seen(BTreeMap<String, MinMax>);

impl Observer for Seen {
    fn observe(&mut self, name: &str, values: &Tensor) -> candle_core::Result<()> {
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        let seen = self.0.entry(name.to_owned()).or_default();
        seen.observe(&values).map_err(|error| candle_core::Error::msg(format!("activation {name}: {error}")))
    }
}

/// Ranges over `batches` of training batches, shown as training shows them: with and without transcript,
/// whole and cropped.
///
/// # Errors
/// No training record, rows that the model cannot take, or an activation that is not finite.
pub fn observe_ranges(
    config: &ModelConfig,
    params: &Params,
    dataset: &Dataset,
    tokenizer: &KmerTokenizer,
    plan: &RangePlan<'_>,
) -> Result<Ranges> {
    let mut seen = Seen::default();
    let train = dataset.of_split(Split::Train);
    let batches = BatchPlan::new(&train, plan.batch, plan.augmentation, plan.seed, u64::MAX - 1);
    for n in 0..batches.len().min(plan.records.div_ceil(plan.batch)) {
        let (batch, _) = training_batch(dataset, tokenizer, &batches.batch(n), plan.buckets);
        PairHead::new(config, params).forward(&batch, &Context::observe(&mut seen))?;
    }
    let range = |(name, seen): (String, MinMax)| Some((name, seen.range()?));
    Ok(seen.0.into_iter().filter_map(range).map(|(name, r)| (name, (r.min, r.max))).collect())
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn an_activation_that_is_not_finite_gives_no_range_but_an_error_that_names_it() {
        let mut seen = Seen::default();
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        seen.observe("layer.0.input", &tensor(&[1.0, -2.0])).unwrap();
        let error = seen.observe("layer.0.input", &tensor(&[3.0, f32::NAN])).unwrap_err();
        assert!(error.to_string().contains("layer.0.input"), "{error}");
    }
}
