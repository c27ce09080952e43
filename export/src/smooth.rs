//! Scale migration on a checkpoint: the same function, whose activations quantise better.

use std::collections::BTreeMap;

use locus_calibration::migration;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{ExportError, ModelConfig, SafetensorsWeights, WeightSource};

/// Where an activation comes from and which weights read it. What makes it is divided channel by channel, what reads it
/// is multiplied.
struct Place {
    activation: String,
    channels: usize,
    /// Vectors [channels] and matrices [channels, …] whose rows make the channels.
    makes: Vec<String>,
    /// Matrices [outputs, channels].
    reads: Vec<(String, usize)>,
}

fn places(c: &ModelConfig) -> Vec<Place> {
    let h = c.hidden_size;
    let mut places = Vec::new();
    for n in 0..c.num_hidden_layers {
        let (a, f) = (c.attention_width(n), c.layer_size(n).ffn);
        let of = |part: &str| format!("bert.encoder.layer.{n}.{part}");
        let projection = |p: &str| of(&format!("attention.self.{p}"));
        let norm = |part: &str| vec![of(&format!("{part}.weight")), of(&format!("{part}.bias"))];
        if c.norm_position == "pre" {
            places.push(Place {
                activation: format!("layer.{n}.attention.qkv_input"),
                channels: h,
                makes: norm("attention.output.LayerNorm"),
                reads: ["query", "key", "value"].map(|p| (format!("{}.weight", projection(p)), a)).into(),
            });
            places.push(Place {
                activation: format!("layer.{n}.ffn.input"),
                channels: h,
                makes: norm("output.LayerNorm"),
                reads: vec![(of("intermediate.dense.weight"), f)],
            });
        }
        // Attention mixes tokens, never channels.
        places.push(Place {
            activation: format!("layer.{n}.attention.output_input"),
            channels: a,
            makes: ["weight", "bias"].map(|part| format!("{}.{part}", projection("value"))).into(),
            reads: vec![(of("attention.output.dense.weight"), h)],
        });
    }
    places
}

/// A checkpoint's file after scale migration (SmoothQuant, Xiao et al. 2023) of `strength` from 0 to 1: the norm before a
/// product and the values of attention take the factors, so that the graph has no node more. `channels` are the largest
/// absolute values of each activation's channels. In a post-norm encoder the norms' outputs are residuals too, so that
/// only attention's values are migrated.
///
/// # Errors
/// Not a checkpoint of this configuration, or an activation whose channels were not seen.
pub fn smoothed(
    config: &ModelConfig,
    checkpoint: &[u8],
    channels: &BTreeMap<String, Vec<f32>>,
    strength: f32,
) -> Result<Vec<u8>, ExportError> {
    let source = SafetensorsWeights::parse(checkpoint)?;
    let mut changed: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let file = SafeTensors::deserialize(checkpoint)?;
    for place in places(config) {
        let width = place.channels;
        let seen = channels.get(&place.activation).filter(|seen| seen.len() == width);
        let seen = seen.ok_or_else(|| ExportError::Range { name: place.activation.clone() })?;
        let mut largest = vec![0.0_f32; width];
        for (name, outputs) in &place.reads {
            let values = take(&mut changed, &source, name, &[*outputs, width])?;
            for row in values.chunks_exact(width) {
                largest.iter_mut().zip(row).for_each(|(l, v)| *l = l.max(v.abs()));
            }
            changed.insert(name.clone(), values);
        }
        let factors = migration(seen, &largest, strength);
        for (name, _) in &place.reads {
            let values = changed.get_mut(name).into_iter().flat_map(|v| v.chunks_exact_mut(width));
            values.for_each(|row| row.iter_mut().zip(&factors).for_each(|(v, s)| *v *= s));
        }
        for name in &place.makes {
            let shape = if name.contains("LayerNorm") || name.ends_with("bias") {
                vec![width]
            } else {
                vec![width, config.hidden_size]
            };
            let mut values = take(&mut changed, &source, name, &shape)?;
            let each = values.len() / width;
            values
                .chunks_exact_mut(each)
                .zip(&factors)
                .for_each(|(row, s)| row.iter_mut().for_each(|v| *v /= s));
            changed.insert(name.clone(), values);
        }
    }
    let bytes: BTreeMap<&str, Vec<u8>> = changed
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::new();
    for (name, view) in file.tensors() {
        let view = match bytes.get(name.as_str()) {
            Some(bytes) => TensorView::new(Dtype::F32, view.shape().to_vec(), bytes)?,
            None => view,
        };
        views.push((name, view));
    }
    Ok(safetensors::serialize(views, None)?)
}

/// A tensor as it is by now.
fn take(
    changed: &mut BTreeMap<String, Vec<f32>>,
    source: &SafetensorsWeights<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, ExportError> {
    changed.remove(name).map_or_else(|| source.tensor(name, shape), Ok)
}
