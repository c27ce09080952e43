//! The way of a reference pack into its slots. It is proved by its digests, so that it goes on no trial: what the record
//! names is what serves.

use std::{fs::File, path::Path};

use locus_engine::{
    Trust,
    bundle::{Depth, Pack},
};
use locus_firmware_config::pack::PACK_SLOTS;

use super::{BoxError, Flashed, SlotError, SlotStore, Slots, Step, boot::count_crash};

/// A stored pack that is whole and signed as the trust asks for, at the floor or above it.
///
/// # Errors
/// [`SlotError`] with what is wrong with it.
pub fn stored_pack(
    store: &dyn SlotStore,
    digest: &str,
    trust: &Trust,
    floor: u64,
    depth: Depth,
) -> Result<Pack, SlotError> {
    let (source, total) = store.open(digest)?;
    let pack = Pack::open(source, total, trust, depth)?;
    if !pack.signed() {
        return Err(SlotError::Unsigned { digest: pack.digest().to_owned() });
    }
    not_below(pack.manifest().security_counter, floor)?;
    if pack.digest() != digest {
        let (got, expected) = (pack.digest().to_owned(), digest.to_owned());
        return Err(SlotError::Digest { got, expected });
    }
    Ok(pack)
}

const fn not_below(got: u64, floor: u64) -> Result<(), SlotError> {
    if got < floor { Err(SlotError::Downgrade { got, floor }) } else { Ok(()) }
}

fn flashed(pack: &Pack, unchanged: bool, previous: Option<String>, floor: u64) -> Flashed {
    let manifest = pack.manifest();
    Flashed {
        digest: pack.digest().to_owned(),
        name: manifest.name.clone(),
        version: manifest.version.to_string(),
        unchanged,
        on_trial: false,
        previous,
        floor,
    }
}

/// What the record names serves, also where the disk reported an error after it took effect.
fn settle<G>(
    store: &mut dyn SlotStore,
    digest: &str,
    genome: G,
    serve: impl FnOnce(G),
    written: Result<(), SlotError>,
) -> Result<(), SlotError> {
    let Err(error) = written else {
        serve(genome);
        return Ok(());
    };
    match store.state().map(|record| record.of(PACK_SLOTS)) {
        Ok(now) if now.active.as_deref() == Some(digest) && now.trial.is_none() => {
            serve(genome);
            Err(SlotError::Unsettled { digest: digest.to_owned(), source: Box::new(error) })
        }
        _ => {
            let _ = store.revert(PACK_SLOTS);
            Err(error)
        }
    }
}

/// Verifies, stores, proves and activates the pack of a file; `prove` makes the genome of it, `serve` answers by that. After
/// any failure what serves is what the record names: the pack before, but for [`SlotError::Unsettled`].
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn flash_pack<G>(
    store: &mut dyn SlotStore,
    path: &Path,
    trust: &Trust,
    tell: &dyn Fn(&Step),
    serves: &dyn Fn(&str) -> bool,
    prove: impl FnOnce(Pack) -> Result<G, BoxError>,
    serve: impl FnOnce(G),
) -> Result<Flashed, SlotError> {
    let mut slots = store.state()?.of(PACK_SLOTS);
    tell(&Step::Verify);
    // Costs neither memory nor disk: an unsigned file is refused by its first bytes.
    let (manifest, digest) = Pack::announced(path, trust)?;
    not_below(manifest.security_counter, slots.floor)?;
    if slots.trial.is_some() {
        store.revert(PACK_SLOTS)?;
        slots = store.state()?.of(PACK_SLOTS);
    }
    let unchanged = slots.active.as_deref() == Some(digest.as_str()) && serves(&digest);
    if unchanged && let Ok(pack) = stored_pack(store, &digest, trust, slots.floor, Depth::Whole) {
        return Ok(flashed(&pack, true, slots.previous, slots.floor));
    }
    let at = |operation| {
        let path = path.to_owned();
        move |source| SlotError::Io { operation, path, source }
    };
    let mut file = File::open(path).map_err(at("open"))?;
    tell(&Step::Unpack { bytes: file.metadata().map_err(at("look at"))?.len() });
    store.write_standby_from(&digest, &mut file)?;
    // From here on only what came back from the disk counts.
    tell(&Step::SelfTest);
    let pack = stored_pack(store, &digest, trust, slots.floor, Depth::Whole)?;
    let others = [&slots.active, &slots.previous].into_iter().flatten().filter(|other| **other != digest);
    let whole = |other: &&String| stored_pack(store, other, trust, slots.floor, Depth::Tables).is_ok();
    let previous = others.into_iter().find(whole).cloned();
    let counter = pack.manifest().security_counter;
    let report = flashed(&pack, unchanged, previous.clone(), slots.floor.max(counter));
    let genome = prove(pack).map_err(|reason| SlotError::SelfTest { reason })?;
    store.stage(PACK_SLOTS, &digest)?;
    let written = store.confirm(PACK_SLOTS, counter, previous.as_deref());
    settle(store, &digest, genome, serve, written)?;
    Ok(report)
}

/// Goes back to the previous pack, which must be at or above the floor.
///
/// # Errors
/// [`SlotError`].
pub fn roll_back_pack<G>(
    store: &mut dyn SlotStore,
    trust: &Trust,
    prove: impl FnOnce(Pack) -> Result<G, BoxError>,
    serve: impl FnOnce(G),
) -> Result<Flashed, SlotError> {
    let slots = store.state()?.of(PACK_SLOTS);
    let digest = slots.previous.ok_or(SlotError::NoPrevious)?;
    let pack = stored_pack(store, &digest, trust, slots.floor, Depth::Whole)?;
    let report = flashed(&pack, false, slots.active, slots.floor);
    let genome = prove(pack).map_err(|reason| SlotError::SelfTest { reason })?;
    let written = store.swap_back(PACK_SLOTS);
    settle(store, &digest, genome, serve, written)?;
    Ok(report)
}

/// What a box starts with of its packs.
#[derive(Debug)]
pub struct PackBoot<G> {
    /// What serves; none where there is none, or all are lost.
    pub genome: Option<G>,
    /// What the operator should know.
    pub notices: Vec<String>,
}

/// Finds the pack that serves when the box starts. Where the active one is damaged, the previous one serves, and the reason
/// is told; one at whose start the process ended again and again is set back for good.
///
/// # Errors
/// [`SlotError`] where the record cannot be read or written.
pub fn boot_pack<G>(
    store: &mut dyn SlotStore,
    trust: &Trust,
    crashed: &dyn Fn(&str) -> bool,
    start: &mut dyn FnMut(Pack) -> Result<G, BoxError>,
) -> Result<PackBoot<G>, SlotError> {
    let mut slots = store.state()?.of(PACK_SLOTS);
    let mut boot = PackBoot { genome: None, notices: Vec::new() };
    if slots.trial.is_some() {
        store.revert(PACK_SLOTS)?;
        slots = store.state()?.of(PACK_SLOTS);
    }
    if let Some(digest) = count_crash(store, PACK_SLOTS, &mut slots, crashed)? {
        boot.notices.push(format!(
            "the daemon ended again and again while it opened the reference pack {digest}: it was taken out; flash another one"
        ));
    }
    let Some(active) = slots.active.clone() else { return Ok(boot) };
    let mut reasons = Vec::new();
    for digest in std::iter::once(active).chain(slots.previous.clone()) {
        let started = stored_pack(store, &digest, trust, slots.floor, Depth::Tables)
            .and_then(|pack| start(pack).map_err(|reason| SlotError::SelfTest { reason }));
        match started {
            Ok(genome) => {
                if let Some(reason) = reasons.first() {
                    boot.notices.push(format!(
                        "the active reference pack does not serve, the previous one serves, {digest}: {reason}"
                    ));
                }
                if slots.crashes > 0 {
                    store.put(PACK_SLOTS, Slots { crashes: 0, ..slots })?;
                }
                boot.genome = Some(genome);
                return Ok(boot);
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let reason = reasons.swap_remove(0);
    boot.notices
        .push(format!("no reference pack serves, variants are refused until one is flashed: {reason}"));
    Ok(boot)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
