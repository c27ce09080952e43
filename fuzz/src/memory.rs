//! Files in memory: enough of a disk for what the box reads and writes.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use locus_edge::vfs::{Access, Vfs, VfsFile, VfsLock};
use locus_genome::packed::ReadAt;

/// Bytes of a file, and whether only its owner can read it.
type Held = (Vec<u8>, bool);
type Files = Arc<Mutex<BTreeMap<PathBuf, Held>>>;

/// A disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Files);

#[derive(Debug)]
struct Open(Files, PathBuf);

#[derive(Debug)]
struct Locked;

impl VfsLock for Locked {}

fn lock(files: &Files) -> MutexGuard<'_, BTreeMap<PathBuf, Held>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Puts a file there that everybody can read.
    pub(crate) fn put(&self, path: PathBuf, bytes: &[u8]) {
        lock(&self.0).insert(path, (bytes.to_vec(), false));
    }

    fn with<T>(&self, path: &Path, read: impl FnOnce(&Held) -> T) -> io::Result<T> {
        lock(&self.0).get(path).map(read).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn moved(&self, from: &Path, to: &Path, over: bool) -> io::Result<()> {
        let mut files = lock(&self.0);
        if !over && files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let held = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), held);
        Ok(())
    }
}

impl Open {
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        change(&mut lock(&self.0).get_mut(&self.1).ok_or(io::ErrorKind::NotFound)?.0);
        Ok(())
    }
}

impl VfsFile for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.change(|file| file.extend_from_slice(bytes))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end =
            from.checked_add(bytes.len()).filter(|end| *end <= 1 << 30).ok_or(io::ErrorKind::FileTooLarge)?;
        self.change(|file| {
            file.resize(file.len().max(end), 0);
            file[from..end].copy_from_slice(bytes);
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(|file| file.truncate(usize::try_from(len).unwrap_or(usize::MAX)))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Vfs for Memory {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = lock(&self.0);
        let below =
            files.keys().filter(|path| path.parent() == Some(dir)).filter_map(|path| path.file_name());
        Ok(below.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.with(path, |(bytes, _)| bytes.clone())?;
        if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn read_start(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        self.with(path, |(bytes, _)| bytes[..bytes.len().min(len as usize)].to_vec())
    }

    fn open_read(&self, path: &Path) -> io::Result<(Arc<dyn ReadAt>, u64)> {
        let bytes = self.with(path, |(bytes, _)| bytes.clone())?;
        let len = bytes.len() as u64;
        Ok((Arc::new(bytes), len))
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn VfsFile>> {
        let mut files = lock(&self.0);
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        files.insert(path.to_owned(), (Vec::new(), access == Access::Private));
        Ok(Box::new(Open(Arc::clone(&self.0), path.to_owned())))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.with(path, |_| ())?;
        Ok(Box::new(Open(Arc::clone(&self.0), path.to_owned())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.moved(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.moved(from, to, false)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn VfsLock>> {
        Ok(Box::new(Locked))
    }

    fn is_private(&self, path: &Path) -> io::Result<bool> {
        self.with(path, |(_, private)| *private)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(lock(&self.0).contains_key(path))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.with(path, |(bytes, _)| bytes.len() as u64)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn forget(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
