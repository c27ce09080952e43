//! What serves when the box starts.

use locus_engine::{Bundle, Trust};

use super::{Boot, BoxError, SlotError, SlotStore, Slots, flow::stored};

/// Ends of the daemon with a confirmed bundle, one after the other without a good answer, after which it does not serve
/// again by itself.
pub const MAX_CRASHES: u32 = 3;

/// Finds what to serve of each model when the box starts: ends a trial, verifies the active bundle and starts it. Where
/// that one is damaged or does not `start` on this device, the previous one serves, and the reason is told. One with
/// which the process ended [`MAX_CRASHES`] times in a row, as `crashed` says of the last time, is set back for good.
///
/// # Errors
/// [`SlotError`] where the record cannot be read or written.
pub fn boot(
    store: &mut dyn SlotStore,
    trust: &Trust,
    crashed: &dyn Fn(&str) -> bool,
    start: &mut dyn FnMut(&Bundle) -> Result<(), BoxError>,
) -> Result<Vec<Boot>, SlotError> {
    let names: Vec<String> = store.state()?.names().map(str::to_owned).collect();
    // Counted for all before any starts: the one that starts next may end the process.
    let mut boots = Vec::with_capacity(names.len());
    for model in names {
        let mut slots = store.state()?.of(&model);
        let reverted = slots.trial.take();
        if reverted.is_some() {
            store.revert(&model)?;
            slots = store.state()?.of(&model);
        }
        let set_back = count_crash(store, &model, &mut slots, crashed)?;
        boots.push(Boot { model, bundle: None, slots, set_back, reverted, fallback: None });
    }
    for boot in &mut boots {
        // What was never active is for an operator to go back to.
        let Some(active) = boot.slots.active.clone() else { continue };
        for digest in std::iter::once(active).chain(boot.slots.previous.clone()) {
            let started = stored(store, &boot.model, &digest, trust, boot.slots.floor).and_then(|bundle| {
                start(&bundle).map(|()| bundle).map_err(|reason| SlotError::SelfTest { reason })
            });
            match started {
                Ok(bundle) => {
                    boot.bundle = Some(bundle);
                    break;
                }
                // The first reason is the one to repair.
                Err(error) => boot.fallback = boot.fallback.take().or(Some(error.to_string())),
            }
        }
    }
    Ok(boots)
}

/// Counts an end of the process with the active bundle; at [`MAX_CRASHES`] the previous one takes its place, or nothing.
pub(super) fn count_crash(
    store: &mut dyn SlotStore,
    model: &str,
    slots: &mut Slots,
    crashed: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, SlotError> {
    let Some(active) = slots.active.clone().filter(|active| crashed(active)) else { return Ok(None) };
    slots.crashes += 1;
    let set_back = (slots.crashes >= MAX_CRASHES).then_some(active);
    if set_back.is_some() {
        let (active, floor) = (slots.previous.take(), slots.floor);
        *slots = Slots { active, floor, set_back: set_back.clone(), ..Slots::default() };
    }
    store.put(model, slots.clone())?;
    Ok(set_back)
}
