//! Are the attributions complete, and faithful to the model? Figures over many variants.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use locus_genome::{InputMode, ReferencePack, Variant};
use serde::Serialize;

use super::{
    Attribution, Curves, Model, Subject, deletion,
    deletion::{SHARES, area},
    gradients::Inputs,
    integrated_gradients,
};
use crate::{
    Error, Result,
    data::Pair,
    evaluate::{Estimate, estimate},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;
/// Pairs in one pass.
const CHUNK: usize = 32;

/// Figures of one input mode; estimates are means over variants, with intervals over resampled genes.
#[derive(Clone, Debug, Serialize)]
pub struct ModeFaithfulness {
    /// Variants.
    pub records: usize,
    /// Their genes.
    pub genes: usize,
    /// Median completeness error.
    pub completeness_error_median: f64,
    /// Its 90th percentile.
    pub completeness_error_p90: f64,
    /// Share of variants with an error of at most 1 %.
    pub within_one_percent: f64,
    /// Median number of points along the path.
    pub points_median: f64,
    /// Mean shares of words, track and features in the absolute attributions.
    pub shares: [f64; 3],
    /// Areas under the deletion curves, in logits: `top`, `random`, `least`, `kept`, and the differences
    /// `top_over_random` and `random_over_least`; `all` is what hiding every token loses.
    pub areas: BTreeMap<&'static str, Estimate>,
    /// Mean curves over [`SHARES`].
    pub curves: Curves,
}

/// The report of [`test`].
#[derive(Clone, Debug, Serialize)]
pub struct Faithfulness {
    /// The model.
    pub model: String,
    /// What was hidden, and how.
    pub hidden: &'static str,
    /// Shares of tokens hidden.
    pub shares: [f64; 8],
    /// Resamples of each interval and their seed.
    pub intervals: String,
    /// Variants left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// By input mode.
    pub modes: BTreeMap<String, ModeFaithfulness>,
}

/// Hides tokens of a pair (word and track of both rows) and gives the first logit of each set.
fn hide(model: &Model, inputs: &Inputs, sets: &[Vec<bool>]) -> Result<Vec<f64>> {
    let (tokens, h) = (inputs.rows.tokens, model.config.hidden_size);
    let cube = |t: &Tensor| t.reshape((2, 1, tokens, h));
    let (served, change) = (cube(&inputs.served)?, cube(&(&inputs.blank - &inputs.served)?)?);
    let mut logits = Vec::with_capacity(sets.len());
    for chunk in sets.chunks(CHUNK) {
        let n = chunk.len();
        // [CLS] and [SEP] stay.
        let row = |set: &Vec<bool>| {
            let inner = set.iter().map(|&hidden| f32::from(u8::from(hidden)));
            std::iter::once(0.0).chain(inner).chain(std::iter::once(0.0)).collect::<Vec<f32>>()
        };
        let hidden: Vec<f32> = chunk.iter().flat_map(row).collect();
        let hidden = Tensor::from_vec(hidden, (1, n, tokens, 1), &Device::Cpu)?;
        let embedded = served.broadcast_add(&change.broadcast_mul(&hidden)?)?.reshape((2 * n * tokens, h))?;
        let features = inputs.features.repeat((n, 1))?;
        let values = inputs.logits(model, &embedded, &features)?.to_vec1::<f32>()?;
        logits.extend(values.into_iter().map(f64::from));
    }
    Ok(logits)
}

/// Attribution and deletion curves of one pair.
pub(super) fn of_pair(model: &Model, pair: &Pair, seed: u64) -> Result<(Attribution, Curves)> {
    let attribution = integrated_gradients(model, pair)?;
    let tokens = attribution.tokens();
    let inputs = Inputs::of(model, pair)?;
    let curves = deletion(&tokens[1..tokens.len() - 1], seed, |sets| hide(model, &inputs, sets))?;
    Ok((attribution, curves))
}

fn quantile(values: impl Iterator<Item = f64>, q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0, 0.0), |(n, sum), v| (n + 1, sum + v));
    sum / f64::from(n)
}

fn summary(found: &[(String, Attribution, Curves)], seed: u64) -> ModeFaithfulness {
    let genes: Vec<&str> = found.iter().map(|f| f.0.as_str()).collect();
    let areas: Vec<[f64; 7]> = found
        .iter()
        .map(|(_, _, c)| {
            let [top, random, least, kept] = [&c.top, &c.random, &c.least, &c.kept].map(|v| area(v));
            [top, random, least, kept, top - random, random - least, c.top.last().copied().unwrap_or(0.0)]
        })
        .collect();
    const NAMES: [&str; 7] =
        ["top", "random", "least", "kept", "top_over_random", "random_over_least", "all"];
    let figures = |picked: &[usize]| -> Vec<Option<f64>> {
        (0..NAMES.len()).map(|f| Some(mean(picked.iter().map(|&i| areas[i][f])))).collect()
    };
    let estimates = estimate(&genes, RESAMPLES, seed, figures);
    let curve = |of: &dyn Fn(&Curves) -> &Vec<f64>| -> Vec<f64> {
        (0..SHARES.len()).map(|s| mean(found.iter().map(|f| of(&f.2)[s]))).collect()
    };
    let errors = || found.iter().map(|f| f.1.completeness_error);
    let mut distinct = genes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    ModeFaithfulness {
        records: found.len(),
        genes: distinct.len(),
        completeness_error_median: quantile(errors(), 0.5),
        completeness_error_p90: quantile(errors(), 0.9),
        within_one_percent: mean(errors().map(|e| f64::from(u8::from(e <= 0.01)))),
        points_median: quantile(found.iter().map(|f| f.1.points as f64), 0.5),
        shares: [0, 1, 2].map(|i| mean(found.iter().map(|f| f.1.shares()[i]))),
        areas: NAMES.into_iter().zip(estimates).filter_map(|(n, e)| Some((n, e?))).collect(),
        curves: Curves {
            top: curve(&|c| &c.top),
            random: curve(&|c| &c.random),
            least: curve(&|c| &c.least),
            kept: curve(&|c| &c.kept),
        },
    }
}

/// Explains every record (variant and gene) in both input modes and tests the explanations.
///
/// # Errors
/// No record that the model can read, or a step that fails.
pub fn test(
    model: &Model,
    reference: &ReferencePack,
    records: &[(Variant, String)],
    seed: u64,
    mut tick: impl FnMut(usize, usize),
) -> Result<Faithfulness> {
    let mut modes = BTreeMap::new();
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    let both = [InputMode::Transcript, InputMode::SequenceOnly];
    for (m, mode) in both.into_iter().enumerate() {
        let mut found = Vec::new();
        for (n, (variant, gene)) in records.iter().enumerate() {
            tick(m * records.len() + n + 1, both.len() * records.len());
            match Subject::new(model, reference, variant.clone(), mode) {
                Ok(subject) => {
                    let (attribution, curves) = of_pair(model, &subject.pair(), seed ^ n as u64)?;
                    found.push((gene.clone(), attribution, curves));
                }
                Err(Error::Encode(e)) => *left_out.entry(e.code().to_owned()).or_default() += 1,
                Err(Error::Data { got, .. }) => *left_out.entry(got).or_default() += 1,
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() {
            return Err(Error::Data {
                what: "explain test".into(),
                got: format!("no variant that the model can read ({left_out:?})"),
                expected: "single-base variants on the reference".into(),
            });
        }
        modes.insert(mode.as_str().to_owned(), summary(&found, seed));
    }
    Ok(Faithfulness {
        model: model.name.clone(),
        hidden: "words (by [MASK]) and track of whole tokens, in both rows; features stay",
        shares: SHARES,
        intervals: format!("95 %, {RESAMPLES} resamples of genes, seed {seed}"),
        left_out,
        modes,
    })
}
