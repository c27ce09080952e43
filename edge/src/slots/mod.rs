//! Which model the box runs: slots, and the way a new bundle takes to get into one.

mod error;

use std::path::Path;

use locus_engine::{Bundle, Trust};
pub use locus_firmware_config::slot::SlotRecord;
use serde::Serialize;

pub use error::{BoxError, SlotError};

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

    /// Makes the bundle on trial the active one and raises the floor to its counter, in one step.
    ///
    /// # Errors
    /// [`SlotError`].
    fn confirm(&mut self, security_counter: u64) -> Result<(), SlotError>;

    /// Ends the trial; the active bundle stays.
    ///
    /// # Errors
    /// [`SlotError`].
    fn revert(&mut self) -> Result<(), SlotError>;

    /// Makes the previous bundle the active one again, and the active one the previous.
    ///
    /// # Errors
    /// [`SlotError`].
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
    /// Digest of what served before.
    pub previous: Option<String>,
    /// The floor now.
    pub floor: u64,
}

/// What a box starts with.
#[derive(Debug)]
pub struct Boot {
    /// The model to serve, verified; none on a box that was never flashed or has lost all.
    pub bundle: Option<Bundle>,
    /// The record.
    pub record: SlotRecord,
    /// A trial that a restart ended.
    pub reverted: Option<String>,
    /// Why not the active one: it was damaged, and the previous serves, or nothing.
    pub fallback: Option<String>,
}

/// Verifies, stores, proves, tries and confirms a bundle file. After any failure the old model is active.
///
/// # Errors
/// [`SlotError`] with what was refused.
pub fn flash(
    _store: &mut dyn SlotStore,
    _path: &Path,
    _trust: &Trust,
    _proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    Err(SlotError::NoPrevious)
}

/// Goes back to the previous bundle, which must be at or above the floor and pass the proving again.
///
/// # Errors
/// [`SlotError`].
pub fn roll_back(
    _store: &mut dyn SlotStore,
    _trust: &Trust,
    _proving: &mut dyn Proving,
) -> Result<Flashed, SlotError> {
    Err(SlotError::NoPrevious)
}

/// Finds what to serve when the box starts: ends a trial, opens and verifies the active bundle.
///
/// # Errors
/// [`SlotError`] where the record cannot be read.
pub fn boot(_store: &mut dyn SlotStore, _trust: &Trust) -> Result<Boot, SlotError> {
    Err(SlotError::NoPrevious)
}
