//! Slots in a folder: two copies of the record, written in turn, and one file per bundle.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{Bundle, Limits, Trust};
use locus_genome::packed::ReadAt;

use super::{SlotError, SlotRecord, SlotStore, Slots, check_digest, confirmed, reverted, swapped};
use crate::vfs::{Access, Vfs, VfsLock, write_atomic, write_atomic_from};

const COPIES: [&str; 2] = ["record.0", "record.1"];
/// Largest record, in bytes.
const MAX_RECORD: u64 = 32 << 10;
/// Largest bundle, in bytes: the engine opens none that is larger.
const MAX_BUNDLE: u64 = 2 << 30;
const END: &str = ".locus";
/// Name of slots of a record of one model, where neither of their bundles can be read.
const UNREADABLE: &str = "unreadable";

/// Slots in a folder. The floor in the record is worth what the folder is worth: whoever is root on the box can
/// put an old record back.
#[derive(Debug)]
pub struct FileSlotStore {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    bundles: PathBuf,
    _lock: Box<dyn VfsLock>,
}

fn io_at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SlotError {
    let path = path.to_owned();
    move |source| SlotError::Io { operation, path, source }
}

impl FileSlotStore {
    /// Opens the slots of a folder, and makes the folder where there is none. One process at a time.
    ///
    /// # Errors
    /// [`SlotError::Locked`], [`SlotError::Io`].
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Self, SlotError> {
        let bundles = dir.join("bundles");
        vfs.create_dir_all(&bundles).map_err(io_at("create", &bundles))?;
        let path = dir.join("lock");
        let lock = vfs.lock(&path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => SlotError::Locked { path: path.clone() },
            _ => SlotError::Io { operation: "lock", path: path.clone(), source },
        })?;
        let mut store = Self { vfs, dir: dir.to_owned(), bundles, _lock: lock };
        store.adopt()?;
        Ok(store)
    }

    /// Gives the slots of a record of one model the names that their bundles have.
    fn adopt(&mut self) -> Result<(), SlotError> {
        // What cannot be read is told by whoever asks for it.
        let Ok(mut record) = self.state() else { return Ok(()) };
        let Some(slots) = record.models.remove("") else { return Ok(()) };
        let name = |digest: &Option<String>| digest.as_ref().and_then(|digest| self.name_of(digest));
        let (active, previous) = (name(&slots.active), name(&slots.previous));
        let own = active.clone().or_else(|| previous.clone()).unwrap_or_else(|| UNREADABLE.to_owned());
        let other = previous.filter(|previous| *previous != own);
        if let Some(other) = other {
            // At that time another model took the slot; it stays to be gone back to, as what it is.
            let before = Slots { previous: slots.previous.clone(), floor: slots.floor, ..Slots::default() };
            record = record.with(&other, before).with(&own, Slots { previous: None, ..slots });
        } else {
            record = record.with(&own, slots);
        }
        self.write_both(record)
    }

    /// The name in a stored bundle's manifest.
    fn name_of(&self, digest: &str) -> Option<String> {
        let bytes = self.read(digest).ok()?;
        let bundle =
            Bundle::read(bytes.as_slice(), bytes.len() as u64, &Trust::AllowUnsigned, &Limits::default());
        Some(bundle.ok()?.manifest().name.clone())
    }

    /// The record of a folder that another process may have open, for reading only.
    ///
    /// # Errors
    /// As [`SlotStore::state`].
    pub fn peek(vfs: &dyn Vfs, dir: &Path) -> Result<SlotRecord, SlotError> {
        let copies = copies(vfs, dir)?;
        if copies.iter().all(Option::is_none) {
            return Ok(SlotRecord::default());
        }
        SlotRecord::newest([copies[0].as_deref(), copies[1].as_deref()])
            .ok_or_else(|| SlotError::Record { dir: dir.to_owned() })
    }

    /// Files of a folder's record that cannot be read; the other copy counts.
    ///
    /// # Errors
    /// [`SlotError::Io`].
    pub fn damaged_copies(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>, SlotError> {
        let copies = copies(vfs, dir)?;
        let damaged =
            |copy: &Option<Vec<u8>>| copy.as_ref().is_some_and(|bytes| SlotRecord::decode(bytes).is_none());
        Ok(COPIES
            .iter()
            .zip(&copies)
            .filter(|(_, copy)| damaged(copy))
            .map(|(name, _)| dir.join(name))
            .collect())
    }

    /// Writes a record that changes what the box runs over both copies: one that is damaged later loses nothing,
    /// and where the first write failed after it took effect, the second one proves that it lasts.
    fn write_both(&mut self, record: SlotRecord) -> Result<(), SlotError> {
        let first = self.write(record.clone());
        let Some(now) = self.state().ok().filter(|now| now.sequence == record.sequence + 1) else {
            return first;
        };
        let second = self.write(now);
        if let (Ok(()), Err(error)) = (&first, &second) {
            tracing::warn!(%error, "the slot record is written, its second copy is not");
        }
        first.or(second)
    }

    /// Writes the next record over the older copy.
    fn write(&mut self, mut record: SlotRecord) -> Result<(), SlotError> {
        let copy = record.next_copy();
        record.sequence += 1;
        let path = self.dir.join(COPIES[copy]);
        write_atomic(&*self.vfs, &path, &record.encode(), Access::Group).map_err(io_at("write", &path))
    }

    /// The file of a bundle in a folder that another process may have open.
    ///
    /// # Errors
    /// [`SlotError`]: what is named is no digest.
    pub fn stored(dir: &Path, digest: &str) -> Result<PathBuf, SlotError> {
        check_digest(digest)?;
        Ok(dir.join("bundles").join(format!("{digest}{END}")))
    }

    fn path_of(&self, digest: &str) -> Result<PathBuf, SlotError> {
        Self::stored(&self.dir, digest)
    }

    /// Removes what no slot refers to, so that failures never fill the disk.
    fn tidy(&mut self, record: &SlotRecord, keep: &str) -> Result<(), SlotError> {
        let used: Vec<&str> =
            record.models.values().flat_map(Slots::digests).chain(std::iter::once(keep)).collect();
        for name in self.vfs.list(&self.bundles).map_err(io_at("list", &self.bundles))? {
            let digest = name.strip_suffix(END);
            if !digest.is_some_and(|digest| used.contains(&digest)) {
                let path = self.bundles.join(&name);
                self.vfs.remove(&path).map_err(io_at("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn copies(vfs: &dyn Vfs, dir: &Path) -> Result<[Option<Vec<u8>>; 2], SlotError> {
    let mut copies = [None, None];
    for (copy, name) in copies.iter_mut().zip(COPIES) {
        let path = dir.join(name);
        match vfs.read(&path, MAX_RECORD) {
            Ok(bytes) => *copy = Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_at("read", &path)(error)),
        }
    }
    Ok(copies)
}

impl SlotStore for FileSlotStore {
    fn state(&self) -> Result<SlotRecord, SlotError> {
        Self::peek(&*self.vfs, &self.dir)
    }

    fn write_standby(&mut self, digest: &str, bundle: &[u8]) -> Result<(), SlotError> {
        let path = self.path_of(digest)?;
        let record = self.state()?;
        self.tidy(&record, digest)?;
        // Written even where a file of this name is: it may be what a failed sync left behind.
        write_atomic(&*self.vfs, &path, bundle, Access::Group).map_err(io_at("write", &path))
    }

    fn write_standby_from(&mut self, digest: &str, from: &mut dyn io::Read) -> Result<(), SlotError> {
        let path = self.path_of(digest)?;
        let record = self.state()?;
        self.tidy(&record, digest)?;
        write_atomic_from(&*self.vfs, &path, from, Access::Group).map_err(io_at("write", &path))
    }

    fn open(&self, digest: &str) -> Result<(Arc<dyn ReadAt>, u64), SlotError> {
        let path = self.path_of(digest)?;
        match self.vfs.open_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SlotError::Missing { digest: digest.to_owned() })
            }
            opened => opened.map_err(io_at("open", &path)),
        }
    }

    fn read(&self, digest: &str) -> Result<Vec<u8>, SlotError> {
        let path = self.path_of(digest)?;
        match self.vfs.read(&path, MAX_BUNDLE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SlotError::Missing { digest: digest.to_owned() })
            }
            read => read.map_err(io_at("read", &path)),
        }
    }

    fn stage(&mut self, model: &str, digest: &str) -> Result<(), SlotError> {
        let path = self.path_of(digest)?;
        if !self.vfs.exists(&path).map_err(io_at("look for", &path))? {
            return Err(SlotError::Missing { digest: digest.to_owned() });
        }
        let record = self.state()?;
        let slots = Slots { trial: Some(digest.to_owned()), ..record.of(model) };
        self.write(record.with(model, slots))
    }

    fn confirm(
        &mut self,
        model: &str,
        security_counter: u64,
        previous: Option<&str>,
    ) -> Result<(), SlotError> {
        let record = self.state()?;
        let slots = confirmed(record.of(model), security_counter, previous)?;
        self.write_both(record.with(model, slots))
    }

    fn revert(&mut self, model: &str) -> Result<(), SlotError> {
        let record = self.state()?;
        let slots = reverted(record.of(model))?;
        self.write_both(record.with(model, slots))
    }

    fn swap_back(&mut self, model: &str) -> Result<(), SlotError> {
        let record = self.state()?;
        let slots = swapped(record.of(model))?;
        self.write_both(record.with(model, slots))
    }

    fn put(&mut self, model: &str, slots: Slots) -> Result<(), SlotError> {
        let record = self.state()?;
        self.write_both(record.with(model, slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::FaultyVfs;

    fn digest(n: u8) -> String {
        hex::encode([n; 32])
    }

    fn store() -> (FaultyVfs, FileSlotStore) {
        let vfs = FaultyVfs::new();
        let store = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
        (vfs, store)
    }

    #[test]
    fn a_bundle_goes_from_standby_over_trial_to_active_and_back() {
        let (_, mut store) = store();
        assert_eq!(store.state().unwrap(), SlotRecord::default());
        for (n, counter) in [(1, 5), (2, 4)] {
            store.write_standby(&digest(n), &[n]).unwrap();
            store.stage("m", &digest(n)).unwrap();
            let previous = store.state().unwrap().of("m").active;
            store.confirm("m", counter, previous.as_deref()).unwrap();
        }
        let state = store.state().unwrap().of("m");
        assert_eq!((state.active, state.previous, state.trial), (Some(digest(2)), Some(digest(1)), None));
        assert_eq!(state.floor, 5, "the floor is never lowered");
        store.swap_back("m").unwrap();
        assert_eq!(store.state().unwrap().of("m").active, Some(digest(1)));
        assert_eq!(store.read(&digest(2)).unwrap(), [2]);
        store.write_standby(&digest(3), &[3]).unwrap();
        store.stage("m", &digest(3)).unwrap();
        store.revert("m").unwrap();
        assert!(matches!(store.revert("m"), Err(SlotError::NoTrial)));
        assert!(matches!(store.confirm("m", 9, None), Err(SlotError::NoTrial)));
        store.write_standby(&digest(4), &[4]).unwrap();
        assert!(matches!(store.read(&digest(3)), Err(SlotError::Missing { .. })), "nobody refers to it");
        assert!(store.read(&digest(1)).is_ok() && store.read(&digest(2)).is_ok());
    }

    #[test]
    fn names_that_are_no_digests_reach_no_file() {
        let (_, mut store) = store();
        for name in ["", "../../etc/passwd", &digest(1)[1..], &digest(171).to_uppercase()] {
            assert!(matches!(store.write_standby(name, b"x"), Err(SlotError::NotADigest { .. })), "{name}");
            assert!(matches!(store.read(name), Err(SlotError::NotADigest { .. })));
            assert!(matches!(store.stage("m", name), Err(SlotError::NotADigest { .. })));
        }
        assert!(matches!(store.stage("m", &digest(1)), Err(SlotError::Missing { .. })));
        assert!(matches!(store.swap_back("m"), Err(SlotError::NoPrevious)));
    }

    #[test]
    fn one_damaged_copy_is_survived_and_two_are_an_error() {
        let (vfs, mut store) = store();
        for n in 1..=2 {
            store.write_standby(&digest(n), &[n]).unwrap();
            store.stage("m", &digest(n)).unwrap();
            store.confirm("m", 1, None).unwrap();
        }
        let confirmed = store.state().unwrap().of("m");
        let dir = Path::new("/slots");
        assert!(FileSlotStore::damaged_copies(&vfs, dir).unwrap().is_empty());
        for name in COPIES {
            let one = vfs.fork();
            one.tamper(&dir.join(name), |bytes| bytes[9] ^= 1).unwrap();
            let state = FileSlotStore::peek(&one, dir).unwrap().of("m");
            assert_eq!(
                (&state.active, state.trial),
                (&confirmed.active, None),
                "both hold what was confirmed"
            );
            assert_eq!(FileSlotStore::damaged_copies(&one, dir).unwrap(), [dir.join(name)]);
            let mut store = FileSlotStore::open(Arc::new(one.clone()), dir).unwrap();
            store.stage("m", &digest(1)).unwrap();
            store.revert("m").unwrap();
            assert!(FileSlotStore::damaged_copies(&one, dir).unwrap().is_empty(), "and is written again");
        }
        for name in COPIES {
            vfs.tamper(&dir.join(name), |bytes| bytes.clear()).unwrap();
        }
        assert!(matches!(store.state(), Err(SlotError::Record { .. })));
        assert!(matches!(store.write_standby(&digest(3), b"x"), Err(SlotError::Record { .. })));
    }

    #[test]
    fn a_second_process_may_look_and_not_touch() {
        let (vfs, store) = store();
        let second = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots"));
        assert!(matches!(second, Err(SlotError::Locked { .. })));
        assert_eq!(FileSlotStore::peek(&vfs, Path::new("/slots")).unwrap(), store.state().unwrap());
    }
}
