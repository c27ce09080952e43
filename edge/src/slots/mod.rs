//! Which model the box runs: slots, and the way a new bundle takes to get into one.

mod error;
mod file;
mod flow;
#[cfg(test)]
mod mem;

use locus_engine::Bundle;
pub use locus_firmware_config::slot::SlotRecord;
use serde::Serialize;

pub use error::{BoxError, SlotError};
pub use file::FileSlotStore;
pub use flow::{Trial, boot, confirm, end_trial, flash_bytes, read, roll_back, trusted};
#[cfg(test)]
pub use mem::MemSlotStore;

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

    /// Puts the standby bundle on trial: after a restart it is not trusted.
    ///
    /// # Errors
    /// [`SlotError`].
    fn stage(&mut self, digest: &str) -> Result<(), SlotError>;

    /// Makes the bundle on trial the active one, `previous` the one to go back to, and raises the floor to the
    /// counter, in one step.
    ///
    /// # Errors
    /// [`SlotError`]; whether it took effect is for [`SlotStore::state`] to say.
    fn confirm(&mut self, security_counter: u64, previous: Option<&str>) -> Result<(), SlotError>;

    /// Ends the trial; the active bundle stays.
    ///
    /// # Errors
    /// [`SlotError`].
    fn revert(&mut self) -> Result<(), SlotError>;

    /// Makes the previous bundle the active one again, and the active one the previous.
    ///
    /// # Errors
    /// As [`SlotStore::confirm`].
    fn swap_back(&mut self) -> Result<(), SlotError>;
}

/// What a new model has to pass on this device.
pub trait Proving {
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

    /// Goes back to what served before the trial.
    fn revert(&mut self) {}

    /// Whether a trial that began well is confirmed at once; else it goes on after the flash.
    fn confirms_at_once(&self) -> bool {
        true
    }

    /// Ends the trial: what is tried is what the record names now.
    fn confirm(&mut self) {}

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

/// What a box starts with.
#[derive(Debug)]
pub struct Boot {
    /// The model that serves; none on a box that was never flashed or has lost all.
    pub bundle: Option<Bundle>,
    /// The record.
    pub record: SlotRecord,
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

/// The record once the trial is confirmed. The floor is only ever raised, and never before.
fn confirmed(
    record: SlotRecord,
    security_counter: u64,
    previous: Option<&str>,
) -> Result<SlotRecord, SlotError> {
    let trial = record.trial.ok_or(SlotError::NoTrial)?;
    Ok(SlotRecord {
        previous: previous.map(str::to_owned),
        active: Some(trial),
        trial: None,
        floor: record.floor.max(security_counter),
        ..record
    })
}

fn swapped(record: SlotRecord) -> Result<SlotRecord, SlotError> {
    let previous = record.previous.ok_or(SlotError::NoPrevious)?;
    Ok(SlotRecord { active: Some(previous), previous: record.active, trial: None, ..record })
}

#[cfg(test)]
mod tests;
