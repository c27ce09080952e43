//! A session with the manifest and the golden vectors of its bundle: what scorers of every task have.

use locus_firmware_config::{manifest::Manifest, profile::DeviceProfile};

use super::crew::Crew;
use super::golden::{self, Expected};
use crate::select::Skipped;
use crate::session::LoadOptions;
use crate::{Bundle, Error, Graphs};

pub(super) struct Model {
    pub(super) session: Crew,
    pub(super) skipped: Vec<Skipped>,
    pub(super) manifest: Manifest,
    pub(super) digest: String,
    pub(super) golden: Vec<Expected>,
}

impl Model {
    /// Opens a session for a verified bundle, by the order of `options` or else of `profile`.
    pub(super) fn open(
        bundle: &Bundle,
        profile: &DeviceProfile,
        options: &LoadOptions,
    ) -> Result<Self, Error> {
        let golden = golden::read(bundle)?;
        let (session, skipped) = Crew::open(&Graphs::from_bundle(bundle)?, profile, options)?;
        let (manifest, digest) = (bundle.manifest().clone(), bundle.digest().to_owned());
        Ok(Self { session, skipped, manifest, digest, golden })
    }
}
