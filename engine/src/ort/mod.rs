//! ONNX Runtime, loaded at run time: TensorRT, CUDA, OpenVINO and CPU providers.
//!
//! A provider that cannot start is an error here, never a silent move to the CPU: ONNX Runtime's own default
//! is to log and go on, and its `is_available` says yes for a GPU library on a machine without a GPU. One that
//! started may still leave single operators to those behind it.

mod cache;
pub(crate) mod library;
mod probe;
mod providers;
#[cfg(test)]
mod tests;

use locus_firmware_config::profile::DeviceProfile;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::TensorRef;

pub use library::{LIBRARY_VARIABLE, library_path};

use crate::Error;
use crate::batch::TokenBatch;
use crate::graphs::{FEATURES_INPUT, Graphs, LOGITS_OUTPUT};
use crate::precision::{self, Cpu};
use crate::session::{
    ActivePrecision, Engine, EngineKind, LoadOptions, Logits, Session, SessionError, SessionSpec,
    Unavailable, warm_up,
};
use crate::settings::EngineSettings;
use cache::EngineCache;

/// Makes [`Session`]s that run in ONNX Runtime with one provider.
#[derive(Debug, Clone)]
pub struct OrtEngine {
    kind: EngineKind,
    settings: EngineSettings,
}

impl OrtEngine {
    /// The engine for one of the `ort-…` kinds.
    ///
    /// # Errors
    /// [`Unavailable`] for a kind that is not ONNX Runtime's.
    pub fn new(kind: EngineKind, settings: EngineSettings) -> Result<Self, Unavailable> {
        match kind {
            EngineKind::OrtTensorrt | EngineKind::OrtCuda | EngineKind::OrtOpenvino | EngineKind::OrtCpu => {
                Ok(Self { kind, settings })
            }
            other => Err(Unavailable::new(format!("{other} is not an ONNX Runtime engine"))),
        }
    }

    fn choose(
        &self,
        library: &library::Library,
        graphs: &Graphs,
        options: &LoadOptions,
    ) -> Result<precision::Chosen, Unavailable> {
        let chosen = precision::choose(graphs, self.kind, options.precision, &Cpu::here())?;
        if chosen.precision != ActivePrecision::Int8U8 {
            return Ok(chosen);
        }
        let Err(reason) = probe::unsigned_kernels_are_exact(library) else { return Ok(chosen) };
        tracing::warn!(%reason, "the unsigned INT8 kernels failed their probe and are not used");
        // Without exact kernels this processor is one without VNNI.
        let mut chosen = precision::choose(graphs, self.kind, options.precision, &Cpu::X86)?;
        chosen.note = Some(format!("unsigned INT8 kernels are not exact here: {reason}"));
        Ok(chosen)
    }
}

impl Engine for OrtEngine {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn check(&self, _profile: &DeviceProfile, options: &LoadOptions) -> Result<(), Unavailable> {
        let library = library::load(options.onnxruntime.as_deref())?;
        providers::check(self.kind, &library)
    }

    fn load_graphs(&self, graphs: &Graphs, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        let kind = self.kind;
        let unavailable = |source| SessionError::Unavailable { engine: kind, source };
        let library = library::load(options.onnxruntime.as_deref()).map_err(unavailable)?;
        providers::check(kind, &library).map_err(unavailable)?;
        let mut chosen = self.choose(&library, graphs, options).map_err(unavailable)?;
        if kind != EngineKind::OrtCpu {
            library::preload(&self.settings.library_folders);
        }
        if kind == EngineKind::OrtTensorrt && chosen.note.is_none() {
            chosen.note = providers::without_dla(&self.settings, &chosen);
        }
        let threads = if options.intra_threads == 0 { self.settings.threads } else { options.intra_threads };
        let failed = |detail| SessionError::Load { engine: kind, detail };
        let cache = providers::cache(kind, &self.settings, graphs, &chosen, &library, options);
        let cache = cache.transpose().map_err(failed)?;
        let folder = cache.as_ref().map(EngineCache::folder);
        let settings = EngineSettings { threads, ..self.settings.clone() };
        let providers = providers::build(kind, &settings, graphs, &chosen, folder);
        let session = build_session(&library, &providers, threads, &chosen.onnx).map_err(failed)?;
        graphs.check_inputs(kind, session.inputs().iter().map(|input| input.name()))?;
        if !session.outputs().iter().any(|output| output.name() == LOGITS_OUTPUT) {
            let got = format!("{} outputs, none of them {LOGITS_OUTPUT}", session.outputs().len());
            return Err(SessionError::Contract { engine: kind, got, expected: LOGITS_OUTPUT.into() }.into());
        }
        let provider = providers.first().map_or("CPUExecutionProvider", |provider| provider.name());
        let spec = graphs.spec(kind, provider, &library.version, chosen.precision, chosen.note);
        let mut session = OrtRunner { session, spec };
        warm_up(&mut session, options)?;
        let cached = cache.as_ref().is_some_and(EngineCache::is_hit);
        // Without a seal, as on a full disk, the next start builds them again; this session computes.
        if let Some(Err(reason)) = cache.map(|cache| cache.seal()) {
            tracing::warn!(%reason, "the engines are not kept");
        }
        tracing::info!(provider, precision = %session.spec.precision, threads, cached, "ONNX Runtime session ready");
        Ok(Box::new(session))
    }
}

struct OrtRunner {
    session: OrtSession,
    spec: SessionSpec,
}

impl Session for OrtRunner {
    fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.spec.check(batch)?;
        let engine = self.spec.engine;
        let failed = |error: ort::Error| SessionError::Run { engine, detail: error.to_string() };
        let mut inputs: Vec<(&'static str, SessionInputValue<'_>)> = Vec::with_capacity(7);
        for (name, values) in batch.token_fields() {
            let tensor = TensorRef::from_array_view(([batch.rows, batch.tokens], values)).map_err(failed)?;
            inputs.push((name, tensor.into()));
        }
        if self.spec.inputs.has_features() {
            let features =
                TensorRef::from_array_view(([batch.rows, batch.n_features], batch.features.as_slice()));
            inputs.push((FEATURES_INPUT, features.map_err(failed)?.into()));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let output =
            outputs.get(LOGITS_OUTPUT).ok_or(SessionError::Output { engine, got: 0, expected: 1 })?;
        let (_, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
        logits.fill(&self.spec, batch.rows, values)?;
        Ok(())
    }
}

fn build_session(
    library: &library::Library,
    providers: &[ort::ep::ExecutionProviderDispatch],
    threads: usize,
    onnx: &[u8],
) -> Result<OrtSession, String> {
    let words = |error: ort::Error<ort::session::builder::SessionBuilder>| error.to_string();
    OrtSession::builder(&library.environment)
        .map_err(|error| error.to_string())?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(words)?
        .with_intra_threads(threads)
        .map_err(words)?
        .with_inter_threads(1)
        .map_err(words)?
        // Threads that spin on after a run keep transports and journal from a core: tails of several milliseconds.
        .with_config_entry("session.force_spinning_stop", "1")
        .map_err(words)?
        .with_execution_providers(providers)
        .map_err(words)?
        .commit_from_memory(onnx)
        .map_err(|error| error.to_string())
}
