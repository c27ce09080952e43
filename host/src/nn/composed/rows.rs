//! Rows of tables and of hidden states. candle's own gradient of a selection adds row after row on one thread of a GPU;
//! here it is a matrix product, or another selection.

use std::sync::Arc;

use candle_core::{D, DType, Result, Tensor};

use super::super::recorded::{recorded, recorded_alone};

/// Elements of a one-hot matrix at most.
const ONE_HOT: usize = 1 << 24;

/// As [`embed`](crate::nn::embed), whose checks were made.
pub(in super::super) fn embed(
    word: &Tensor,
    position: &Tensor,
    track_table: &Tensor,
    ids: &[u32],
    track: &[u32],
    tokens: usize,
) -> Result<Tensor> {
    let (n, device) = (ids.len(), word.device());
    let index = |values: &[u32]| Tensor::from_slice(values, values.len(), device);
    let (words, tracks) = (index(ids)?, index(track)?);
    let at = position.detach().narrow(0, 0, tokens)?;
    let sum = (word.detach().index_select(&words, 0)? + track_table.detach().index_select(&tracks, 0)?)?;
    let h = word.dim(D::Minus1)?;
    let sum = sum.reshape((n / tokens, tokens, h))?.broadcast_add(&at)?.reshape((n, h))?;
    let (vocabulary, positions, codes) = (word.dim(0)?, position.dim(0)?, track_table.dim(0)?);
    let small = Tensor::cat(&[position, track_table], 0)?;
    recorded(word, &small, &sum, move |g| {
        let g = g.to_dtype(DType::F32)?;
        let first = g.reshape((n / tokens, tokens, h))?.sum(0)?;
        let rest = Tensor::zeros((positions - tokens, h), DType::F32, g.device())?;
        let small = match positions - tokens {
            0 => Tensor::cat(&[first, scatter(&g, &tracks, codes)?], 0)?,
            _ => Tensor::cat(&[first, rest, scatter(&g, &tracks, codes)?], 0)?,
        };
        Ok((scatter(&g, &words, vocabulary)?, small))
    })
}

/// Sums the rows of `g` [n, H] by `index` [n] into [rows, H].
fn scatter(g: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor> {
    let (n, h) = g.dims2()?;
    let numbers = Tensor::arange(0, rows as u32, g.device())?.reshape((rows, 1))?;
    let chunk = (ONE_HOT / rows).max(1);
    let mut sum = Tensor::zeros((rows, h), DType::F32, g.device())?;
    for from in (0..n).step_by(chunk) {
        let len = chunk.min(n - from);
        let one_hot = numbers.broadcast_eq(&index.narrow(0, from, len)?.reshape((1, len))?)?;
        sum = (sum + one_hot.to_dtype(DType::F32)?.matmul(&g.narrow(0, from, len)?)?)?;
    }
    Ok(sum)
}

/// Rows `places` of `x` [n, H], each of them once.
pub(in super::super) fn select_rows(x: &Tensor, places: &[u32]) -> Result<Tensor> {
    let (n, h) = x.dims2()?;
    let index = Tensor::from_slice(places, places.len(), x.device())?;
    let selected = x.detach().index_select(&index, 0)?;
    // What was not selected has the gradient of a row of zeros behind the last.
    let mut back = vec![places.len() as u32; n];
    for (number, &place) in places.iter().enumerate() {
        back[place as usize] = number as u32;
    }
    let back: Arc<[u32]> = back.into();
    recorded_alone(x, &selected, move |g| {
        let padded = Tensor::cat(&[g, &Tensor::zeros((1, h), g.dtype(), g.device())?], 0)?;
        padded.index_select(&Tensor::from_slice(&back, n, g.device())?, 0)
    })
}
