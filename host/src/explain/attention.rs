//! Attention maps, and attention rollout (Abnar & Zuidema 2020).

use candle_core::{D, Result, Tensor};

use super::Model;
use crate::{
    data::{Pair, pack},
    model::{Context, Encoder, Observer},
};

/// What each token attends to in the alternate row.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Probabilities [layers, heads, tokens, tokens]; a row says what one token reads. Heads that were pruned are the
    /// last ones of their layer, and zero.
    pub maps: Tensor,
    /// [`rollout`] of them.
    pub rollout: Vec<Vec<f64>>,
    /// Rollout of the tokens that the head pools, their mean: how much of each token reaches it.
    pub pooled: Vec<f64>,
}

/// Keeps what enters each layer's joint projection and, to prove the maps, what leaves its heads.
#[derive(Default)]
struct Tap {
    inputs: Vec<Tensor>,
    contexts: Vec<Tensor>,
}

impl Observer for Tap {
    fn observe(&mut self, name: &str, values: &Tensor) -> Result<()> {
        if name.ends_with("attention.qkv_input") {
            self.inputs.push(values.clone());
        } else if name.ends_with("attention.output_input") {
            self.contexts.push(values.clone());
        }
        Ok(())
    }
}

/// Maps of the alternate row of a pair.
///
/// # Errors
/// Rows that the model cannot take.
pub fn attention(model: &Model, pair: &Pair) -> crate::Result<Attention> {
    let (maps, _) = maps(model, pair)?;
    let (_, _, tokens, _) = maps.dims4()?;
    let mean = |(n, layer): (usize, Vec<Vec<f32>>)| {
        let share = model.config.num_attention_heads as f32 / model.config.layer_size(n).heads as f32;
        layer.into_iter().map(|row| row.into_iter().map(|p| p * share).collect()).collect()
    };
    let layers: Vec<Vec<Vec<f32>>> =
        maps.mean(1)?.to_vec3::<f32>()?.into_iter().enumerate().map(mean).collect();
    let rollout = rollout(&layers);
    let changed: Vec<usize> = (0..tokens).filter(|&t| pair.ref_ids[t] != pair.alt_ids[t]).collect();
    let share = 1.0 / changed.len().max(1) as f64;
    let pooled = (0..tokens).map(|to| changed.iter().map(|&t| share * rollout[t][to]).sum()).collect();
    Ok(Attention { maps, rollout, pooled })
}

/// Maps [layers, heads, tokens, tokens], and the contexts that the fused op gave [tokens, H] a layer.
fn maps(model: &Model, pair: &Pair) -> Result<(Tensor, Vec<Tensor>)> {
    let (c, params) = (&model.config, &model.params);
    let mut rows = pack(std::slice::from_ref(pair), c.n_features, &[pair.ref_ids.len()]).rows;
    let tokens = rows.tokens;
    rows.rows = 1;
    rows.ids.drain(..tokens);
    rows.track.drain(..tokens);
    rows.mask.drain(..tokens);
    let mut tap = Tap::default();
    Encoder::new(c, params).forward(&rows, &Context::observe(&mut tap))?;
    let width = c.head_width();
    let mut maps = Vec::with_capacity(c.num_hidden_layers);
    for (n, x) in tap.inputs.iter().enumerate() {
        let heads = c.layer_size(n).heads;
        let part = |which: &str| -> Result<Tensor> {
            let name = format!("bert.encoder.layer.{n}.attention.self.{which}");
            let y = x.matmul(&params.get(&format!("{name}.weight"))?.t()?)?;
            let y = y.broadcast_add(params.get(&format!("{name}.bias"))?)?;
            y.reshape((tokens, heads, width))?.transpose(0, 1)?.contiguous()
        };
        // The row is not padded, so that no key is masked.
        let scores = (part("query")?.matmul(&part("key")?.t()?)? / (width as f64).sqrt())?;
        let rise = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let map = rise.broadcast_div(&rise.sum_keepdim(D::Minus1)?)?;
        maps.push(map.pad_with_zeros(0, 0, c.num_attention_heads - heads)?);
    }
    Ok((Tensor::stack(&maps, 0)?, tap.contexts))
}

/// Attention from the first layer's tokens to the last layer's [tokens][tokens], from maps [layers][tokens][tokens]
/// that are means over heads: each layer reads half of what it attends to and half of itself, as the residual does.
pub fn rollout(layers: &[Vec<Vec<f32>>]) -> Vec<Vec<f64>> {
    let tokens = layers.first().map_or(0, Vec::len);
    let mut flow: Vec<Vec<f64>> =
        (0..tokens).map(|i| (0..tokens).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for layer in layers {
        let next = layer.iter().enumerate().map(|(i, row)| {
            let total: f64 = 1.0 + row.iter().map(|&a| f64::from(a)).sum::<f64>();
            (0..tokens)
                .map(|to| {
                    let read: f64 = row.iter().zip(&flow).map(|(&a, from)| f64::from(a) * from[to]).sum();
                    (read + flow[i][to]) / total
                })
                .collect()
        });
        flow = next.collect();
    }
    flow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::{model, pair};

    #[test]
    fn rollout_rows_sum_to_one_and_follow_a_chain() {
        // Token i reads token i - 1 in both layers, token 0 itself.
        let shift = |i: usize, j: usize| f32::from(u8::from(j == i.saturating_sub(1)));
        let layer: Vec<Vec<f32>> = (0..4).map(|i| (0..4).map(|j| shift(i, j)).collect()).collect();
        let flow = rollout(&[layer.clone(), layer]);
        assert_eq!(flow[3], [0.0, 0.25, 0.5, 0.25]);
        assert_eq!(flow[0], [1.0, 0.0, 0.0, 0.0]);
        let attention = attention(&model(), &pair()).unwrap();
        for row in attention.rollout.iter().chain([&attention.pooled]) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
        }
    }

    #[test]
    fn maps_give_the_context_that_the_fused_attention_gives() {
        let (model, pair) = (model(), pair());
        let (maps, contexts) = maps(&model, &pair).unwrap();
        let (layers, heads, tokens, _) = maps.dims4().unwrap();
        assert_eq!((layers, contexts.len()), (model.config.num_hidden_layers, layers));
        // The first layer's values, weighed by its map.
        let mut tap = Tap::default();
        let mut rows = pack(std::slice::from_ref(&pair), model.config.n_features, &[tokens]).rows;
        (rows.rows, rows.ids, rows.track, rows.mask) =
            (1, rows.ids.split_off(tokens), rows.track.split_off(tokens), rows.mask.split_off(tokens));
        Encoder::new(&model.config, &model.params).forward(&rows, &Context::observe(&mut tap)).unwrap();
        let get =
            |p: &str| model.params.get(&format!("bert.encoder.layer.0.attention.self.value.{p}")).unwrap();
        let v =
            tap.inputs[0].matmul(&get("weight").t().unwrap()).unwrap().broadcast_add(get("bias")).unwrap();
        let v = v.reshape((tokens, heads, ())).unwrap().transpose(0, 1).unwrap().contiguous().unwrap();
        let context =
            maps.get(0).unwrap().matmul(&v).unwrap().transpose(0, 1).unwrap().flatten_from(1).unwrap();
        let difference =
            (context - &contexts[0]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-5, "{difference}");
    }
}
