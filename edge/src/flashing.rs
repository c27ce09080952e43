//! Puts models into slots and into the running pipeline.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{Bundle, GoldenReport, LoadOptions, Scorer, Trust, TrustedKey};
use locus_firmware_config::profile::DeviceProfile;
use serde::Serialize;

use crate::{
    config::{Config, ConfigError},
    pipeline::Pipeline,
    slots::{self, BoxError, FileSlotStore, Flashed, Proving, SlotError, SlotRecord, SlotStore},
    state::StateDir,
    vfs::OsVfs,
};

/// Why the box cannot take models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// Slots.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A trusted key.
    #[error("trusted key {path}: {detail}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A word of the configuration that the engine does not know.
    #[error("configuration: {0}")]
    Engine(String),
}

/// Owns the slots of a box.
#[derive(Debug)]
pub struct Flasher {
    store: FileSlotStore,
    trust: Trust,
    profile: DeviceProfile,
    options: LoadOptions,
}

/// What came of a flash, with its proof.
#[derive(Debug, Serialize)]
pub struct FlashReport {
    /// The slots.
    #[serde(flatten)]
    pub flashed: Flashed,
    /// The golden self-test on this device; null where the model served already.
    pub golden: Option<GoldenReport>,
    /// Engine and provider that will serve.
    pub provider: Option<String>,
}

struct Prover<'a> {
    flasher: (&'a DeviceProfile, &'a LoadOptions),
    pipeline: Option<&'a Pipeline>,
    ready: Option<Scorer>,
    golden: Option<GoldenReport>,
    provider: Option<String>,
}

impl Proving for Prover<'_> {
    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        let mut scorer = Scorer::open(bundle, self.flasher.0, self.flasher.1)?;
        self.golden = Some(scorer.golden_self_test()?);
        self.provider = Some(scorer.spec().provider.clone());
        self.ready = Some(scorer);
        Ok(())
    }

    fn trial(&mut self, _: &Bundle) -> Result<(), BoxError> {
        match (self.pipeline, self.ready.take()) {
            (Some(pipeline), Some(scorer)) => pipeline.swap(scorer).map_err(Into::into),
            _ => Ok(()),
        }
    }

    fn revert(&mut self) {
        if let Some(pipeline) = self.pipeline {
            pipeline.go_back();
        }
    }
}

fn trust_of(config: &Config) -> Result<Trust, FlashError> {
    let read = |path: &PathBuf| {
        let wrong = |detail: String| FlashError::Key { path: path.clone(), detail };
        let pem = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        TrustedKey::from_pem(&pem).map_err(|error| wrong(error.to_string()))
    };
    Ok(Trust::Keys(config.models.trusted_keys.iter().map(read).collect::<Result<_, _>>()?))
}

fn options_of(config: &Config, state: &StateDir) -> Result<LoadOptions, FlashError> {
    let engine = &config.engine;
    let wrong = |error: locus_engine::SessionError| FlashError::Engine(error.to_string());
    Ok(LoadOptions {
        order: engine.order.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(wrong)?,
        precision: engine.precision.as_deref().unwrap_or("auto").parse().map_err(wrong)?,
        intra_threads: engine.intra_threads.unwrap_or(0) as usize,
        onnxruntime: engine.onnxruntime.clone(),
        cache_dir: Some(state.engine_cache()),
    })
}

/// Whether keys and engine settings of a configuration can be used.
///
/// # Errors
/// As [`Flasher::open`], which takes the slots as well.
pub fn check(config: &Config) -> Result<(), FlashError> {
    trust_of(config)?;
    config.device_profile()?;
    options_of(config, &StateDir::new(&config.state)).map(drop)
}

impl Flasher {
    /// Takes the slots; one process at a time.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn open(config: &Config) -> Result<Self, FlashError> {
        let state = StateDir::new(&config.state);
        Ok(Self {
            trust: trust_of(config)?,
            profile: config.device_profile()?,
            options: options_of(config, &state)?,
            store: FileSlotStore::open(Arc::new(OsVfs), &state.slots())?,
        })
    }

    /// Verifies, proves and activates a bundle; where a pipeline runs, it changes over without losing a request.
    ///
    /// # Errors
    /// [`SlotError`]; the old model serves on.
    pub fn flash(&mut self, path: &Path, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        self.proved(pipeline, |store, trust, prover| slots::flash(store, path, trust, prover))
    }

    /// Goes back to the previous model.
    ///
    /// # Errors
    /// [`SlotError`]; the active model serves on.
    pub fn roll_back(&mut self, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        self.proved(pipeline, |store, trust, prover| slots::roll_back(store, trust, prover))
    }

    fn proved(
        &mut self,
        pipeline: Option<&Pipeline>,
        change: impl FnOnce(&mut FileSlotStore, &Trust, &mut Prover<'_>) -> Result<Flashed, SlotError>,
    ) -> Result<FlashReport, SlotError> {
        let mut prover = Prover {
            flasher: (&self.profile, &self.options),
            pipeline,
            ready: None,
            golden: None,
            provider: None,
        };
        let flashed = change(&mut self.store, &self.trust, &mut prover)?;
        if let Some(pipeline) = pipeline {
            pipeline.confirm();
        }
        Ok(FlashReport { flashed, golden: prover.golden, provider: prover.provider })
    }

    /// Starts serving what the slots hold; what the operator should know of it.
    ///
    /// # Errors
    /// [`SlotError`] where the record cannot be read: unknown state is never guessed at.
    pub fn boot(&mut self, pipeline: &Pipeline) -> Result<Vec<String>, SlotError> {
        let boot = slots::boot(&mut self.store, &self.trust)?;
        let mut notices = Vec::new();
        notices.extend(boot.reverted.map(|digest| format!("a restart ended the trial of {digest}")));
        notices.extend(boot.fallback.map(|reason| format!("the active model does not serve: {reason}")));
        if let Some(bundle) = &boot.bundle {
            let started = Scorer::open(bundle, &self.profile, &self.options)
                .map_err(|error| error.to_string())
                .and_then(|scorer| pipeline.swap(scorer));
            match started {
                Ok(()) => pipeline.confirm(),
                Err(reason) => notices.push(format!("model {} does not serve: {reason}", bundle.digest())),
            }
        }
        for notice in &notices {
            tracing::error!("{notice}");
        }
        Ok(notices)
    }

    /// The record of the slots.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn state(&self) -> Result<SlotRecord, SlotError> {
        self.store.state()
    }
}
