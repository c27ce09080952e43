//! Which answers a withdrawn model gave, without opening one: a record says outside of its seal who answered it.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::{
    JournalError, Receipt,
    format::{MAX_SEGMENT, file_name},
    places::Places,
    receipt,
    scan::{Depth, Walk},
    segment::io_at,
};
use crate::vfs::Vfs;

/// An answer of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recalled {
    /// What its asker was given.
    pub receipt: Receipt,
    /// When it was written, milliseconds since 1970.
    pub unix_ms: u64,
    /// Whether the box trusted its clock then.
    pub clock_trusted: bool,
    /// Who asked, hashed with the box's key; null in a record of nobody.
    pub terminal: Option<String>,
    /// Digest of the bundle that answered.
    pub bundle: String,
    /// Record that it repeats.
    pub repeat_of: Option<u64>,
}

/// Tells of every answer of the bundles whose digest starts so; what is wrong with the journal comes back in words.
///
/// # Errors
/// Files that cannot be read.
pub fn recall(
    vfs: &dyn Vfs,
    dir: &Path,
    device: &VerifyingKey,
    digest: &str,
    mut tell: impl FnMut(Recalled),
) -> Result<Vec<String>, JournalError> {
    let places = Places::look(vfs, dir, &[], device)?;
    if places.segments.is_empty() {
        return Err(JournalError::Empty { dir: dir.to_owned() });
    }
    let mut walk = Walk::after(places.note.as_ref(), device, Depth::Every);
    for (number, folder) in &places.segments {
        let path = folder.join(file_name(*number));
        let bytes = vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
        let Some(segment) = walk.step(*number, &bytes) else { continue };
        for placed in &segment.records {
            let head = &placed.record.head;
            let bundle = hex::encode(head.bundle);
            if bundle.starts_with(digest) {
                tell(Recalled {
                    receipt: receipt(&segment.header.journal, head.index, &placed.record.leaf, &placed.after),
                    unix_ms: head.unix_ms,
                    clock_trusted: head.clock_trusted,
                    terminal: head.terminal.map(hex::encode),
                    bundle,
                    repeat_of: head.repeat_of,
                });
            }
        }
    }
    let mut findings = places.findings;
    findings.extend(walk.findings.iter().map(ToString::to_string));
    findings.extend(walk.last().and_then(|end| end.damage()));
    Ok(findings)
}
