//! Logits by the candle model, without gradients kept.

use locus_genome::KmerTokenizer;

use crate::{
    Result,
    data::{Dataset, Pair, View, augment::bucket_for, pack},
    model::{Context, ModelConfig, PairHead, Params},
};

/// Pairs per pass.
const BATCH: usize = 128;

/// First logit of each pair, in order; batched by bucket.
///
/// # Errors
/// Rows that the model cannot take.
pub fn logits(config: &ModelConfig, params: &Params, pairs: &[Pair], buckets: &[usize]) -> Result<Vec<f32>> {
    let mut all = vec![0.0; pairs.len()];
    for &bucket in buckets {
        let here: Vec<usize> =
            (0..pairs.len()).filter(|&i| bucket_for(pairs[i].ref_ids.len(), buckets) == bucket).collect();
        for chunk in here.chunks(BATCH) {
            let picked: Vec<Pair> = chunk.iter().map(|&i| pairs[i].clone()).collect();
            let batch = pack(&picked, config.n_features, buckets);
            let values = PairHead::new(config, params).forward(&batch, &Context::eval())?.to_vec2::<f32>()?;
            for (&i, row) in chunk.iter().zip(&values) {
                all[i] = row[0];
            }
        }
    }
    Ok(all)
}

/// The pairs of some records under one view.
pub fn view_of(dataset: &Dataset, tokenizer: &KmerTokenizer, records: &[usize], view: View) -> Vec<Pair> {
    records.iter().map(|&i| view.of(&dataset.records[i], tokenizer)).collect()
}
