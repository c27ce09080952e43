//! Taking heads and columns out of the matrices themselves.

use candle_core::{Result, Tensor, bail};

use super::Kept;
use crate::model::{LayerSize, ModelConfig, Params};

/// What a tensor of a layer has a row or a column for.
enum Of {
    Heads(usize),
    Columns(usize),
}

/// Which tensors of a layer get smaller, along which dimension.
fn part(name: &str) -> Option<Of> {
    Some(match name {
        "attention.output.dense.weight" => Of::Heads(1),
        "output.dense.weight" => Of::Columns(1),
        _ if name.starts_with("attention.self.") => Of::Heads(0),
        _ if name.starts_with("intermediate.dense.") => Of::Columns(0),
        _ => return None,
    })
}

/// A model of which each layer has only what is `kept` of it, with all other numbers as they are: new parameters, and the
/// configuration that says their shapes.
///
/// # Errors
/// Heads or columns that are not there.
pub fn shrink(config: &ModelConfig, params: &Params, kept: &[Kept]) -> Result<(ModelConfig, Params)> {
    let width = config.head_width();
    let size = |k: &Kept| LayerSize { heads: k.heads.len(), ffn: k.columns.len() };
    let layer_sizes: Vec<LayerSize> = kept.iter().map(size).collect();
    let whole = LayerSize { heads: config.num_attention_heads, ffn: config.intermediate_size };
    let none_gone = layer_sizes.iter().all(|&l| l == whole);
    let smaller =
        ModelConfig { layer_sizes: if none_gone { Vec::new() } else { layer_sizes }, ..config.clone() };
    if kept.len() != config.num_hidden_layers || !smaller.layer_sizes_fit() {
        bail!("pruning: got {:?}, expected a head and a column or more of each layer", smaller.layer_sizes)
    }
    let after = Params::new(&smaller, 0)?;
    for (name, var) in params.iter() {
        let mut tensor = var.as_tensor().detach();
        let place = name.strip_prefix("bert.encoder.layer.").and_then(|rest| rest.split_once('.'));
        if let Some((layer, rest)) = place
            && let Some(kept) = layer.parse().ok().and_then(|n: usize| kept.get(n))
            && let Some(of) = part(rest)
        {
            let (dim, index): (usize, Vec<u32>) = match of {
                Of::Heads(dim) => (
                    dim,
                    kept.heads.iter().flat_map(|h| h * width..(h + 1) * width).map(|i| i as u32).collect(),
                ),
                Of::Columns(dim) => (dim, kept.columns.iter().map(|&i| i as u32).collect()),
            };
            tensor = tensor.index_select(&Tensor::new(index, tensor.device())?, dim)?;
        }
        after.set(name, &tensor.contiguous()?)?;
    }
    Ok((smaller, after))
}
