//! Logits by the candle model, without a graph for gradients.

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
    let params = &params.frozen();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_graph_is_kept_and_the_logits_are_those_of_training() {
        let recipe = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
        let config = crate::Recipe::read(&recipe).unwrap().model_config(69, 3);
        let params = Params::new(&config, 1).unwrap();
        let pair = |shift: u16| Pair {
            ref_ids: vec![2, 9, 20, 3],
            alt_ids: vec![2, 11 + shift, 20, 3],
            track: vec![0, 6, 6, 0],
            ..Pair::default()
        };
        let pairs = [pair(0), pair(1)];
        let batch = pack(&pairs, config.n_features, &[8]);
        let run = |params: &Params| PairHead::new(&config, params).forward(&batch, &Context::eval()).unwrap();
        let (kept, freed) = (run(&params), run(&params.frozen()));
        assert!(kept.track_op() && !freed.track_op());
        let values: Vec<f32> = kept.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, freed.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(values, logits(&config, &params, &pairs, &[8]).unwrap());
    }

    #[test]
    fn frozen_parameters_follow_a_step() {
        let recipe = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
        let config = crate::Recipe::read(&recipe).unwrap().model_config(69, 3);
        let params = Params::new(&config, 1).unwrap();
        let frozen = params.frozen();
        let name = "head.out.bias";
        let var = params.iter().find(|(n, _)| *n == name).unwrap().1;
        var.set(&candle_core::Tensor::new(&[4.0f32], &candle_core::Device::Cpu).unwrap()).unwrap();
        assert_eq!(frozen.get(name).unwrap().to_vec1::<f32>().unwrap(), [4.0]);
    }
}
