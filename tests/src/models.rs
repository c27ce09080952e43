//! Other models than the shipped one, made of it.

use anyhow::{Context, Result};
use locus_export::{BundleBuilder, split};
use locus_firmware_config::manifest::Manifest;
use locus_onnx::ModelProto;
use prost::Message as _;
use serde_json::Value;

use crate::root;

/// The shipped bundle with a changed manifest, unsigned: another model with the same weights.
///
/// # Errors
/// The shipped bundle cannot be read.
pub fn variation(change: impl FnOnce(&mut Manifest)) -> Result<Vec<u8>> {
    let entries = split(&std::fs::read(root().join("models/variant-effect.locus"))?)?;
    let mut manifest = Manifest::from_json(&entries.first().context("an empty bundle")?.1)?;
    change(&mut manifest);
    let builder = entries
        .into_iter()
        .skip(1)
        .try_fold(BundleBuilder::new(manifest), |builder, (name, bytes)| builder.part(&name, bytes))?;
    Ok(builder.build()?)
}

/// A shipped bundle with other weights in graphs of the same structure, unsigned: its last product and with it every logit
/// is `scale` times what it was, and its golden vectors say so. `change` goes over the manifest.
///
/// # Errors
/// The shipped bundle cannot be read, or its last product is not where it is looked for.
pub fn reweighted(model: &str, scale: f32, change: impl FnOnce(&mut Manifest)) -> Result<Vec<u8>> {
    let entries = split(&std::fs::read(root().join("models").join(format!("{model}.locus")))?)?;
    let mut manifest = Manifest::from_json(&entries.first().context("an empty bundle")?.1)?;
    change(&mut manifest);
    let mut builder = BundleBuilder::new(manifest);
    for (name, bytes) in entries.into_iter().skip(1) {
        let bytes = match name.as_str() {
            // Its last product is in half precision.
            "int8-fp16.onnx" => continue,
            "golden.json" => scaled_golden(&bytes, scale)?,
            _ if name.ends_with(".onnx") => scaled_graph(&bytes, scale)?,
            _ => bytes,
        };
        builder = builder.part(&name, bytes)?;
    }
    Ok(builder.build()?)
}

fn scaled_graph(onnx: &[u8], scale: f32) -> Result<Vec<u8>> {
    let mut model = ModelProto::decode(onnx)?;
    let graph = model.graph.as_mut().context("no graph")?;
    let mut found = 0;
    for tensor in &mut graph.initializer {
        if ["head.logits.weight", "head.logits.bias"].contains(&tensor.name.as_str()) {
            found += 1;
            for number in tensor.raw_data.as_chunks_mut::<4>().0 {
                *number = (f32::from_le_bytes(*number) * scale).to_le_bytes();
            }
        }
    }
    anyhow::ensure!(found == 2, "{found} tensors of the last product");
    Ok(model.encode_to_vec())
}

fn scaled_golden(golden: &[u8], scale: f32) -> Result<Vec<u8>> {
    let mut golden: Value = serde_json::from_slice(golden)?;
    for vector in golden.as_array_mut().context("no list")? {
        for key in ["logits_fp32", "logits_int8"] {
            for logit in vector[key].as_array_mut().context("no logits")? {
                *logit = (logit.as_f64().context("no number")? as f32 * scale).into();
            }
        }
    }
    Ok(serde_json::to_vec(&golden)?)
}
