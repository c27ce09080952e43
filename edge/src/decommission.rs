//! Destroys what makes a box this box: after it nothing on its disk opens a result or signs for it.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use crate::{
    journal::{JournalError, on_disk},
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, folder_of, write_atomic},
};

/// Bytes that are written at once over a file.
const CHUNK: usize = 1 << 20;

/// Why the box stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecommissionError {
    /// A file.
    #[error("{path}: {source}; do it again, it goes on")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Results that are nowhere else.
    #[error(
        "{records} records in {segments} segments have no verified copy: `locusctl journal offload --to DIR` first, or --discard-results"
    )]
    NotCopied {
        /// Records.
        records: u64,
        /// Segments.
        segments: u64,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What is gone, and what is not.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Decommissioned {
    /// Files that were written over and removed.
    pub destroyed: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Ids of the recipients who can still open what was copied elsewhere.
    pub recipients: Vec<String>,
    /// Last segment of which a copy was verified; 0 where none was.
    pub copied_to_segment: u64,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DecommissionError {
    let path = path.to_owned();
    move |source| DecommissionError::Io { path, source }
}

/// Writes zeros over a file and removes it. What wear levelling or a snapshot keeps of it is beyond this.
fn destroy(vfs: &dyn Vfs, path: &Path) -> io::Result<u64> {
    let len = vfs.len(path)?;
    let mut file = vfs.open(path)?;
    let zeros = vec![0; CHUNK.min(len as usize)];
    let mut at = 0;
    while at < len {
        let part = zeros.len().min((len - at) as usize);
        file.write_at(at, &zeros[..part])?;
        at += part as u64;
    }
    file.sync()?;
    vfs.remove(path)?;
    vfs.sync_dir(folder_of(path))?;
    Ok(len)
}

/// Every secret of the state, in the order in which it goes: first what signs and hashes, then what opens results.
fn secrets(root: &Path, folder: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            secrets(root, &path, out)?;
        } else if kind.is_file() {
            // What lets people in is nobody's any more, whoever may read it.
            let whole = ["journal", "access"].iter().any(|folder| path.starts_with(root.join(folder)));
            if whole || OsVfs.is_private(&path)? {
                out.push(path);
            }
        }
    }
    // Keys before results, and the rest by name.
    out.sort_by_key(|path| (path.starts_with(root.join("journal")), path.clone()));
    Ok(())
}

/// Destroys every key and every result on the box. Nobody else may have the journal or the slots open.
///
/// # Errors
/// [`DecommissionError`]; done again, it goes on.
pub fn decommission(
    state: &StateDir,
    device: Option<&VerifyingKey>,
    discard: bool,
    unix_ms: u64,
) -> Result<Decommissioned, DecommissionError> {
    let mut done = Decommissioned::default();
    let mark = state.decommissioned();
    if !OsVfs.exists(&mark).map_err(io_at(&mark))? {
        if let Some(device) = device {
            let found = on_disk(&OsVfs, &state.journal(), device)?;
            if found.records > 0 && !discard {
                return Err(DecommissionError::NotCopied {
                    records: found.records,
                    segments: found.segments,
                });
            }
            done.recipients = found.recipients.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            done.copied_to_segment = found.copied_to;
        }
        let text = format!("decommissioned at {unix_ms} ms since 1970\n");
        write_atomic(&OsVfs, &mark, text.as_bytes(), Access::Public).map_err(io_at(&mark))?;
    }
    let mut files = Vec::new();
    secrets(state.root(), state.root(), &mut files).map_err(io_at(state.root()))?;
    for path in files {
        done.bytes += destroy(&OsVfs, &path).map_err(io_at(&path))?;
        done.destroyed += 1;
    }
    Ok(done)
}
