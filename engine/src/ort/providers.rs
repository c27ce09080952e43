//! Builds the providers of ONNX Runtime from the profile, each with `error_on_failure`.

use std::path::Path;

use ort::ep::{
    ArenaExtendStrategy, CPU, CUDA, ExecutionProvider, ExecutionProviderDispatch, OpenVINO, TensorRT,
};
use sha2::{Digest, Sha256};

use super::cache::{EngineCache, device};
use super::library::Library;
use crate::graphs::{FEATURES_INPUT, Graphs};
use crate::precision::Chosen;
use crate::session::{EngineKind, LoadOptions, Unavailable};
use crate::settings::EngineSettings;

/// The last TensorRT that is told by flags which precisions it may use.
const LAST_WITH_FLAGS: u32 = 10;

/// Whether the library was compiled with the provider. Whether it starts is known only when a session is built.
pub(super) fn check(kind: EngineKind, library: &Library) -> Result<(), Unavailable> {
    let compiled = match kind {
        EngineKind::OrtTensorrt => TensorRT::is_available(),
        EngineKind::OrtCuda => CUDA::is_available(),
        EngineKind::OrtOpenvino => OpenVINO::is_available(),
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
    cache: Option<&Path>,
) -> Vec<ExecutionProviderDispatch> {
    match kind {
        EngineKind::OrtTensorrt => vec![
            tensorrt(settings, graphs, chosen, cache).build().error_on_failure(),
            cuda(settings).build().error_on_failure(),
        ],
        EngineKind::OrtCuda => vec![cuda(settings).build().error_on_failure()],
        EngineKind::OrtOpenvino => vec![openvino(settings, cache).build().error_on_failure()],
        _ => vec![cpu().build().error_on_failure()],
    }
}

fn cpu() -> CPU {
    CPU::default().with_arena_allocator(true)
}

fn cuda(settings: &EngineSettings) -> CUDA {
    let provider = CUDA::default().with_device_id(settings.device_id);
    match settings.memory_bytes {
        // Extended by what is needed: doubling would reach the limit with half of it unused.
        Some(bytes) => {
            provider.with_memory_limit(bytes).with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        }
        None => provider,
    }
}

/// The accelerator that is used. It computes in INT8 or FP16 only, and TensorRT leaves it out without a word else.
fn dla_core(settings: &EngineSettings, chosen: &Chosen) -> Option<u32> {
    settings.dla_core.filter(|_| chosen.precision.is_int8())
}

/// Why the profile's accelerator is not used.
pub(super) fn without_dla(settings: &EngineSettings, chosen: &Chosen) -> Option<String> {
    let unused = settings.dla_core.filter(|_| dla_core(settings, chosen).is_none())?;
    Some(format!("the DLA {unused} does not compute in {}, so the GPU does", chosen.precision))
}

fn tensorrt(settings: &EngineSettings, graphs: &Graphs, chosen: &Chosen, cache: Option<&Path>) -> TensorRT {
    let shortest = graphs.buckets.first().copied().unwrap_or(1);
    let longest = graphs.buckets.last().copied().unwrap_or(1);
    let mut provider = TensorRT::default()
        .with_device_id(settings.device_id)
        .with_profile_min_shapes(shapes(graphs, 1, shortest))
        .with_profile_opt_shapes(shapes(graphs, 1, longest))
        .with_profile_max_shapes(shapes(graphs, graphs.max_batch, longest));
    // Up to TensorRT 10 a graph with Q/DQ is refused, or run in floats, without it; TensorRT 11 has no such flags, what
    // is in the graph counts. FP16 is never allowed by flag: it would be another model than the one that was proved.
    if settings.tensorrt_major.is_none_or(|major| major <= LAST_WITH_FLAGS) {
        provider = provider.with_int8(chosen.precision.is_int8());
    }
    if let Some(core) = dla_core(settings, chosen) {
        provider = provider.with_dla(true).with_dla_core(core);
    }
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

fn openvino(settings: &EngineSettings, cache: Option<&Path>) -> OpenVINO {
    let provider = OpenVINO::default()
        .with_device_type(settings.openvino_device.as_deref().unwrap_or("CPU"))
        .with_num_threads(settings.threads);
    match cache {
        Some(folder) => provider.with_cache_dir(folder.display()),
        None => provider,
    }
}

/// The engines built from exactly this model on exactly this stack and device, for providers that build some. Two
/// models of one structure must never share an engine: the digest is part of the key, and so is every other thing
/// that an engine is built from here.
pub(super) fn cache(
    kind: EngineKind,
    settings: &EngineSettings,
    graphs: &Graphs,
    chosen: &Chosen,
    library: &Library,
    options: &LoadOptions,
) -> Option<Result<EngineCache, String>> {
    if !matches!(kind, EngineKind::OrtTensorrt | EngineKind::OrtOpenvino) {
        return None;
    }
    let root = options.cache_dir.as_deref()?;
    let key = format!(
        "{}\n{kind}\n{}\n{}\n{:?}\n{}\n{}\n{}\n{:?}\n{:?}\n{:?}\n{}",
        graphs.digest,
        chosen.precision,
        hex::encode(Sha256::digest(&chosen.onnx)),
        graphs.buckets,
        graphs.max_batch,
        library.version,
        library.build,
        dla_core(settings, chosen),
        settings.workspace_bytes,
        settings.openvino_device,
        device(&settings.library_folders),
    );
    Some(EngineCache::open(root, &key))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use locus_firmware_config::profile::DeviceProfile;

    use super::*;
    use crate::session::ActivePrecision::{self, Fp32, Int8S8};

    #[test]
    fn shapes_name_every_input() {
        let graphs = Graphs::from_onnx(None, None, &[32, 64], 8, 1, 5);
        let text = shapes(&graphs, 8, 64);
        assert_eq!(text.split(',').count(), 7);
        assert!(text.starts_with("ref_ids:8x64,alt_ids:8x64,"));
        assert!(text.ends_with(",features:8x5"));
    }

    /// What ONNX Runtime is given for a profile and a graph of this precision, engine by engine.
    fn given(profile: &DeviceProfile, precision: ActivePrecision) -> String {
        let settings = EngineSettings::from_profile(profile).unwrap();
        let buckets = settings.buckets_of(&[32, 64, 128, 1024]).unwrap();
        let graphs = Graphs::from_onnx(None, None, &buckets, settings.max_batch.min(64), 1, 5);
        let chosen = Chosen { onnx: [].into(), precision, note: None };
        let mut text = format!("threads: {}\n", settings.threads);
        for kind in &settings.order {
            match kind {
                EngineKind::OrtTensorrt => {
                    writeln!(text, "{kind}: {:#?}", tensorrt(&settings, &graphs, &chosen, None))
                }
                EngineKind::OrtCuda => writeln!(text, "{kind}: {:#?}", cuda(&settings)),
                EngineKind::OrtOpenvino => writeln!(text, "{kind}: {:#?}", openvino(&settings, None)),
                EngineKind::OrtCpu => writeln!(text, "{kind}: {:#?}", cpu()),
                other => writeln!(text, "{other}"),
            }
            .unwrap();
        }
        text
    }

    #[test]
    fn every_shipped_profile_causes_these_options() {
        for name in DeviceProfile::shipped() {
            insta::assert_snapshot!(name, given(&DeviceProfile::named(name).unwrap(), Int8S8));
        }
    }

    #[test]
    fn an_accelerator_is_used_for_int8_only() {
        let text = "inherit = \"jetson-agx-orin\"\ndla_core = 1\n";
        let profile = DeviceProfile::parse("mine", text).unwrap();
        insta::assert_snapshot!("jetson-agx-orin-dla", given(&profile, Int8S8));
        let fp32 = given(&profile, Fp32);
        let settings = EngineSettings::from_profile(&profile).unwrap();
        let note = |precision| without_dla(&settings, &Chosen { onnx: [].into(), precision, note: None });
        assert_eq!((note(Fp32).is_some(), note(Int8S8)), (true, None));
        assert!(!fp32.contains("dla") && fp32.contains(r#""trt_int8_enable": "false""#), "{fp32}");
    }

    #[test]
    fn openvino_gets_its_device_and_threads() {
        let text = "inherit = \"cpu-x86\"\nengines = [\"ort-openvino\"]\nopenvino_device = \"GPU.1\"\n";
        let text = given(&DeviceProfile::parse("mine", text).unwrap(), Int8S8);
        assert!(
            text.contains(r#""device_type": "GPU.1""#) && text.contains(r#""num_of_threads": "2""#),
            "{text}"
        );
    }

    #[test]
    fn tensorrt_11_gets_no_precision_flags_and_none_ever_gets_fp16() {
        let of = |major: u32| {
            let text = format!("inherit = \"jetson-thor\"\ntensorrt_major = {major}\n");
            given(&DeviceProfile::parse("mine", &text).unwrap(), Int8S8)
        };
        assert!(of(10).contains(r#""trt_int8_enable": "true""#), "{}", of(10));
        assert!(!of(11).contains("trt_int8_enable"), "{}", of(11));
        assert!(!of(8).contains("fp16") && !of(11).contains("fp16"));
    }
}
