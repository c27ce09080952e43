//! Puts models into slots and into the running pipeline.

mod beside;
mod boot;
mod outcome;
mod packs;
mod prover;
mod trials;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{
    GoldenReport, LoadOptions, OnBuilt, Trust, TrustedKey,
    bundle::{Depth, is_pack},
};
use locus_firmware_config::{pack::PACK_SLOTS, profile::DeviceProfile};

use crate::{
    audit::{About, Audit, Stage, What},
    clock::{Clock, SystemClock},
    config::Config,
    keys::load_or_create_device_key,
    pipeline::Pipeline,
    slots::{self, FileSlotStore, Flashed, SlotError, SlotRecord, SlotStore, Step, Trial},
    state::StateDir,
    trust::{Expiry, TrustStore, TrustStoreError, expiry},
    vfs::OsVfs,
};
pub use beside::serving;
pub(crate) use outcome::damaged_notices;
pub use outcome::{FlashError, FlashReport, TrustReport};
pub use prover::OnStep;
use prover::Prover;

/// Owns the slots of a box.
#[derive(Debug)]
pub struct Flasher {
    store: FileSlotStore,
    packs: FileSlotStore,
    /// Whether the configuration names files instead of a pack.
    files: bool,
    trust: Trust,
    document: Option<TrustStore>,
    audit: Audit,
    clock: Arc<dyn Clock>,
    profile: DeviceProfile,
    options: LoadOptions,
    dir: PathBuf,
    packs_dir: PathBuf,
    /// By the name of the model.
    trials: BTreeMap<String, Trial>,
    /// Models whose record counts ends of the daemon.
    crashed: BTreeSet<String>,
    confirm_after: u32,
    confirm_by_hand: bool,
    most_bytes: u64,
    tell: Told,
}

/// Who is told of the steps of a flash.
#[derive(Clone)]
struct Told(OnStep);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

fn nobody() -> Told {
    Told(Arc::new(|_: &Step| {}))
}

/// The one that is named, or the only one.
fn chosen(model: Option<&str>, mut known: Vec<String>) -> Result<String, SlotError> {
    match model {
        Some(name) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) => Err(SlotError::UnknownModel { got: name.chars().take(64).collect(), known }),
        None if known.len() == 1 => Ok(known.remove(0)),
        None => Err(SlotError::WhichModel { known }),
    }
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
        intra_threads: 0,
        onnxruntime: engine.onnxruntime.clone(),
        cache_dir: Some(state.engine_cache()),
        built: OnBuilt::default(),
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
        let packs = FileSlotStore::open(vfs.clone(), &state.packs())?;
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
            packs,
            files: config.reference.is_some(),
            trust,
            document,
            audit,
            clock,
            profile,
            options,
            dir: state.slots(),
            packs_dir: state.packs(),
            trials: BTreeMap::new(),
            crashed: BTreeSet::new(),
            confirm_after: config.models.confirm_after,
            confirm_by_hand: config.models.confirm_by_hand,
            most_bytes: config.models.memory_bytes,
            tell: nobody(),
        })
    }

    /// Says for whom what follows is done; it is in the audit trail.
    pub(crate) fn on_behalf(&mut self, by: Option<&str>) {
        self.audit.on_behalf(by.map(str::to_owned));
    }

    /// Verifies, proves and activates a bundle; where a pipeline runs, it changes over without losing a request.
    ///
    /// # Errors
    /// [`SlotError`]; the old model serves on.
    pub fn flash(&mut self, path: &Path, pipeline: Option<&Pipeline>) -> Result<FlashReport, SlotError> {
        let subject = Some(path.display().to_string());
        self.audited(What::Flash, subject, |flasher| {
            let mut warnings = flasher.holds()?;
            if is_pack(path)? {
                let flashed = flasher.flash_pack(path, pipeline)?;
                warnings.extend(flasher.pack_notice());
                return Ok(FlashReport { kind: PACK_SLOTS, flashed, golden: None, provider: None, warnings });
            }
            let bytes = slots::read(&flasher.store, path, &flasher.trust)?;
            let mut report = flasher
                .proved(pipeline, |store, trust, prover| slots::flash_bytes(store, &bytes, trust, prover))?;
            report.warnings = warnings;
            Ok(report)
        })
    }

    /// As [`Flasher::flash`]; `tell` hears of each step.
    ///
    /// # Errors
    /// As there.
    pub fn flash_telling(
        &mut self,
        path: &Path,
        pipeline: Option<&Pipeline>,
        tell: OnStep,
    ) -> Result<FlashReport, SlotError> {
        self.tell = Told(tell);
        let flashed = self.flash(path, pipeline);
        self.tell = nobody();
        flashed
    }

    /// Goes back to the previous bundle of a model; its name may be left out where the box has one.
    ///
    /// # Errors
    /// [`SlotError`]; the active one serves on.
    pub fn roll_back(
        &mut self,
        model: Option<&str>,
        pipeline: Option<&Pipeline>,
    ) -> Result<FlashReport, SlotError> {
        let model = self.named(model)?;
        self.audited(What::Rollback, Some(model.clone()), |flasher| {
            if model == PACK_SLOTS {
                let flashed = flasher.roll_back_pack(pipeline)?;
                let warnings = Vec::new();
                return Ok(FlashReport { kind: PACK_SLOTS, flashed, golden: None, provider: None, warnings });
            }
            flasher.proved(pipeline, |store, trust, prover| slots::roll_back(store, &model, trust, prover))
        })
    }

    /// Takes a model out of the slots and out of the pipeline; its floor stays. Gives the digest of what was active.
    ///
    /// # Errors
    /// [`SlotError`]; it serves on.
    pub fn remove(&mut self, model: &str, pipeline: Option<&Pipeline>) -> Result<Option<String>, SlotError> {
        let model = self.named(Some(model))?;
        self.noted(What::Remove, Some(model.clone()), |flasher| {
            if model == PACK_SLOTS {
                let digest = slots::remove(&mut flasher.packs, &model)?;
                if let Some(pipeline) = pipeline {
                    pipeline.set_genome(None);
                }
                return Ok((digest.clone(), About { digest, ..About::default() }));
            }
            let digest = slots::remove(&mut flasher.store, &model)?;
            if let Some(pipeline) = pipeline {
                pipeline.remove(&model);
            }
            Ok((digest.clone(), About { digest, ..About::default() }))
        })
    }

    /// The model that an order is for.
    fn named(&self, model: Option<&str>) -> Result<String, SlotError> {
        if model == Some(PACK_SLOTS) {
            return Ok(PACK_SLOTS.to_owned());
        }
        let known: Vec<String> = self.store.state()?.names().map(str::to_owned).collect();
        chosen(model, known)
    }

    /// The model whose trial an order is for: where none is named, the only one on trial.
    fn tried(&self, model: Option<&str>) -> Result<String, SlotError> {
        let record = self.store.state()?;
        let on_trial = record.models.iter().filter(|(_, slots)| slots.trial.is_some());
        let known: Vec<String> = on_trial.map(|(name, _)| name.clone()).collect();
        if known.is_empty() {
            return Err(SlotError::NoTrial);
        }
        chosen(model, known)
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
            let models = record.models.iter();
            let digests = models.flat_map(|(name, slots)| {
                [&slots.active, &slots.previous].into_iter().flatten().map(move |digest| (name, digest))
            });
            let untrusted = digests.filter_map(|(name, digest)| {
                let reason = slots::trusted(&flasher.store, name, digest, &flasher.trust).err()?;
                Some(format!("{name} {digest}: {reason}"))
            });
            let packs = flasher.packs.state()?.of(PACK_SLOTS);
            let packs = [packs.active, packs.previous].into_iter().flatten().filter_map(|digest| {
                let stored = slots::stored_pack(&flasher.packs, &digest, &flasher.trust, 0, Depth::Tables);
                Some(format!("{PACK_SLOTS} {digest}: {}", stored.err()?))
            });
            let report = TrustReport {
                version: policy.document().version,
                expires: policy.document().expires.clone(),
                untrusted: untrusted.chain(packs).collect(),
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

    /// Writes down that somebody was enrolled, renewed or revoked.
    ///
    /// # Errors
    /// The audit trail cannot be written.
    pub fn note(&mut self, what: What, subject: String, reason: String) -> Result<(), SlotError> {
        let about = About { subject: Some(subject), reason: Some(reason), ..About::default() };
        Ok(self.audit.note(what, Stage::Done, about)?)
    }

    /// Writes down an attempt that is not about models, before it and after it.
    ///
    /// # Errors
    /// What the attempt says, or that it could not be written down: then it is not made.
    pub fn attempt<T>(
        &mut self,
        what: What,
        subject: Option<String>,
        work: impl FnOnce() -> Result<(T, String), String>,
    ) -> Result<T, String> {
        let about = |reason: Option<String>| About { subject: subject.clone(), reason, ..About::default() };
        self.audit.note(what, Stage::Begun, about(None)).map_err(|error| error.to_string())?;
        let done = work();
        let (stage, reason) = match &done {
            Ok((_, said)) => (Stage::Done, said.clone()),
            Err(reason) => (Stage::Refused, reason.clone()),
        };
        if let Err(error) = self.audit.note(what, stage, about(Some(reason))) {
            tracing::error!(%error, "the end of an attempt is not in the audit trail");
        }
        done.map(|(value, _)| value)
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

    fn with_prover<T>(
        &mut self,
        pipeline: Option<&Pipeline>,
        change: impl FnOnce(&mut FileSlotStore, &Trust, &mut Prover<'_>) -> T,
    ) -> (T, Option<GoldenReport>, Option<String>) {
        let mut prover = Prover {
            flasher: (&self.profile, &self.options),
            pipeline,
            at_once: self.confirm_after == 0 && !self.confirm_by_hand,
            most_bytes: self.most_bytes,
            tell: Arc::clone(&self.tell.0),
            ready: None,
            golden: None,
            provider: None,
        };
        let changed = change(&mut self.store, &self.trust, &mut prover);
        (changed, prover.golden, prover.provider)
    }

    fn proved(
        &mut self,
        pipeline: Option<&Pipeline>,
        change: impl FnOnce(&mut FileSlotStore, &Trust, &mut Prover<'_>) -> Result<Flashed, SlotError>,
    ) -> Result<FlashReport, SlotError> {
        let (flashed, golden, provider) = self.with_prover(pipeline, change);
        let flashed = flashed?;
        match flashed.on_trial {
            true => {
                let trial = Trial { digest: flashed.digest.clone(), previous: flashed.previous.clone() };
                self.trials.insert(flashed.name.clone(), trial);
            }
            false => drop(self.trials.remove(&flashed.name)),
        }
        Ok(FlashReport { kind: "model", flashed, golden, provider, warnings: Vec::new() })
    }

    /// The record of the slots.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn state(&self) -> Result<SlotRecord, SlotError> {
        self.store.state()
    }
}
