//! What a sequence head adds to its logits: a linear model that was fitted before training and is not moved by it.

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};

use crate::model::{ModelConfig, Params, WidePath, encoder::Rows, params::Shapes};

/// One number a label.
pub(crate) const BIAS: &str = "head.linear.bias";
/// Kind of each token, [vocabulary]; 0 for what has none.
pub(crate) const KINDS: &str = "head.linear.kinds";
/// Weights of a replaced token and what stands in its place, [track codes · vocabulary, labels].
pub(crate) const PAIRS: &str = "head.linear.pairs";
/// Weights of the places of a row, [positions, labels].
pub(crate) const PLACES: &str = "head.linear.places";

/// Weights of runs of this many tokens, [(kinds + 1)^length, labels], the first token's kind counting most.
pub(crate) fn grams(length: usize) -> String {
    format!("head.linear.grams.{length}")
}

/// Adds the tensors of the path.
pub(super) fn shapes(config: &ModelConfig, shapes: &mut Shapes) {
    let labels = config.labels.len();
    let Some(path) = &config.wide else { return };
    shapes.add(BIAS, &[labels]);
    match path {
        WidePath::Grams { .. } => {
            shapes.add(KINDS, &[config.vocab_size]);
            for (shorter, rows) in path.gram_rows().unwrap_or_default().into_iter().enumerate() {
                shapes.add(&grams(shorter + 1), &[rows, labels]);
            }
        }
        WidePath::Substitutions => {
            shapes.add(PAIRS, &[config.type_vocab_size * config.vocab_size, labels]);
            shapes.add(PLACES, &[config.max_position_embeddings, labels]);
        }
    }
}

/// Numbers of the runs of 1, 2, … `n` kinds, each number once with ln(1 + count); runs with the kind 0 are left out.
pub(crate) fn counted(kinds: &[usize], n: usize, base: usize) -> Vec<Vec<(usize, f64)>> {
    (1..=n)
        .map(|length| {
            let mut counts: HashMap<usize, f64> = HashMap::new();
            for run in kinds.windows(length).filter(|run| !run.contains(&0)) {
                *counts.entry(run.iter().fold(0, |number, kind| number * base + kind)).or_default() += 1.0;
            }
            let mut counts: Vec<(usize, f64)> = counts.into_iter().map(|(i, c)| (i, c.ln_1p())).collect();
            counts.sort_unstable_by_key(|(i, _)| *i);
            counts
        })
        .collect()
}

/// Logits [rows, labels] of the path alone; no gradient goes into it.
///
/// # Errors
/// A configuration without such a path, or rows that it cannot take.
pub(crate) fn logits(config: &ModelConfig, params: &Params, rows: &Rows) -> Result<Tensor> {
    let labels = config.labels.len();
    let values = |name: &str| params.get(name)?.flatten_all()?.to_vec1::<f32>();
    let bias = values(BIAS)?;
    let mut all = Vec::with_capacity(rows.rows * labels);
    let beyond = || {
        let (v, t) = (config.vocab_size, config.type_vocab_size);
        candle_core::Error::msg(format!("sequence head: got a token beyond {v} ids and {t} track codes"))
    };
    let add = |sums: &mut [f32], table: &[f32], row: usize, times: f32| {
        let weights = table.get(row * labels..(row + 1) * labels).ok_or_else(beyond)?;
        sums.iter_mut().zip(weights).for_each(|(sum, w)| *sum += w * times);
        Ok::<_, candle_core::Error>(())
    };
    match &config.wide {
        None => bail!("sequence head: got no wide path, expected one in the configuration"),
        Some(WidePath::Grams { n, kinds: count }) => {
            let of = values(KINDS)?;
            let tables = (1..=*n).map(|length| values(&grams(length))).collect::<Result<Vec<_>>>()?;
            for ids in rows.ids.chunks_exact(rows.tokens) {
                let kinds = ids.iter().map(|&id| of.get(id as usize).map(|&kind| kind as usize));
                let kinds = kinds.collect::<Option<Vec<_>>>().ok_or_else(beyond)?;
                let mut sums = bias.clone();
                for (table, runs) in tables.iter().zip(counted(&kinds, *n, count + 1)) {
                    for (run, log) in runs {
                        add(&mut sums, table, run, log as f32)?;
                    }
                }
                all.extend(sums);
            }
        }
        Some(WidePath::Substitutions) => {
            let (pairs, places) = (values(PAIRS)?, values(PLACES)?);
            for n in 0..rows.rows {
                let at = n * rows.tokens..(n + 1) * rows.tokens;
                let marked: Vec<usize> =
                    at.clone().filter(|&i| rows.track[i] > 0 && rows.mask[i] > 0.0).collect();
                let share = 1.0 / marked.len().max(1) as f32;
                let mut sums = bias.clone();
                for i in marked {
                    let (track, id) = (rows.track[i] as usize, rows.ids[i] as usize);
                    if id >= config.vocab_size {
                        return Err(beyond());
                    }
                    add(&mut sums, &pairs, track * config.vocab_size + id, share)?;
                    add(&mut sums, &places, i - at.start, share)?;
                }
                all.extend(sums);
            }
        }
    }
    Tensor::from_vec(all, (rows.rows, labels), params.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_by_their_kinds_and_counted_on_a_log_scale() {
        let runs = counted(&[0, 1, 2, 1, 2, 0, 2], 3, 3);
        assert_eq!(runs[0], [(1, 2_f64.ln_1p()), (2, 3_f64.ln_1p())]);
        assert_eq!(runs[1], [(5, 2_f64.ln_1p()), (7, 1_f64.ln_1p())]);
        assert_eq!(runs[2], [(16, 1_f64.ln_1p()), (23, 1_f64.ln_1p())]);
        assert_eq!(counted(&[1], 2, 3)[1], []);
    }
}
