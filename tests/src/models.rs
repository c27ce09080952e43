//! Other models than the shipped one, made of it.

use anyhow::{Context, Result};
use locus_export::{BundleBuilder, split};
use locus_firmware_config::manifest::Manifest;

use crate::root;

/// The shipped bundle with a changed manifest, unsigned: another model with the same weights.
///
/// # Errors
/// The shipped bundle cannot be read.
pub fn variation(change: impl FnOnce(&mut Manifest)) -> Result<Vec<u8>> {
    let entries = split(&std::fs::read(root().join("models/variant-effect.locus"))?)?;
    let mut manifest = Manifest::from_json(&entries.first().context("an empty bundle")?.1)?;
    change(&mut manifest);
    let builder = entries
        .into_iter()
        .skip(1)
        .try_fold(BundleBuilder::new(manifest), |builder, (name, bytes)| builder.part(&name, bytes))?;
    Ok(builder.build()?)
}
