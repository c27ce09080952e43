//! A session with the manifest and the golden vectors of its bundle: what scorers of every task have.

use locus_firmware_config::{manifest::Manifest, profile::DeviceProfile};

use super::golden::{self, Expected};
use super::memory::Remembering;
use crate::select::{Opened, Skipped, open_session};
use crate::session::LoadOptions;
use crate::{Bundle, Error};

pub(super) struct Model {
    pub(super) session: Remembering,
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
        let Opened { session, skipped } = open_session(bundle, profile, options)?;
        let (manifest, digest) = (bundle.manifest().clone(), bundle.digest().to_owned());
        Ok(Self { session: Remembering::new(session), skipped, manifest, digest, golden })
    }
}
