//! Puts models into slots and into the running pipeline.

mod prover;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{GoldenReport, LoadOptions, Trust, TrustedKey};
use locus_firmware_config::profile::DeviceProfile;
use serde::Serialize;

use crate::{
    audit::{About, Audit, Stage, What},
    clock::{Clock, SystemClock},
    config::{Config, ConfigError},
    keys::{KeyError, load_or_create_device_key},
    pipeline::Pipeline,
    slots::{self, FileSlotStore, Flashed, SlotError, SlotRecord, SlotStore, Trial},
    state::StateDir,
    trust::{Expiry, TrustStore, TrustStoreError, expiry},
    vfs::OsVfs,
};
use prover::{Prover, open};

/// Why the box cannot take models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// Slots.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The trust document.
    #[error(transparent)]
    Trust(#[from] TrustStoreError),
    /// The box's own key.
    #[error(transparent)]
    Device(#[from] KeyError),
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
    document: Option<TrustStore>,
    audit: Audit,
    clock: Arc<dyn Clock>,
    profile: DeviceProfile,
    options: LoadOptions,
    dir: PathBuf,
    trial: Option<Trial>,
    confirm_after: u32,
    confirm_by_hand: bool,
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
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What came of a new trust document.
#[derive(Debug, Serialize)]
pub struct TrustReport {
    /// Version that counts now.
    pub version: u64,
    /// Last day on which bundles are taken under it.
    pub expires: String,
    /// Models in the slots that it no longer trusts, with the reason: the next start does not serve them.
    pub untrusted: Vec<String>,
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

fn keys_of(config: &Config) -> Result<Trust, FlashError> {
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
    let state = StateDir::new(&config.state);
    match &config.models.trust {
        None => drop(keys_of(config)?),
        Some(first) => match TrustStore::peek(&OsVfs, &state.trust())? {
            Some(_) => {}
            None => drop(TrustStore::first(&OsVfs, first)?),
        },
    }
    config.device_profile()?;
    options_of(config, &state).map(drop)
}

impl Flasher {
    /// Takes the slots; one process at a time.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn open(config: &Config) -> Result<Self, FlashError> {
        let state = StateDir::new(&config.state);
        let vfs = Arc::new(OsVfs);
        let (profile, options) = (config.device_profile()?, options_of(config, &state)?);
        let keys = if config.models.trust.is_none() { Some(keys_of(config)?) } else { None };
        // Its lock is that of everything below.
        let store = FileSlotStore::open(vfs.clone(), &state.slots())?;
        let first = config.models.trust.as_deref();
        let document = first.map(|first| TrustStore::open(vfs.clone(), &state.trust(), first)).transpose()?;
        let key = load_or_create_device_key(&OsVfs, &state.device_key())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let audit = Audit::open(vfs, Arc::clone(&clock), &state.audit(), key).map_err(SlotError::from)?;
        let trust = match (&document, keys) {
            (Some(document), _) => Trust::Policy(Arc::clone(document.policy())),
            (None, keys) => keys.unwrap_or(Trust::Keys(Vec::new())),
        };
        Ok(Self {
            store,
            trust,
            document,
            audit,
            clock,
            profile,
            options,
            dir: state.slots(),
            trial: None,
            confirm_after: config.models.confirm_after,
            confirm_by_hand: config.models.confirm_by_hand,
        })
    }

    /// Verifies, proves and activates a bundle; where a pipeline runs, it changes over without losing a request.
    ///
    /// # Errors
    /// [`SlotError`]; the old model serves on.
    pub fn flash(&mut self, path: &Path, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        let subject = Some(path.display().to_string());
        self.audited(What::Flash, subject, |flasher| {
            let warnings = flasher.holds()?;
            let bytes = slots::read(path, &flasher.trust)?;
            let mut report = flasher
                .proved(pipeline, |store, trust, prover| slots::flash_bytes(store, &bytes, trust, prover))?;
            report.warnings = warnings;
            Ok(report)
        })
    }

    /// Goes back to the previous model.
    ///
    /// # Errors
    /// [`SlotError`]; the active model serves on.
    pub fn roll_back(&mut self, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        self.audited(What::Rollback, None, |flasher| {
            flasher.proved(pipeline, |store, trust, prover| slots::roll_back(store, trust, prover))
        })
    }

    /// Takes the next trust document.
    ///
    /// # Errors
    /// [`SlotError`]; the present one counts on.
    pub fn update_trust(&mut self, path: &Path) -> Result<TrustReport, SlotError> {
        let subject = Some(path.display().to_string());
        self.noted(What::Trust, subject, |flasher| {
            let document = flasher.document.as_mut().ok_or(TrustStoreError::NoDocument)?;
            let updated = TrustStore::bytes(&OsVfs, path).and_then(|bytes| document.update(path, &bytes));
            let policy = Arc::clone(document.policy());
            flasher.trust = Trust::Policy(Arc::clone(&policy));
            updated?;
            let record = flasher.store.state()?;
            let untrusted = [&record.active, &record.previous].into_iter().flatten().filter_map(|digest| {
                let reason = slots::trusted(&flasher.store, digest, &flasher.trust).err()?;
                Some(format!("{digest}: {reason}"))
            });
            let report = TrustReport {
                version: policy.document().version,
                expires: policy.document().expires.clone(),
                untrusted: untrusted.collect(),
            };
            let about = About {
                digest: Some(hex::encode(policy.document().digest())),
                reason: Some(format!("version {}", report.version)),
                ..About::default()
            };
            Ok((report, about))
        })
    }

    /// Whether anything may be flashed by the trust document, and what the operator should know of it.
    fn holds(&self) -> Result<Vec<String>, SlotError> {
        let Some(document) = &self.document else { return Ok(Vec::new()) };
        match expiry(document.policy().document(), self.clock.unix_ms(), self.audit.known_ms()) {
            Expiry::Holds => Ok(Vec::new()),
            Expiry::Expired { expires, today } => Err(SlotError::Expired { expires, today }),
            Expiry::Unknown(why) => Ok(vec![why]),
        }
    }

    /// As [`Flasher::noted`], for what changes the model.
    fn audited(
        &mut self,
        what: What,
        subject: Option<String>,
        act: impl FnOnce(&mut Self) -> Result<FlashReport, SlotError>,
    ) -> Result<FlashReport, SlotError> {
        self.noted(what, subject, |flasher| {
            let report = act(flasher)?;
            let Flashed { name, version, digest, unchanged, .. } = &report.flashed;
            let served = if *unchanged { " served already" } else { "" };
            let reason =
                [vec![format!("{name} {version}{served}")], report.warnings.clone()].concat().join("; ");
            let about = About { digest: Some(digest.clone()), reason: Some(reason), ..About::default() };
            Ok((report, about))
        })
    }

    /// Writes an attempt down before and after it. What cannot be written down is not attempted.
    fn noted<T>(
        &mut self,
        what: What,
        subject: Option<String>,
        act: impl FnOnce(&mut Self) -> Result<(T, About), SlotError>,
    ) -> Result<T, SlotError> {
        self.audit.note(what, Stage::Begun, About { subject: subject.clone(), ..About::default() })?;
        let result = act(self);
        let (stage, about) = match &result {
            Ok((_, about)) => (Stage::Done, About { subject, ..about.clone() }),
            Err(error) => {
                (Stage::Refused, About { subject, reason: Some(error.to_string()), ..About::default() })
            }
        };
        if let Err(error) = self.audit.note(what, stage, about) {
            // It was begun, and the next start says that it was cut.
            tracing::error!(%error, "the end of an attempt is not in the audit trail");
        }
        result.map(|(value, _)| value)
    }

    /// Ends the trial well: raises the floor.
    ///
    /// # Errors
    /// [`SlotError::NoTrial`] where this process tries none: a trial does not outlive it.
    pub fn confirm(&mut self, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        self.audited(What::Confirm, None, |flasher| {
            let trial = flasher.trial.take().ok_or(SlotError::NoTrial)?;
            flasher.proved(pipeline, |store, trust, prover| slots::confirm(store, &trial, trust, prover))
        })
    }

    /// Ends the trial badly: the model before serves again. Gives the digest of what was tried.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn revert(&mut self, pipeline: Option<&Pipeline>, why: &str) -> Result<String, SlotError> {
        self.noted(What::Revert, None, |flasher| {
            flasher.trial = None;
            let device = (&flasher.profile, &flasher.options);
            let mut prover = Prover {
                flasher: device,
                pipeline,
                at_once: false,
                ready: None,
                golden: None,
                provider: None,
            };
            let digest = slots::end_trial(&mut flasher.store, &mut prover)?;
            let about =
                About { digest: Some(digest.clone()), reason: Some(why.to_owned()), ..About::default() };
            Ok((digest, about))
        })
    }

    /// Ends a trial by itself, once the model has answered often enough, or has failed. Gives what the operator should
    /// know.
    pub fn settle(&mut self, pipeline: &Pipeline) -> Option<String> {
        let (good, failed) = pipeline.tried().filter(|_| self.trial.is_some())?;
        if failed > 0 {
            let why = format!("the model on trial gave no usable number {failed} times, and {good} answers");
            let ended = self.revert(Some(pipeline), &why);
            return Some(
                ended
                    .map_or_else(|error| error.to_string(), |digest| format!("{why}: {digest} was reverted")),
            );
        }
        if self.confirm_by_hand || good < u64::from(self.confirm_after) {
            return None;
        }
        self.confirm(Some(pipeline)).err().map(|error| format!("the trial was not confirmed: {error}"))
    }

    fn proved(
        &mut self,
        pipeline: Option<&Pipeline>,
        change: impl FnOnce(&mut FileSlotStore, &Trust, &mut Prover<'_>) -> Result<Flashed, SlotError>,
    ) -> Result<FlashReport, SlotError> {
        let at_once = self.confirm_after == 0 && !self.confirm_by_hand;
        let flasher = (&self.profile, &self.options);
        let mut prover = Prover { flasher, pipeline, at_once, ready: None, golden: None, provider: None };
        let flashed = change(&mut self.store, &self.trust, &mut prover)?;
        self.trial = flashed
            .on_trial
            .then(|| Trial { digest: flashed.digest.clone(), previous: flashed.previous.clone() });
        Ok(FlashReport { flashed, golden: prover.golden, provider: prover.provider, warnings: Vec::new() })
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
        notices.extend(self.document_notices()?);
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
            let about = About { reason: Some(notice.clone()), ..About::default() };
            if let Err(error) = self.audit.note(What::Start, Stage::Noted, about) {
                tracing::error!(%error, "a notice is not in the audit trail");
            }
        }
        Ok(notices)
    }

    /// What the operator should know of the trust document.
    fn document_notices(&self) -> Result<Vec<String>, SlotError> {
        let Some(document) = &self.document else { return Ok(Vec::new()) };
        let damaged = TrustStore::damaged_copies(&OsVfs, document.folder())?;
        let mut notices: Vec<String> = damaged
            .iter()
            .map(|path| format!("{} is damaged, the other copy of the trust document counts", path.display()))
            .collect();
        match self.holds() {
            Ok(unknown) => notices.extend(unknown),
            Err(error) => notices.push(error.to_string()),
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
