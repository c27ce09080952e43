//! A watched folder: a bundle that appears in it while the daemon runs is flashed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::{
    flashing::Flasher,
    health::{Health, Notice},
};

/// How often the folder is looked at. A file is flashed once it has stayed the same from one look to the next.
const LOOK: Duration = Duration::from_millis(500);
/// Most files that are looked at.
const MAX_FILES: usize = 64;

/// Length and time of a file.
type Mark = (u64, Option<SystemTime>);

/// What was in the folder at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// Each file, and whether it was flashed or refused as it is.
    files: BTreeMap<PathBuf, (Mark, bool)>,
}

impl Seen {
    /// What was there before the daemon is not new: after going back to another model a restart must not flash it again.
    fn at_start(files: BTreeMap<PathBuf, Mark>) -> Self {
        Self { files: files.into_iter().map(|(path, mark)| (path, (mark, true))).collect() }
    }

    /// Takes another look: files that are new, and were the same at the last look.
    fn look(&mut self, files: BTreeMap<PathBuf, Mark>) -> Vec<PathBuf> {
        let mut new = Vec::new();
        let mut now = BTreeMap::new();
        for (path, mark) in files {
            let (same, done) = match self.files.get(&path) {
                Some((before, done)) if *before == mark => (true, *done),
                _ => (false, false),
            };
            if same && !done {
                new.push(path.clone());
            }
            now.insert(path, (mark, same));
        }
        self.files = now;
        new
    }
}

/// Bundles in a folder; none where it is not there, as that of a stick that is not.
fn bundles(folder: &Path) -> BTreeMap<PathBuf, Mark> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "locus"));
    let marked = paths.filter_map(|path| {
        // A link could name any file of the box: it is not followed.
        let about = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some((path, (about.len(), about.modified().ok())))
    });
    marked.take(MAX_FILES).collect()
}

/// Watches until `stop`.
pub(crate) async fn run(
    folder: PathBuf,
    flasher: Arc<Mutex<Flasher>>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let mut seen = Seen::at_start(bundles(&folder));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        for path in seen.look(bundles(&folder)) {
            let (flasher, health) = (Arc::clone(&flasher), Arc::clone(&health));
            let flashed = tokio::task::spawn_blocking(move || {
                let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
                match flasher.flash(&path, Some(&health.pipeline)) {
                    Ok(report) => {
                        tracing::info!(file = %path.display(), digest = report.flashed.digest, "flashed from the watched folder");
                        health.settled(&report.flashed.name);
                    }
                    Err(error) => {
                        let text = format!("{} in the watched folder was refused: {error}", path.display());
                        tracing::error!("{text}");
                        health.notice(Notice { model: None, text });
                    }
                }
            });
            let _ = flashed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_once_when_it_has_stopped_growing_and_not_if_it_was_there_before() {
        let files = |list: &[(&str, u64)]| {
            list.iter().map(|(name, len)| (PathBuf::from(name), (*len, None))).collect()
        };
        let mut seen = Seen::at_start(files(&[("old", 5)]));
        assert!(seen.look(files(&[("old", 5), ("new", 1)])).is_empty());
        assert!(seen.look(files(&[("old", 5), ("new", 2)])).is_empty(), "it grows");
        assert_eq!(seen.look(files(&[("old", 5), ("new", 2)])), [Path::new("new")]);
        assert!(seen.look(files(&[("old", 5), ("new", 2)])).is_empty(), "once");
        assert!(seen.look(files(&[("old", 6)])).is_empty());
        assert_eq!(seen.look(files(&[("old", 6)])), [Path::new("old")], "another content");
        seen.look(files(&[]));
        seen.look(files(&[("old", 6)]));
        assert_eq!(seen.look(files(&[("old", 6)])), [Path::new("old")], "the stick was put in again");
    }

    #[test]
    fn links_and_other_files_are_not_bundles() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.locus"), b"x").unwrap();
        std::fs::write(path("b.txt"), b"x").unwrap();
        std::fs::create_dir(path("c.locus")).unwrap();
        std::os::unix::fs::symlink(path("a.locus"), path("d.locus")).unwrap();
        assert_eq!(bundles(folder.path()).into_keys().collect::<Vec<_>>(), [path("a.locus")]);
        assert!(bundles(&path("none")).is_empty());
    }
}
