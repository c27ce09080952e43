//! Logits by the candle model, without a graph for gradients.

use locus_genome::EncodedSequence;

use super::pack;
use crate::{
    Result,
    model::{Context, ModelConfig, Params, SequenceHead},
    quantise::Seen,
};

/// Tokens per pass, padding included.
const TOKENS: usize = 16_384;

/// Places of sequences in groups of like length, each of at most [`TOKENS`] tokens or one sequence.
pub(super) fn groups(sequences: &[EncodedSequence]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&i| sequences[i].ids.len());
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match groups.last_mut() {
            Some(group) if (group.len() + 1) * sequences[i].ids.len() <= TOKENS => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    groups
}

/// Logits of each sequence, in order.
///
/// # Errors
/// Rows that the model cannot take.
pub fn logits(config: &ModelConfig, params: &Params, sequences: &[EncodedSequence]) -> Result<Vec<Vec<f32>>> {
    let params = &params.frozen();
    let mut all = vec![Vec::new(); sequences.len()];
    for group in groups(sequences) {
        let picked: Vec<EncodedSequence> = group.iter().map(|&i| sequences[i].clone()).collect();
        let values = SequenceHead::new(config, params).forward(&pack(&picked), &Context::eval())?;
        for (i, row) in group.into_iter().zip(values.to_vec2::<f32>()?) {
            all[i] = row;
        }
    }
    Ok(all)
}

/// What enters each matrix product, over these sequences.
///
/// # Errors
/// Rows that the model cannot take, or an activation that is not finite.
pub fn observe(config: &ModelConfig, params: &Params, sequences: &[EncodedSequence]) -> Result<Seen> {
    let params = &params.frozen();
    let mut seen = Seen::default();
    for group in groups(sequences) {
        let picked: Vec<EncodedSequence> = group.iter().map(|&i| sequences[i].clone()).collect();
        SequenceHead::new(config, params).forward(&pack(&picked), &Context::observe(&mut seen))?;
    }
    Ok(seen)
}
