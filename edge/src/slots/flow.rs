//! The way of a bundle into a slot: verify everything, store, prove on this device, try, confirm.

use std::path::Path;

use locus_engine::{Bundle, Limits, Trust};

use super::{Boot, BoxError, Flashed, Proving, SlotError, SlotRecord, SlotStore};
use crate::vfs::{OsVfs, Vfs};

/// The bytes of a bundle file whose head is good: no more of it is read than its signed manifest says.
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn read(path: &Path, trust: &Trust) -> Result<Vec<u8>, SlotError> {
    Bundle::announced(path, trust, &Limits::default())?;
    // Read once: what is verified is what is stored, whatever happens to the file meanwhile.
    OsVfs.read(path, Limits::default().bundle_bytes).map_err(|source| SlotError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// Verifies, stores, proves, tries and confirms a bundle. After any failure what serves is what the record
/// names: the old model, but for [`SlotError::Unsettled`].
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn flash_bytes(
    store: &mut dyn SlotStore,
    bytes: &[u8],
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let mut record = store.state()?;
    let offered = verified(bytes, trust, record.floor)?;
    let quantised = offered.manifest().parts.iter().any(|part| part.name.starts_with("int8"));
    if let Some(reason) = offered.manifest().contract.exceeded().filter(|_| quantised) {
        return Err(SlotError::Contract { reason });
    }
    if record.trial.is_some() {
        // A trial that never ended, because the process that ran it did.
        store.revert()?;
        record = store.state()?;
    }
    let digest = offered.digest();
    let unchanged = record.active.as_deref() == Some(digest) && proving.serves(digest);
    if unchanged && stored(store, digest, trust, record.floor).is_ok() {
        return Ok(flashed(&offered, true, record.previous, record.floor));
    }
    store.write_standby(digest, bytes)?;
    // From here on only what came back from the disk counts.
    let bundle = stored(store, digest, trust, record.floor)?;
    proving.self_test(&bundle).map_err(|reason| SlotError::SelfTest { reason })?;
    let previous = to_go_back_to(store, &record, digest, trust, proving);
    store.stage(digest)?;
    if let Err(reason) = proving.trial(&bundle) {
        proving.revert();
        if let Err(error) = store.revert() {
            tracing::error!(%error, "the end of the trial is not recorded; the next start or flash records it");
        }
        return Err(SlotError::Trial { reason });
    }
    if !proving.confirms_at_once() {
        return Ok(Flashed { on_trial: true, ..flashed(&bundle, unchanged, previous, record.floor) });
    }
    let counter = bundle.manifest().security_counter;
    if let Err(error) = store.confirm(counter, previous.as_deref()) {
        return Err(agree(store, digest, proving, error));
    }
    proving.confirm();
    Ok(flashed(&bundle, unchanged, previous, record.floor.max(counter)))
}

/// A trial that goes on after the flash that began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Digest of what is tried.
    pub digest: String,
    /// Digest of what to go back to.
    pub previous: Option<String>,
}

/// Ends a trial well: what is tried becomes the active one, and the floor is raised.
///
/// # Errors
/// [`SlotError`]; then the model before serves, but for [`SlotError::Unsettled`].
pub fn confirm(
    store: &mut dyn SlotStore,
    trial: &Trial,
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let record = store.state()?;
    if record.trial.as_deref() != Some(trial.digest.as_str()) {
        return Err(SlotError::NoTrial);
    }
    let bundle = match stored(store, &trial.digest, trust, record.floor) {
        Ok(bundle) => bundle,
        Err(error) => {
            end_trial(store, proving)?;
            return Err(error);
        }
    };
    let counter = bundle.manifest().security_counter;
    if let Err(error) = store.confirm(counter, trial.previous.as_deref()) {
        return Err(agree(store, &trial.digest, proving, error));
    }
    proving.confirm();
    Ok(flashed(&bundle, false, trial.previous.clone(), record.floor.max(counter)))
}

/// Ends a trial badly: the model before serves again. Gives the digest of what was tried.
///
/// # Errors
/// [`SlotError::NoTrial`], or the end cannot be recorded: the next start records it.
pub fn end_trial(store: &mut dyn SlotStore, proving: &mut dyn Proving) -> Result<String, SlotError> {
    let digest = store.state()?.trial.ok_or(SlotError::NoTrial)?;
    proving.revert();
    store.revert()?;
    Ok(digest)
}

/// What serves now, or could: a bundle that is damaged, or that does not run here, is nothing to go back to.
fn to_go_back_to(
    store: &dyn SlotStore,
    record: &SlotRecord,
    digest: &str,
    trust: &Trust,
    proving: &dyn Proving,
) -> Option<String> {
    let others = || [&record.active, &record.previous].into_iter().flatten().filter(|other| *other != digest);
    let whole = |other: &&String| stored(store, other, trust, record.floor).is_ok();
    let served = others().find(|other| proving.serves(other) && whole(other));
    served.or_else(|| others().find(whole)).cloned()
}

/// After an error of the disk the change may have taken effect or not. What serves follows what the record says.
fn agree(store: &mut dyn SlotStore, digest: &str, proving: &mut dyn Proving, error: SlotError) -> SlotError {
    match store.state() {
        Ok(now) if now.active.as_deref() == Some(digest) && now.trial.is_none() => {
            proving.confirm();
            SlotError::Unsettled { digest: digest.to_owned(), source: Box::new(error) }
        }
        _ => {
            proving.revert();
            let _ = store.revert();
            error
        }
    }
}

/// Goes back to the previous bundle, which must be at or above the floor and pass the proving again.
///
/// # Errors
/// [`SlotError`].
pub fn roll_back(
    store: &mut dyn SlotStore,
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let mut record = store.state()?;
    if record.trial.is_some() {
        store.revert()?;
        record = store.state()?;
    }
    let digest = record.previous.ok_or(SlotError::NoPrevious)?;
    let bundle = stored(store, &digest, trust, record.floor)?;
    proving.self_test(&bundle).map_err(|reason| SlotError::SelfTest { reason })?;
    if let Err(reason) = proving.trial(&bundle) {
        proving.revert();
        return Err(SlotError::Trial { reason });
    }
    if let Err(error) = store.swap_back() {
        return Err(agree(store, &digest, proving, error));
    }
    proving.confirm();
    Ok(flashed(&bundle, false, record.active, record.floor))
}

/// Finds what to serve when the box starts: ends a trial, verifies the active bundle and starts it. Where that one is
/// damaged or does not `start` on this device, the previous one serves, and the reason is told.
///
/// # Errors
/// [`SlotError`] where the record cannot be read or written.
pub fn boot(
    store: &mut dyn SlotStore,
    trust: &Trust,
    start: &mut dyn FnMut(&Bundle) -> Result<(), BoxError>,
) -> Result<Boot, SlotError> {
    let mut record = store.state()?;
    let reverted = record.trial.take();
    if reverted.is_some() {
        store.revert()?;
        record = store.state()?;
    }
    let mut boot = Boot { bundle: None, reverted, fallback: None, record };
    for digest in [boot.record.active.clone(), boot.record.previous.clone()].into_iter().flatten() {
        let started = stored(store, &digest, trust, boot.record.floor).and_then(|bundle| {
            start(&bundle).map(|()| bundle).map_err(|reason| SlotError::SelfTest { reason })
        });
        match started {
            Ok(bundle) => {
                boot.bundle = Some(bundle);
                break;
            }
            // The first reason is the one to repair.
            Err(error) => boot.fallback = boot.fallback.or(Some(error.to_string())),
        }
    }
    Ok(boot)
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
fn verified(bytes: &[u8], trust: &Trust, floor: u64) -> Result<Bundle, SlotError> {
    let bundle = Bundle::read(bytes, bytes.len() as u64, trust, &Limits::default())?;
    if !bundle.signed() {
        return Err(SlotError::Unsigned { digest: bundle.digest().to_owned() });
    }
    let got = bundle.manifest().security_counter;
    if got < floor { Err(SlotError::Downgrade { got, floor }) } else { Ok(bundle) }
}

/// Whether a stored bundle is whole and still signed as the trust asks for, whatever its counter.
///
/// # Errors
/// [`SlotError`] with what is wrong with it.
pub fn trusted(store: &dyn SlotStore, digest: &str, trust: &Trust) -> Result<(), SlotError> {
    stored(store, digest, trust, 0).map(drop)
}

fn stored(store: &dyn SlotStore, digest: &str, trust: &Trust, floor: u64) -> Result<Bundle, SlotError> {
    let bundle = verified(&store.read(digest)?, trust, floor)?;
    if bundle.digest() != digest {
        let (got, expected) = (bundle.digest().to_owned(), digest.to_owned());
        return Err(SlotError::Digest { got, expected });
    }
    Ok(bundle)
}
