//! Unstructured pruning: the smallest weights are zero, and stay so while the others go on learning (Zhu & Gupta 2017).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::Params;

/// Among which weights the smallest are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Of all matrices together.
    #[default]
    Global,
    /// Of each matrix apart.
    Layer,
}

/// Matrices of the encoder's layers and of the head; embeddings, biases and norms are few, and stay.
fn prunable(name: &str) -> bool {
    (name.starts_with("bert.encoder.layer.") || name.starts_with("head."))
        && name.ends_with(".weight")
        && !name.contains("LayerNorm")
}

/// Masks of ones and zeros by name that hide the `share` of weights of least magnitude.
///
/// # Errors
/// No memory.
pub fn masks(params: &Params, share: f64, scope: Scope) -> Result<BTreeMap<String, Tensor>> {
    let mut sizes: Vec<(&str, Vec<f32>)> = Vec::new();
    for (name, var) in params.iter().filter(|(name, var)| prunable(name) && var.dims().len() == 2) {
        sizes.push((name, var.as_tensor().detach().abs()?.flatten_all()?.to_vec1()?));
    }
    let all = smallest(sizes.iter().flat_map(|(_, s)| s.iter().copied()).collect(), share);
    let mut masks = BTreeMap::new();
    for (name, sizes) in sizes {
        let hidden = if scope == Scope::Global { all } else { smallest(sizes.clone(), share) };
        let mask: Vec<f32> =
            sizes.iter().map(|&s| f32::from(u8::from(hidden.is_none_or(|h| s > h)))).collect();
        let like = params.get(name)?;
        masks.insert(name.to_owned(), Tensor::from_vec(mask, like.shape(), like.device())?);
    }
    Ok(masks)
}

/// The largest of the `share` of smallest sizes; `None` where these are none.
fn smallest(mut sizes: Vec<f32>, share: f64) -> Option<f32> {
    let count = (sizes.len() as f64 * share).round() as usize;
    let last = count.min(sizes.len()).checked_sub(1)?;
    Some(*sizes.select_nth_unstable_by(last, f32::total_cmp).1)
}

/// Sets to zero what is masked.
///
/// # Errors
/// Masks of another model.
pub fn apply(params: &Params, masks: &BTreeMap<String, Tensor>) -> Result<()> {
    masks.iter().try_for_each(|(name, mask)| params.set(name, &(params.get(name)?.detach() * mask)?))
}
