//! The way of a bundle into a slot: verify everything, store, prove on this device, try, confirm.

use std::path::Path;

use locus_engine::{Bundle, Limits, Trust};

use super::{Boot, Flashed, Proving, SlotError, SlotStore};
use crate::vfs::{OsVfs, Vfs};

/// Verifies, stores, proves, tries and confirms a bundle file. After any failure the old model is active.
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn flash(
    store: &mut dyn SlotStore,
    path: &Path,
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    // Read once: what is verified is what is stored, whatever happens to the file meanwhile.
    let bytes = OsVfs.read(path, Limits::default().bundle_bytes).map_err(|source| SlotError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    flash_bytes(store, &bytes, trust, proving)
}

/// As [`flash`], with the bytes of the bundle.
///
/// # Errors
/// As [`flash`].
pub fn flash_bytes(
    store: &mut dyn SlotStore,
    bytes: &[u8],
    trust: &Trust,
    proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    let mut record = store.state()?;
    let offered = verified(bytes, trust, record.floor)?;
    if record.trial.is_some() {
        // A trial that never ended, because the process that ran it did.
        store.revert()?;
        record = store.state()?;
    }
    let digest = offered.digest();
    let unchanged = record.active.as_deref() == Some(digest);
    if unchanged && stored(store, digest, trust, record.floor).is_ok() {
        return Ok(flashed(&offered, true, record.previous, record.floor));
    }
    drop(record);
    store.write_standby(digest, bytes)?;
    // From here on only what came back from the disk counts.
    let bundle = stored(store, offered.digest(), trust, store.state()?.floor)?;
    proving.self_test(&bundle).map_err(|reason| SlotError::SelfTest { reason })?;
    store.stage(bundle.digest())?;
    if let Err(reason) = proving.trial(&bundle) {
        proving.revert();
        store.revert()?;
        return Err(SlotError::Trial { reason });
    }
    if let Err(error) = store.confirm(bundle.manifest().security_counter) {
        proving.revert();
        // The box may already count the new one as active: it was proved, so either is right after a restart.
        let _ = store.revert();
        return Err(error);
    }
    let record = store.state()?;
    Ok(flashed(&bundle, unchanged, record.previous, record.floor))
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
        proving.revert();
        return Err(error);
    }
    Ok(flashed(&bundle, false, record.active, record.floor))
}

/// Finds what to serve when the box starts: ends a trial, opens and verifies the active bundle. Where that one is
/// damaged, the previous one serves, and the reason is told.
///
/// # Errors
/// [`SlotError`] where the record cannot be read or written.
pub fn boot(store: &mut dyn SlotStore, trust: &Trust) -> Result<Boot, SlotError> {
    let mut record = store.state()?;
    let reverted = record.trial.take();
    if reverted.is_some() {
        store.revert()?;
        record = store.state()?;
    }
    let mut boot = Boot { bundle: None, reverted, fallback: None, record };
    for digest in [boot.record.active.clone(), boot.record.previous.clone()].into_iter().flatten() {
        match stored(store, &digest, trust, boot.record.floor) {
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

fn stored(store: &dyn SlotStore, digest: &str, trust: &Trust, floor: u64) -> Result<Bundle, SlotError> {
    let bundle = verified(&store.read(digest)?, trust, floor)?;
    if bundle.digest() != digest {
        let (got, expected) = (bundle.digest().to_owned(), digest.to_owned());
        return Err(SlotError::Digest { got, expected });
    }
    Ok(bundle)
}
