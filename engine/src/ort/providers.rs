//! Builds the providers of ONNX Runtime from the profile, each with `error_on_failure`.

use std::fs;
use std::path::{Path, PathBuf};

use ort::ep::{CPU, CUDA, ExecutionProvider, ExecutionProviderDispatch, TensorRT};
use sha2::{Digest, Sha256};

use super::library::Library;
use crate::graphs::{FEATURES_INPUT, Graphs};
use crate::precision::Chosen;
use crate::session::{EngineKind, LoadOptions, Unavailable};
use crate::settings::EngineSettings;

/// Whether the library was compiled with the provider. Whether it starts is known only when a session is built.
pub(super) fn check(kind: EngineKind, library: &Library) -> Result<(), Unavailable> {
    let compiled = match kind {
        EngineKind::OrtTensorrt => TensorRT::is_available(),
        EngineKind::OrtCuda => CUDA::is_available(),
        _ => return Ok(()),
    };
    match compiled {
        Ok(true) => Ok(()),
        Ok(false) => Err(Unavailable::new(format!(
            "{} was built without the provider that {kind} needs; give a library that has it",
            library.version
        ))),
        Err(error) => {
            Err(Unavailable::new(format!("{} does not list its providers ({error})", library.version)))
        }
    }
}

/// Providers in order of preference. TensorRT is followed by CUDA for what it leaves; the CPU is ONNX Runtime's
/// own last resort and needs no entry of its own behind the others. ONNX Runtime asks the first one node by node:
/// that it starts is made sure here, how many nodes it takes is not.
pub(super) fn build(
    kind: EngineKind,
    settings: &EngineSettings,
    graphs: &Graphs,
    chosen: &Chosen,
    library: &Library,
    options: &LoadOptions,
) -> Result<Vec<ExecutionProviderDispatch>, String> {
    Ok(match kind {
        EngineKind::OrtTensorrt => {
            let cache =
                options.cache_dir.as_deref().map(|root| cache_folder(root, kind, graphs, chosen, library));
            let cache = cache.map(prepare_folder).transpose()?;
            vec![
                tensorrt(settings, graphs, chosen, cache.as_deref()).build().error_on_failure(),
                cuda(settings).build().error_on_failure(),
            ]
        }
        EngineKind::OrtCuda => vec![cuda(settings).build().error_on_failure()],
        _ => vec![CPU::default().with_arena_allocator(true).build().error_on_failure()],
    })
}

fn cuda(settings: &EngineSettings) -> CUDA {
    CUDA::default().with_device_id(settings.device_id)
}

fn tensorrt(settings: &EngineSettings, graphs: &Graphs, chosen: &Chosen, cache: Option<&Path>) -> TensorRT {
    let shortest = graphs.buckets.first().copied().unwrap_or(1);
    let longest = graphs.buckets.last().copied().unwrap_or(1);
    let mut provider = TensorRT::default()
        .with_device_id(settings.device_id)
        // Up to TensorRT 10 a graph with Q/DQ is refused, or run in floats, without it.
        .with_int8(chosen.precision.is_int8())
        .with_profile_min_shapes(shapes(graphs, 1, shortest))
        .with_profile_opt_shapes(shapes(graphs, 1, longest))
        .with_profile_max_shapes(shapes(graphs, graphs.max_batch, longest));
    if let Some(bytes) = settings.workspace_bytes {
        provider = provider.with_max_workspace_size(bytes);
    }
    match cache {
        Some(folder) => provider
            .with_engine_cache(true)
            .with_engine_cache_path(folder.display())
            .with_timing_cache(true)
            .with_timing_cache_path(folder.display()),
        None => provider,
    }
}

/// `name:rowsxtokens,…` for every input, as the TensorRT provider's profile options want it.
fn shapes(graphs: &Graphs, rows: u32, tokens: u32) -> String {
    let tokens = graphs.inputs.tokens().iter().map(|name| format!("{name}:{rows}x{tokens}"));
    let features = format!("{FEATURES_INPUT}:{rows}x{}", graphs.n_features);
    tokens.chain(graphs.inputs.has_features().then_some(features)).collect::<Vec<_>>().join(",")
}

/// The folder of the engines built from exactly this model on exactly this stack. Two models of one structure
/// must never share an engine: the digest is part of the key, and so is every other thing that an engine is
/// built from here. The device itself is in TensorRT's own file names.
fn cache_folder(
    root: &Path,
    kind: EngineKind,
    graphs: &Graphs,
    chosen: &Chosen,
    library: &Library,
) -> PathBuf {
    let key = format!(
        "{}\n{kind}\n{}\n{}\n{:?}\n{}\n{}\n{}",
        graphs.digest,
        chosen.precision,
        hex::encode(Sha256::digest(&chosen.onnx)),
        graphs.buckets,
        graphs.max_batch,
        library.version,
        library.build,
    );
    let mut name = hex::encode(Sha256::digest(key.as_bytes()));
    name.truncate(32);
    root.join(name)
}

fn prepare_folder(folder: PathBuf) -> Result<PathBuf, String> {
    match fs::create_dir_all(&folder) {
        Ok(()) => Ok(folder),
        Err(error) => Err(format!("the engine cache {} cannot be made ({error})", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_name_every_input() {
        let graphs = Graphs::from_onnx(None, None, &[32, 64], 8, 1, 5);
        let text = shapes(&graphs, 8, 64);
        assert_eq!(text.split(',').count(), 7);
        assert!(text.starts_with("ref_ids:8x64,alt_ids:8x64,"));
        assert!(text.ends_with(",features:8x5"));
    }

    #[test]
    fn tensorrt_is_told_when_a_graph_is_int8() {
        use crate::session::ActivePrecision::{Fp32, Int8S8};
        let graphs = Graphs::from_onnx(None, None, &[32], 8, 1, 5);
        let options = |precision| {
            let chosen = Chosen { onnx: [].into(), precision, note: None };
            format!("{:?}", tensorrt(&EngineSettings::default(), &graphs, &chosen, None))
        };
        assert!(options(Int8S8).contains(r#""trt_int8_enable": "true""#), "{}", options(Int8S8));
        assert!(options(Fp32).contains(r#""trt_int8_enable": "false""#));
    }
}
