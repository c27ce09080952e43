//! Integrated gradients (Sundararajan et al. 2017) of the first logit.
//!
//! The path is a straight line from a blank input to the variant as it is served. Blank is what the model met when
//! it was trained and knows nothing from: [MASK] for every word of both rows, track code 0 and no feature. What the
//! two rows share so counts as context, and what differs between them as the change; the places that the head pools
//! stay those of the variant along the whole path.

use candle_core::{Device, Tensor, Var};
use locus_genome::tokenizer::{CLS, MASK, PAD, SEP};
use serde::Serialize;

use super::{Model, quadrature::gauss_legendre};
use crate::{
    Result,
    data::{Pair, pack},
    model::{Context, Encoder, PairHead, Rows},
};

/// Completeness error at which no more points are added.
const TARGET: f64 = 0.01;
/// Points along the path; each try starts anew with twice as many.
const POINTS: [usize; 5] = [16, 32, 64, 128, 256];
/// Points in one pass.
const CHUNK: usize = 16;

/// What each input adds to the logit, beside a blank input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribution {
    /// Of the words of both rows, per token with [CLS] and [SEP].
    pub words: Vec<f64>,
    /// Of the track, per token.
    pub track: Vec<f64>,
    /// Of each feature.
    pub features: Vec<f64>,
    /// The logit of the variant.
    pub logit: f64,
    /// The logit of the blank input.
    pub blank: f64,
    /// |sum of all attributions − (logit − blank)| / |logit − blank|.
    pub completeness_error: f64,
    /// Points along the path.
    pub points: usize,
}

impl Attribution {
    /// Words and track of each token.
    pub fn tokens(&self) -> Vec<f64> {
        self.words.iter().zip(&self.track).map(|(w, t)| w + t).collect()
    }

    /// Shares of words, track and features in the sum of absolute attributions.
    pub fn shares(&self) -> [f64; 3] {
        let sizes =
            [&self.words, &self.track, &self.features].map(|v| v.iter().map(|a| a.abs()).sum::<f64>());
        let total = sizes.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        sizes.map(|s| s / total)
    }
}

/// One pair's embeddings and what stands in their place.
pub(super) struct Inputs {
    /// Reference and alternate row.
    pub(super) rows: Rows,
    /// Features [1, n].
    pub(super) features: Tensor,
    /// Embeddings [2·tokens, H] as served.
    pub(super) served: Tensor,
    /// The same with every word hidden.
    pub(super) hidden: Tensor,
    /// And without the track.
    pub(super) blank: Tensor,
}

impl Inputs {
    pub(super) fn of(model: &Model, pair: &Pair) -> Result<Self> {
        let batch = pack(std::slice::from_ref(pair), model.config.n_features, &[pair.ref_ids.len()]);
        let encoder = Encoder::new(&model.config, &model.params);
        let rows = batch.rows;
        let hide = |&id: &u32| if [CLS, SEP, PAD].contains(&id) { id } else { MASK };
        let hidden = Rows { ids: rows.ids.iter().map(hide).collect(), ..rows.clone() };
        let blank = Rows { track: vec![0; rows.track.len()], ..hidden.clone() };
        Ok(Self {
            features: Tensor::from_vec(batch.features, (1, model.config.n_features), &Device::Cpu)?,
            served: encoder.embed(&rows)?,
            hidden: encoder.embed(&hidden)?,
            blank: encoder.embed(&blank)?,
            rows,
        })
    }

    /// The rows of `n` copies of the pair.
    fn repeated(&self, n: usize) -> Rows {
        let half = self.rows.tokens;
        let ids = [&self.rows.ids[..half], &self.rows.ids[half..]].concat();
        let twice = |of: &[u32]| [of[..half].repeat(n), of[half..].repeat(n)].concat();
        Rows {
            rows: 2 * n,
            tokens: half,
            ids: twice(&ids),
            track: twice(&self.rows.track),
            mask: vec![1.0; 2 * n * half],
        }
    }

    /// First logits [n] for embeddings [2·n·tokens, H] (all reference rows first) and features [n, ..].
    pub(super) fn logits(&self, model: &Model, embedded: &Tensor, features: &Tensor) -> Result<Tensor> {
        let rows = self.repeated(features.dim(0)?);
        let context = Context::eval();
        let hidden = Encoder::new(&model.config, &model.params).encode(embedded, &rows, &context)?;
        let logits = PairHead::new(&model.config, &model.params).read(&hidden, &rows, features, &context)?;
        Ok(logits.narrow(1, 0, 1)?.flatten_all()?)
    }

    fn logit(&self, model: &Model, embedded: &Tensor, features: &Tensor) -> Result<f64> {
        Ok(f64::from(self.logits(model, embedded, features)?.to_vec1::<f32>()?[0]))
    }
}

/// Attributes the first logit of a pair; points are added until the completeness error is at most 1 %, or there are
/// 256 of them.
///
/// # Errors
/// Rows that the model cannot take.
pub fn integrated_gradients(model: &Model, pair: &Pair) -> Result<Attribution> {
    let inputs = Inputs::of(model, pair)?;
    let none = inputs.features.zeros_like()?;
    let logit = inputs.logit(model, &inputs.served, &inputs.features)?;
    let blank = inputs.logit(model, &inputs.blank, &none)?;
    let mut best: Option<Attribution> = None;
    for points in POINTS {
        let found = along(model, &inputs, points, (logit, blank))?;
        if best.as_ref().is_none_or(|b| found.completeness_error < b.completeness_error) {
            best = Some(found);
        }
        if best.as_ref().is_some_and(|b| b.completeness_error <= TARGET) {
            break;
        }
    }
    Ok(best.expect("there is a first number of points"))
}

fn along(model: &Model, inputs: &Inputs, points: usize, (logit, blank): (f64, f64)) -> Result<Attribution> {
    let (tokens, h) = (inputs.rows.tokens, model.config.hidden_size);
    let cube = |t: &Tensor| t.reshape((2, 1, tokens, h));
    let (start, change) = (cube(&inputs.blank)?, cube(&(&inputs.served - &inputs.blank)?)?);
    let mut slope = Tensor::zeros((2, tokens, h), candle_core::DType::F32, &Device::Cpu)?;
    let mut feature_slope = inputs.features.zeros_like()?;
    for chunk in gauss_legendre(points).chunks(CHUNK) {
        let n = chunk.len();
        let column =
            |of: &dyn Fn(&(f64, f64)) -> f64| -> Vec<f32> { chunk.iter().map(|p| of(p) as f32).collect() };
        let (at, weights) = (column(&|p| p.0), column(&|p| p.1));
        let alpha = Tensor::from_slice(&at, (1, n, 1, 1), &Device::Cpu)?;
        let embedded = start.broadcast_add(&change.broadcast_mul(&alpha)?)?.reshape((2 * n * tokens, h))?;
        let embedded = Var::from_tensor(&embedded)?;
        let features = inputs.features.broadcast_mul(&alpha.reshape((n, 1))?)?;
        let features = Var::from_tensor(&features)?;
        let logits = inputs.logits(model, embedded.as_tensor(), features.as_tensor())?;
        let gradients = logits.sum_all()?.backward()?;
        let weights = Tensor::from_slice(&weights, (1, n, 1, 1), &Device::Cpu)?;
        if let Some(g) = gradients.get(embedded.as_tensor()) {
            slope = (slope + g.reshape((2, n, tokens, h))?.broadcast_mul(&weights)?.sum(1)?)?;
        }
        if let Some(g) = gradients.get(features.as_tensor()) {
            feature_slope = (feature_slope + g.broadcast_mul(&weights.reshape((n, 1))?)?.sum_keepdim(0)?)?;
        }
    }
    let given = |from: &Tensor, to: &Tensor| -> Result<Vec<f64>> {
        let parts = ((to - from)?.reshape((2, tokens, h))? * &slope)?.sum(2)?.sum(0)?;
        Ok(parts.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    };
    let words = given(&inputs.hidden, &inputs.served)?;
    let track = given(&inputs.blank, &inputs.hidden)?;
    let features = (&inputs.features * feature_slope)?.flatten_all()?.to_vec1::<f32>()?;
    let features: Vec<f64> = features.into_iter().map(f64::from).collect();
    let sum: f64 = words.iter().chain(&track).chain(&features).sum();
    let whole = logit - blank;
    let completeness_error = (sum - whole).abs() / whole.abs().max(f64::MIN_POSITIVE);
    Ok(Attribution { words, track, features, logit, blank, completeness_error, points })
}
