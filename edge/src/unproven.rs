//! Marks of models that have not proved themselves since the daemon started: where one is found at a start, the process
//! ended while that model started or gave its first answers.
//!
//! A mark is an empty file that nobody waits for: the end of a process leaves it, a power cut, for which no model is to
//! blame, mostly not.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use locus_firmware_config::manifest::is_hex;

/// The folder of the marks.
#[derive(Clone, Debug, Default)]
pub struct Unproven(Option<PathBuf>);

impl Unproven {
    /// Marks in a folder, which is made where it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(Some(folder.to_owned())))
    }

    fn path(&self, digest: &str) -> Option<PathBuf> {
        self.0.as_ref().filter(|_| is_hex(digest, 64)).map(|folder| folder.join(digest))
    }

    /// Says that a model is about to do something for the first time.
    pub fn mark(&self, digest: &str) {
        let Some(path) = self.path(digest) else { return };
        if let Err(error) = File::create(&path) {
            tracing::warn!(%error, path = %path.display(), "an end of the process by this model would not be counted");
        }
    }

    /// Says that it came out alive.
    pub fn clear(&self, digest: &str) {
        let _ = self.path(digest).map(fs::remove_file);
    }

    /// Digests of the marks that are left, which are removed.
    pub fn take(&self) -> BTreeSet<String> {
        let entries = self.0.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut left = BTreeSet::new();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let _ = fs::remove_file(entry.path());
            if is_hex(&name, 64) {
                left.insert(name);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_was_not_cleared_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Unproven::open(folder.path()).unwrap();
        let (one, two) = ("a".repeat(64), "b".repeat(64));
        for digest in [&one, &two, &"../x".to_owned()] {
            marks.mark(digest);
        }
        marks.clear(&two);
        assert_eq!(marks.take(), BTreeSet::from([one]));
        assert!(marks.take().is_empty());
        Unproven::default().mark(&two);
    }
}
