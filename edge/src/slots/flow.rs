//! The way of a bundle into a slot: verify everything, store, prove on this device, try, confirm.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use locus_engine::{
    Bundle, Limits, Trust,
    bundle::{completed, is_delta},
};
use locus_firmware_config::{manifest::Part, pack::PACK_SLOTS};

use serde::{Deserialize, Serialize};

use super::{Flashed, MAX_MODELS, MAX_NAMES, Proving, SlotError, SlotRecord, SlotStore, Slots};
use crate::vfs::{OsVfs, Vfs};

/// How far a flash has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Signatures and every part are checked.
    Verify,
    /// The bundle is unpacked onto the disk and read back.
    Unpack {
        /// Its size in bytes.
        bytes: u64,
    },
    /// An engine is ready for rows of one length.
    Built {
        /// How many are.
        done: usize,
        /// How many there will be.
        of: usize,
        /// Length of its rows, in tokens.
        bucket: u32,
    },
    /// The golden vectors are compared.
    SelfTest,
    /// It takes over from the model before.
    Trial,
}

/// The bytes of a bundle file whose head is good: no more of it is read than its signed manifest says. A delta is completed
/// with parts of the bundles in the slots.
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn read(store: &dyn SlotStore, path: &Path, trust: &Trust) -> Result<Vec<u8>, SlotError> {
    if is_delta(path, &Limits::default())? {
        let digests: BTreeSet<String> =
            store.state()?.models.values().flat_map(Slots::digests).map(str::to_owned).collect();
        let mut find = |part: &Part| digests.iter().find_map(|digest| part_of(store, digest, &part.sha256));
        return Ok(completed(path, trust, &Limits::default(), &mut find)?);
    }
    Bundle::announced(path, trust, &Limits::default())?;
    // Read once: what is verified is what is stored, whatever happens to the file meanwhile.
    OsVfs.read(path, Limits::default().bundle_bytes).map_err(|source| SlotError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// A part of a stored bundle, by its SHA-256.
fn part_of(store: &dyn SlotStore, digest: &str, sha256: &str) -> Option<Arc<[u8]>> {
    let bytes = store.read(digest).ok()?;
    let bundle =
        Bundle::read(bytes.as_slice(), bytes.len() as u64, &Trust::AllowUnsigned, &Limits::default()).ok()?;
    let part = bundle.manifest().parts.iter().find(|part| part.sha256 == sha256)?;
    bundle.part(&part.name)
}

/// Verifies, stores, proves, tries and confirms a bundle in the slots of its manifest's name. After any failure what
/// serves is what the record names: the old model, but for [`SlotError::Unsettled`]. Other models are not touched.
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn flash_bytes(
    store: &mut dyn SlotStore,
    bytes: &[u8],
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let record = store.state()?;
    proving.step(Step::Verify);
    let offered = verified(bytes, trust)?;
    let name = offered.manifest().name.clone();
    if name == PACK_SLOTS {
        return Err(SlotError::Reserved { name });
    }
    let mut slots = record.of(&name);
    not_below(&offered, slots.floor)?;
    let quantised = offered.manifest().parts.iter().any(|part| part.name.starts_with("int8"));
    if let Some(reason) = offered.manifest().contract.exceeded().filter(|_| quantised) {
        return Err(SlotError::Contract { reason });
    }
    room(store, &record, &name, bytes.len() as u64, proving.most_bytes())?;
    if slots.trial.is_some() {
        // A trial that never ended, because the process that ran it did.
        store.revert(&name)?;
        slots = store.state()?.of(&name);
    }
    let digest = offered.digest();
    let unchanged = slots.active.as_deref() == Some(digest) && proving.serves(digest);
    if unchanged && stored(store, &name, digest, trust, slots.floor).is_ok() {
        return Ok(flashed(&offered, true, slots.previous, slots.floor));
    }
    proving.step(Step::Unpack { bytes: bytes.len() as u64 });
    store.write_standby(digest, bytes)?;
    // From here on only what came back from the disk counts.
    let bundle = stored(store, &name, digest, trust, slots.floor)?;
    proving.self_test(&bundle).map_err(|reason| SlotError::SelfTest { reason })?;
    let previous = to_go_back_to(store, &name, &slots, digest, trust, proving);
    proving.step(Step::Trial);
    store.stage(&name, digest)?;
    if let Err(reason) = proving.trial(&bundle) {
        proving.revert(&name);
        if let Err(error) = store.revert(&name) {
            tracing::error!(%error, "the end of the trial is not recorded; the next start or flash records it");
        }
        return Err(SlotError::Trial { reason });
    }
    if !proving.confirms_at_once() {
        return Ok(Flashed { on_trial: true, ..flashed(&bundle, unchanged, previous, slots.floor) });
    }
    let counter = bundle.manifest().security_counter;
    if let Err(error) = store.confirm(&name, counter, previous.as_deref()) {
        return Err(agree(store, &name, digest, proving, error));
    }
    proving.confirm(&name);
    Ok(flashed(&bundle, unchanged, previous, slots.floor.max(counter)))
}

/// Whether there is room for a bundle of a name, in the record and in memory.
fn room(
    store: &dyn SlotStore,
    record: &SlotRecord,
    name: &str,
    bytes: u64,
    limit: u64,
) -> Result<(), SlotError> {
    let too_many = |got, limit| Err(SlotError::TooManyModels { name: name.to_owned(), got, limit });
    if record.of(name).is_empty() && record.names().count() >= MAX_MODELS {
        return too_many(record.names().count(), MAX_MODELS);
    }
    if !record.models.contains_key(name) && record.models.len() >= MAX_NAMES {
        return too_many(record.models.len(), MAX_NAMES);
    }
    let others = record.models.iter().filter(|(other, _)| *other != name);
    let mut got = bytes;
    for digest in others.filter_map(|(_, slots)| slots.active.as_ref()) {
        // One that cannot be read does not serve.
        got += store.read(digest).map_or(0, |bytes| bytes.len() as u64);
        if got > limit {
            break;
        }
    }
    if got > limit { Err(SlotError::TooMuch { got, limit }) } else { Ok(()) }
}

/// A trial that goes on after the flash that began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Digest of what is tried.
    pub digest: String,
    /// Digest of what to go back to.
    pub previous: Option<String>,
}

/// Ends the trial of a model well: what is tried becomes the active one, and the floor is raised.
///
/// # Errors
/// [`SlotError`]; then the model before serves, but for [`SlotError::Unsettled`].
pub fn confirm(
    store: &mut dyn SlotStore,
    model: &str,
    trial: &Trial,
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let slots = store.state()?.of(model);
    if slots.trial.as_deref() != Some(trial.digest.as_str()) {
        return Err(SlotError::NoTrial);
    }
    let bundle = match stored(store, model, &trial.digest, trust, slots.floor) {
        Ok(bundle) => bundle,
        Err(error) => {
            end_trial(store, model, proving)?;
            return Err(error);
        }
    };
    let counter = bundle.manifest().security_counter;
    if let Err(error) = store.confirm(model, counter, trial.previous.as_deref()) {
        return Err(agree(store, model, &trial.digest, proving, error));
    }
    proving.confirm(model);
    Ok(flashed(&bundle, false, trial.previous.clone(), slots.floor.max(counter)))
}

/// Ends the trial of a model badly: the one before serves again. Gives the digest of what was tried.
///
/// # Errors
/// [`SlotError::NoTrial`], or the end cannot be recorded: the next start records it.
pub fn end_trial(
    store: &mut dyn SlotStore,
    model: &str,
    proving: &mut dyn Proving,
) -> Result<String, SlotError> {
    let digest = store.state()?.of(model).trial.ok_or(SlotError::NoTrial)?;
    proving.revert(model);
    store.revert(model)?;
    Ok(digest)
}

/// Takes a model out of the slots; its floor stays. Gives the digest of what was active.
///
/// # Errors
/// [`SlotError::OnTrial`], or the record cannot be written.
pub fn remove(store: &mut dyn SlotStore, model: &str) -> Result<Option<String>, SlotError> {
    let slots = store.state()?.of(model);
    if slots.trial.is_some() {
        return Err(SlotError::OnTrial { name: model.to_owned() });
    }
    store.put(model, Slots { floor: slots.floor, ..Slots::default() })?;
    Ok(slots.active)
}

/// What serves now, or could: a bundle that is damaged, or that does not run here, is nothing to go back to.
fn to_go_back_to(
    store: &dyn SlotStore,
    name: &str,
    slots: &Slots,
    digest: &str,
    trust: &Trust,
    proving: &dyn Proving,
) -> Option<String> {
    let others = || [&slots.active, &slots.previous].into_iter().flatten().filter(|other| *other != digest);
    let whole = |other: &&String| stored(store, name, other, trust, slots.floor).is_ok();
    let served = others().find(|other| proving.serves(other) && whole(other));
    served.or_else(|| others().find(whole)).cloned()
}

/// After an error of the disk the change may have taken effect or not. What serves follows what the record says.
fn agree(
    store: &mut dyn SlotStore,
    model: &str,
    digest: &str,
    proving: &mut dyn Proving,
    error: SlotError,
) -> SlotError {
    match store.state().map(|record| record.of(model)) {
        Ok(now) if now.active.as_deref() == Some(digest) && now.trial.is_none() => {
            proving.confirm(model);
            SlotError::Unsettled { digest: digest.to_owned(), source: Box::new(error) }
        }
        _ => {
            proving.revert(model);
            let _ = store.revert(model);
            error
        }
    }
}

/// Goes back to the previous bundle of a model, which must be at or above the floor and pass the proving again.
///
/// # Errors
/// [`SlotError`].
pub fn roll_back(
    store: &mut dyn SlotStore,
    model: &str,
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let mut slots = store.state()?.of(model);
    if slots.trial.is_some() {
        store.revert(model)?;
        slots = store.state()?.of(model);
    }
    let digest = slots.previous.ok_or(SlotError::NoPrevious)?;
    proving.step(Step::Verify);
    let bundle = stored(store, model, &digest, trust, slots.floor)?;
    proving.self_test(&bundle).map_err(|reason| SlotError::SelfTest { reason })?;
    proving.step(Step::Trial);
    if let Err(reason) = proving.trial(&bundle) {
        proving.revert(model);
        return Err(SlotError::Trial { reason });
    }
    if let Err(error) = store.swap_back(model) {
        return Err(agree(store, model, &digest, proving, error));
    }
    proving.confirm(model);
    Ok(flashed(&bundle, false, slots.active, slots.floor))
}

fn flashed(bundle: &Bundle, unchanged: bool, previous: Option<String>, floor: u64) -> Flashed {
    let manifest = bundle.manifest();
    Flashed {
        digest: bundle.digest().to_owned(),
        name: manifest.name.clone(),
        version: manifest.version.to_string(),
        unchanged,
        on_trial: false,
        previous,
        floor,
    }
}

/// Everything that can be known of a bundle without running it.
fn verified(bytes: &[u8], trust: &Trust) -> Result<Bundle, SlotError> {
    let bundle = Bundle::read(bytes, bytes.len() as u64, trust, &Limits::default())?;
    if bundle.signed() {
        return Ok(bundle);
    }
    Err(SlotError::Unsigned { digest: bundle.digest().to_owned() })
}

fn not_below(bundle: &Bundle, floor: u64) -> Result<(), SlotError> {
    let got = bundle.manifest().security_counter;
    if got < floor { Err(SlotError::Downgrade { got, floor }) } else { Ok(()) }
}

/// Whether a stored bundle is whole, of its model and still signed as the trust asks for, whatever its counter.
///
/// # Errors
/// [`SlotError`] with what is wrong with it.
pub fn trusted(store: &dyn SlotStore, model: &str, digest: &str, trust: &Trust) -> Result<(), SlotError> {
    stored(store, model, digest, trust, 0).map(drop)
}

pub(super) fn stored(
    store: &dyn SlotStore,
    model: &str,
    digest: &str,
    trust: &Trust,
    floor: u64,
) -> Result<Bundle, SlotError> {
    let bundle = verified(&store.read(digest)?, trust)?;
    not_below(&bundle, floor)?;
    if bundle.digest() != digest {
        let (got, expected) = (bundle.digest().to_owned(), digest.to_owned());
        return Err(SlotError::Digest { got, expected });
    }
    let name = &bundle.manifest().name;
    if name != model {
        let (digest, got, expected) = (digest.to_owned(), name.clone(), model.to_owned());
        return Err(SlotError::Name { digest, got, expected });
    }
    Ok(bundle)
}
