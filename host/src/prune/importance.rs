//! What the loss would feel of each head and each feed-forward column that is gone.

use candle_core::Result;

use crate::{
    model::{Context, ModelConfig, PairBatch, Params},
    train::pair_loss,
};

/// Columns of a layer stay in multiples of this where they can: as many as the widest vector holds, so that a kernel
/// computes none that is not there.
const TOGETHER: usize = 16;

/// First-order Taylor importance by layer: |activation × gradient|, each record's sum over its tokens, summed over records
/// (Michel et al. 2019 for heads, Molchanov et al. 2019 for columns).
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// Of each head.
    pub heads: Vec<Vec<f64>>,
    /// Of each column of the feed-forward layer.
    pub columns: Vec<Vec<f64>>,
}

/// What stays of a layer, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Heads.
    pub heads: Vec<usize>,
    /// Columns of the feed-forward layer.
    pub columns: Vec<usize>,
}

/// Matrices that read heads, and columns.
fn readers(layer: usize) -> [String; 2] {
    ["attention.output.dense.weight", "output.dense.weight"]
        .map(|name| format!("bert.encoder.layer.{layer}.{name}"))
}

impl Importance {
    /// Nothing seen yet.
    pub fn new(config: &ModelConfig) -> Self {
        let zeros = |of: &dyn Fn(usize) -> usize| {
            (0..config.num_hidden_layers).map(|n| vec![0.0; of(n)]).collect::<Vec<_>>()
        };
        Self { heads: zeros(&|n| config.layer_size(n).heads), columns: zeros(&|n| config.layer_size(n).ffn) }
    }

    /// Adds one record, with its label.
    ///
    /// Over one record the sum of an activation times its gradient is that of the weights that read it times theirs:
    /// both are the inner product of what the product reads with what comes back. So the layers need not show what
    /// passes through them.
    ///
    /// # Errors
    /// Rows that the model cannot take.
    pub fn add(
        &mut self,
        config: &ModelConfig,
        params: &Params,
        record: &PairBatch,
        label: f32,
    ) -> Result<()> {
        let params = params.freeze(|name| !name.ends_with("output.dense.weight"));
        let gradients = pair_loss(config, &params, record, &[label], &Context::eval())?.backward()?;
        for n in 0..config.num_hidden_layers {
            let felt = |name: &str| -> Result<Vec<f32>> {
                let weight = params.get(name)?;
                match gradients.get(weight) {
                    Some(g) => (weight.detach() * g)?.sum(0)?.to_vec1(),
                    None => Ok(vec![0.0; weight.dim(1)?]),
                }
            };
            let [heads, columns] = readers(n);
            let wide = felt(&heads)?;
            for (sum, head) in self.heads[n].iter_mut().zip(wide.chunks_exact(config.head_width())) {
                *sum += head.iter().map(|&v| f64::from(v)).sum::<f64>().abs();
            }
            self.columns[n].iter_mut().zip(felt(&columns)?).for_each(|(sum, v)| *sum += f64::from(v).abs());
        }
        Ok(())
    }

    /// What stays where no more than so many heads and columns of all layers do. A layer keeps a head and some columns
    /// at least.
    pub fn choose(&self, heads: usize, columns: usize) -> Vec<Kept> {
        let heads = pick(&self.heads, heads, 1);
        let columns = pick(&self.columns, columns, TOGETHER);
        heads.into_iter().zip(columns).map(|(heads, columns)| Kept { heads, columns }).collect()
    }
}

/// The `keep` most important of all layers, and of each layer a multiple of `together`, the nearest one. Importances are
/// compared as parts of their layer's norm: layers near the output have larger gradients.
fn pick(scores: &[Vec<f64>], keep: usize, together: usize) -> Vec<Vec<usize>> {
    let shares: Vec<Vec<f64>> = scores
        .iter()
        .map(|layer| {
            let norm = layer.iter().map(|s| s * s).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            layer.iter().map(|s| s / norm).collect()
        })
        .collect();
    let order: Vec<Vec<usize>> = shares
        .iter()
        .map(|layer| {
            let mut order: Vec<usize> = (0..layer.len()).collect();
            order.sort_by(|&a, &b| layer[b].total_cmp(&layer[a]));
            order
        })
        .collect();
    let least = |layer: usize| together.min(order[layer].len());
    let mut rest: Vec<(usize, usize)> = (0..order.len())
        .flat_map(|layer| order[layer][least(layer)..].iter().map(move |&at| (layer, at)))
        .collect();
    rest.sort_by(|a, b| shares[b.0][b.1].total_cmp(&shares[a.0][a.1]));
    let mut counts: Vec<usize> = (0..order.len()).map(least).collect();
    let more = keep.saturating_sub(counts.iter().sum());
    rest.iter().take(more).for_each(|(layer, _)| counts[*layer] += 1);
    counts
        .iter()
        .zip(&order)
        .map(|(&count, order)| {
            let count =
                ((count + together / 2) / together * together).clamp(together.min(order.len()), order.len());
            let mut kept = order[..count].to_vec();
            kept.sort_unstable();
            kept
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_go_whatever_their_layers_scale() {
        let scores = [vec![10.0, 1.0, 9.0, 2.0], vec![0.001, 0.01, 0.01, 0.001]];
        assert_eq!(pick(&scores, 4, 1), [vec![0, 2], vec![1, 2]]);
        assert_eq!(pick(&scores, 5, 1), [vec![0, 2, 3], vec![1, 2]]);
        // A layer that is all but useless keeps one.
        assert_eq!(pick(&[vec![1.0, 1.0], vec![0.0, 0.0]], 0, 1), [vec![0], vec![0]]);
        assert_eq!(pick(&scores, 100, 1), vec![vec![0, 1, 2, 3]; 2]);
    }

    #[test]
    fn columns_stay_in_multiples() {
        let scores = [(0..64).map(f64::from).collect(), (0..64).map(|i| f64::from(i % 7)).collect()];
        for keep in [0, 33, 50, 64, 90, 128] {
            let kept = pick(&scores, keep, TOGETHER);
            assert!(kept.iter().all(|k| k.len().is_multiple_of(TOGETHER) && !k.is_empty()), "{keep}");
            let all: usize = kept.iter().map(Vec::len).sum();
            assert!(all.abs_diff(keep.max(2 * TOGETHER)) <= TOGETHER, "{keep}: {all}");
        }
        let kept = pick(&scores, 64, TOGETHER);
        assert!(kept[0].iter().eq(&(64 - kept[0].len()..64).collect::<Vec<_>>()), "{kept:?}");
        assert_eq!(pick(&[vec![1.0; 5]], 2, TOGETHER), [vec![0, 1, 2, 3, 4]]);
    }
}
