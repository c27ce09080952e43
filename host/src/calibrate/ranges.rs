//! Activation ranges over training records, as the quantiser will see them.

use locus_genome::KmerTokenizer;

use crate::{
    Result,
    data::{BatchPlan, Dataset, Split, augment::training_batch},
    model::{Context, ModelConfig, PairHead, Params},
    quantise::Seen,
};

/// Activations over batches of training records, shown as training shows them: with and without transcript,
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
) -> Result<Seen> {
    let mut seen = Seen::default();
    let train = dataset.of_split(Split::Train);
    let batches = BatchPlan::new(&train, plan.batch, plan.augmentation, plan.seed, u64::MAX - 1);
    for n in 0..batches.len().min(plan.records.div_ceil(plan.batch)) {
        let (batch, _) = training_batch(dataset, tokenizer, &batches.batch(n), plan.buckets);
        PairHead::new(config, params).forward(&batch, &Context::observe(&mut seen))?;
    }
    Ok(seen)
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
