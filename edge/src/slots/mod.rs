//! Which models the box runs: slots of each, and the way a new bundle takes to get into them.

mod boot;
mod error;
mod file;
mod flow;
#[cfg(test)]
mod mem;
mod pack;

use std::{io::Read, sync::Arc};

use locus_engine::Bundle;
pub use locus_firmware_config::slot::{MAX_MODELS, MAX_NAMES, SlotRecord, Slots};
use locus_genome::packed::ReadAt;
use serde::Serialize;

pub use boot::{MAX_CRASHES, boot};
pub use error::{BoxError, SlotError};
pub use file::FileSlotStore;
pub use flow::{Step, Trial, confirm, end_trial, flash_bytes, read, remove, roll_back, trusted};
#[cfg(test)]
pub use mem::MemSlotStore;
pub use pack::{PackBoot, boot_pack, flash_pack, roll_back_pack, stored_pack};

/// Where bundles and the slot record live.
pub trait SlotStore: Send {
    /// The record that counts.
    ///
    /// # Errors
    /// [`SlotError`]; unknown state is an error, never a guess.
    fn state(&self) -> Result<SlotRecord, SlotError>;

    /// Stores a bundle in the standby slot, durable on return. What runs is not touched.
    ///
    /// # Errors
    /// [`SlotError`].
    fn write_standby(&mut self, digest: &str, bundle: &[u8]) -> Result<(), SlotError>;

    /// The bytes of a stored bundle.
    ///
    /// # Errors
    /// [`SlotError`].
    fn read(&self, digest: &str) -> Result<Vec<u8>, SlotError>;

    /// As [`SlotStore::write_standby`], of what a reader gives: for what is not held in memory.
    ///
    /// # Errors
    /// [`SlotError`].
    fn write_standby_from(&mut self, digest: &str, from: &mut dyn Read) -> Result<(), SlotError>;

    /// A stored bundle, to be read by position; with its length.
    ///
    /// # Errors
    /// [`SlotError`].
    fn open(&self, digest: &str) -> Result<(Arc<dyn ReadAt>, u64), SlotError>;

    /// Puts the standby bundle on trial as a model's: after a restart it is not trusted.
    ///
    /// # Errors
    /// [`SlotError`].
    fn stage(&mut self, model: &str, digest: &str) -> Result<(), SlotError>;

    /// Makes a model's bundle on trial the active one, `previous` the one to go back to, and raises the floor to the
    /// counter, in one step.
    ///
    /// # Errors
    /// [`SlotError`]; whether it took effect is for [`SlotStore::state`] to say.
    fn confirm(
        &mut self,
        model: &str,
        security_counter: u64,
        previous: Option<&str>,
    ) -> Result<(), SlotError>;

    /// Ends the trial of a model; the active bundle stays.
    ///
    /// # Errors
    /// [`SlotError`].
    fn revert(&mut self, model: &str) -> Result<(), SlotError>;

    /// Makes the previous bundle of a model the active one again, and the active one the previous.
    ///
    /// # Errors
    /// As [`SlotStore::confirm`].
    fn swap_back(&mut self, model: &str) -> Result<(), SlotError>;

    /// Writes other slots of a model, in one step.
    ///
    /// # Errors
    /// As [`SlotStore::confirm`].
    fn put(&mut self, model: &str, slots: Slots) -> Result<(), SlotError>;
}

/// Largest sum of the sizes of the bundles that serve, in bytes: each is in memory, and a new one beside the one that it
/// replaces.
pub const MAX_SERVED_BYTES: u64 = 2 << 30;

/// What a new model has to pass on this device.
pub trait Proving {
    /// Is told how far a flash has come.
    fn step(&mut self, step: Step) {
        let _ = step;
    }

    /// Largest sum of the sizes of the bundles that serve, in bytes.
    fn most_bytes(&self) -> u64 {
        MAX_SERVED_BYTES
    }

    /// Builds the engine and compares its golden vectors, before anything is recorded.
    ///
    /// # Errors
    /// Why the model must not serve.
    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError>;

    /// Serves with it, on trial.
    ///
    /// # Errors
    /// Why the old one must serve on.
    fn trial(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        let _ = bundle;
        Ok(())
    }

    /// Goes back to what served before the trial of a model.
    fn revert(&mut self, model: &str) {
        let _ = model;
    }

    /// Whether a trial that began well is confirmed at once; else it goes on after the flash.
    fn confirms_at_once(&self) -> bool {
        true
    }

    /// Ends the trial of a model: what is tried is what the record names now.
    fn confirm(&mut self, model: &str) {
        let _ = model;
    }

    /// Whether requests are answered by this model now; else what the record names is proved again.
    fn serves(&self, digest: &str) -> bool {
        let _ = digest;
        true
    }
}

impl<F: FnMut(&Bundle) -> Result<(), BoxError>> Proving for F {
    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        self(bundle)
    }
}

/// What came of a flash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flashed {
    /// Digest of the bundle that serves now.
    pub digest: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it served already.
    pub unchanged: bool,
    /// Whether it serves on trial: a restart, a failure or an order ends that, and the model before serves again.
    pub on_trial: bool,
    /// Digest of what served before.
    pub previous: Option<String>,
    /// The floor now.
    pub floor: u64,
}

/// What a box starts with of one model.
#[derive(Debug)]
pub struct Boot {
    /// Name of the model.
    pub model: String,
    /// What serves; none where it has lost all.
    pub bundle: Option<Bundle>,
    /// Its slots.
    pub slots: Slots,
    /// Set back to the previous bundle now, because the daemon ended again and again with this one.
    pub set_back: Option<String>,
    /// A trial that a restart ended.
    pub reverted: Option<String>,
    /// Why not the active one: it is damaged or fails on this device, and the previous serves, or nothing.
    pub fallback: Option<String>,
}

fn check_digest(digest: &str) -> Result<(), SlotError> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digest.len() == 64 && digest.bytes().all(digits) {
        return Ok(());
    }
    Err(SlotError::NotADigest { got: digest.chars().take(80).collect() })
}

/// The slots once the trial is confirmed. The floor is only ever raised, and never before.
fn confirmed(slots: Slots, security_counter: u64, previous: Option<&str>) -> Result<Slots, SlotError> {
    let trial = slots.trial.ok_or(SlotError::NoTrial)?;
    Ok(Slots {
        previous: previous.map(str::to_owned),
        active: Some(trial),
        floor: slots.floor.max(security_counter),
        ..Slots::default()
    })
}

fn reverted(slots: Slots) -> Result<Slots, SlotError> {
    slots.trial.as_ref().ok_or(SlotError::NoTrial)?;
    Ok(Slots { trial: None, ..slots })
}

fn swapped(slots: Slots) -> Result<Slots, SlotError> {
    let previous = slots.previous.ok_or(SlotError::NoPrevious)?;
    Ok(Slots { active: Some(previous), previous: slots.active, floor: slots.floor, ..Slots::default() })
}

#[cfg(test)]
mod tests;
