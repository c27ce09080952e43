//! Puts models into slots and into the running pipeline.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{
    ActivePrecision, Bundle, EngineKind, GoldenReport, LoadOptions, Scorer, Trust, TrustedKey,
};
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
    dir: PathBuf,
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

/// Opens a model on this device. An engine without numbers of its own, whose self-test proves nothing, serves only
/// where nothing else is asked for.
fn open(bundle: &Bundle, profile: &DeviceProfile, options: &LoadOptions) -> Result<Scorer, BoxError> {
    let scorer = Scorer::open(bundle, profile, options)?;
    if scorer.spec().precision == ActivePrecision::Fake && options.order != [EngineKind::Fake] {
        return Err(
            "got the fake engine, whose answers mean nothing, from the device profile, expected one that \
                    passes the self-test; engine.order = [\"fake\"] in the configuration asks for it"
                .into(),
        );
    }
    Ok(scorer)
}

impl Proving for Prover<'_> {
    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        let mut scorer = open(bundle, self.flasher.0, self.flasher.1)?;
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

    fn confirm(&mut self) {
        if let Some(pipeline) = self.pipeline {
            pipeline.confirm();
        }
    }

    fn serves(&self, digest: &str) -> bool {
        // Without a daemon nothing serves: what is recorded already is proved once more.
        self.pipeline.and_then(Pipeline::active).is_some_and(|active| active.info.digest == digest)
    }
}

/// What an operator is told of copies of the slot record that cannot be read.
pub(crate) fn damaged_notices(copies: &[PathBuf]) -> Vec<String> {
    let notice = |path: &PathBuf| {
        format!(
            "{} is damaged, the other copy of the slot record counts: flash or roll back to write both",
            path.display()
        )
    };
    copies.iter().map(notice).collect()
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
            dir: state.slots(),
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
        Ok(FlashReport { flashed, golden: prover.golden, provider: prover.provider })
    }

    /// Starts serving what the slots hold; what the operator should know of it.
    ///
    /// # Errors
    /// [`SlotError`] where the record cannot be read: unknown state is never guessed at.
    pub fn boot(&mut self, pipeline: &Pipeline) -> Result<Vec<String>, SlotError> {
        let damaged = FileSlotStore::damaged_copies(&OsVfs, &self.dir)?;
        let (profile, options) = (&self.profile, &self.options);
        let boot = slots::boot(&mut self.store, &self.trust, &mut |bundle| {
            pipeline.swap(open(bundle, profile, options)?)?;
            pipeline.confirm();
            Ok(())
        })?;
        let mut notices = damaged_notices(&damaged);
        notices.extend(boot.reverted.map(|digest| format!("a restart ended the trial of {digest}")));
        notices.extend(boot.fallback.map(|reason| {
            let serves = boot.bundle.map_or_else(
                || "nothing serves".to_owned(),
                |bundle| format!("the previous one serves, {}", bundle.digest()),
            );
            format!("the active model does not serve, {serves}: {reason}")
        }));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_numbers_serves_only_where_nothing_else_is_asked_for() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus");
        let bundle = Bundle::open(path, &Trust::AllowUnsigned).unwrap();
        let profile = DeviceProfile::named("cpu-x86").unwrap();
        let open_with = |profile: &DeviceProfile, order: &[EngineKind]| {
            let options = LoadOptions { order: order.to_vec(), ..LoadOptions::default() };
            open(&bundle, profile, &options).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(open_with(&profile, &[EngineKind::Fake]), Ok(()));
        let mixed = open_with(&profile, &[EngineKind::OrtTensorrt, EngineKind::Fake]).unwrap_err();
        assert!(mixed.contains("fake alone or not at all"), "{mixed}");
        let mut asks = profile.clone();
        asks.engines = vec!["fake".to_owned()];
        let implied = open_with(&asks, &[]).unwrap_err();
        assert!(implied.contains("from the device profile"), "{implied}");
    }
}
