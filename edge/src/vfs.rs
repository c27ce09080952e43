//! The few file operations that journal, slots and keys need, behind a trait, so that a test can lose power,
//! tear writes and fill the disk at any one of them.

use std::{
    fmt::Debug,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_genome::packed::ReadAt;

#[cfg(test)]
mod faulty;

#[cfg(test)]
pub use faulty::{Fault, FaultyVfs};

/// Bytes of a large file that are written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The owner only (0600).
    Private,
    /// The owner's group too (0640).
    Group,
    /// Everyone (0644).
    Public,
}

/// An open file.
pub trait VfsFile: Send + Debug {
    /// Writes all of `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Overwrites bytes at an offset.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Returns once contents and length are on stable storage. After an error nothing may be assumed of what
    /// was written, and trying again proves nothing.
    fn sync(&mut self) -> io::Result<()>;
}

/// Held for as long as it lives: a second holder is refused.
pub trait VfsLock: Send + Debug {}

/// Files and folders.
pub trait Vfs: Send + Sync + Debug {
    /// Makes a folder (0750) and its parents; durable on return. One that is there is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names of the plain files in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// All of a file, refused with `FileTooLarge` beyond `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The first bytes of a file, at most `len`.
    fn read_start(&self, path: &Path, len: u64) -> io::Result<Vec<u8>>;

    /// Opens a plain file for reading by position; with its length.
    fn open_read(&self, path: &Path) -> io::Result<(Arc<dyn ReadAt>, u64)>;

    /// Creates a file that must not be there yet.
    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a file that is there, for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Renames a file over whatever has the new name; durable after [`Vfs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file to a name that must be free, else `AlreadyExists`; durable after [`Vfs::sync_dir`].
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable after [`Vfs::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock by a file of this name; `WouldBlock` where another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>>;

    /// Whether only the owner can read a file.
    fn is_private(&self, path: &Path) -> io::Result<bool>;

    /// Whether there is a file of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Bytes in a file.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Bytes that are free for this process where a folder lies.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;

    /// Lets the system forget what it remembers of a file that was synced: the next read asks the disk.
    fn forget(&self, path: &Path) -> io::Result<()>;
}

/// Puts a file in place whole or not at all: temporary name, sync, rename, sync of the folder.
pub fn write_atomic(vfs: &dyn Vfs, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    write_beside(vfs, &temporary, bytes, access, || vfs.rename(&temporary, path))?;
    vfs.sync_dir(folder_of(path))
}

/// As [`write_atomic`], of what a reader gives, piece by piece.
pub fn write_atomic_from(vfs: &dyn Vfs, path: &Path, from: &mut dyn Read, access: Access) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    let fill = |file: &mut dyn VfsFile| {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut piece)? {
                0 => return Ok(()),
                n => file.append(&piece[..n])?,
            }
        }
    };
    fill_beside(vfs, &temporary, access, fill, || vfs.rename(&temporary, path))?;
    vfs.sync_dir(folder_of(path))
}

/// As [`write_atomic`], for a name that must be free: whoever comes second is told `AlreadyExists`.
pub fn write_new(vfs: &dyn Vfs, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    if vfs.exists(path)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // A name of this process: two that write at once do not share a temporary file.
    let temporary = beside(path, &format!(".{}.tmp", std::process::id()));
    write_beside(vfs, &temporary, bytes, access, || vfs.rename_new(&temporary, path))?;
    vfs.sync_dir(folder_of(path))
}

/// Writes the temporary file and moves it; after an error it is gone, so that a full disk is not filled further.
fn write_beside(
    vfs: &dyn Vfs,
    temporary: &Path,
    bytes: &[u8],
    access: Access,
    place: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    fill_beside(vfs, temporary, access, |file| file.append(bytes), place)
}

fn fill_beside(
    vfs: &dyn Vfs,
    temporary: &Path,
    access: Access,
    fill: impl FnOnce(&mut dyn VfsFile) -> io::Result<()>,
    place: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match vfs.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = vfs.create(temporary, access)?;
    let written = fill(&mut *file).and_then(|()| file.sync()).and_then(|()| place());
    if written.is_err() {
        let _ = vfs.remove(temporary);
    }
    written
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Bytes that are free for this process where a folder lies.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsVfs;

#[derive(Debug)]
struct OsFile(File);

#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl VfsLock for OsLock {}

impl VfsFile for OsFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.seek(SeekFrom::End(0))?;
        self.0.write_all(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Vfs for OsVfs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = folder_of(dir);
        self.create_dir_all(parent)?;
        match DirBuilder::new().mode(0o750).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read_start(path, limit.saturating_add(1))?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn read_start(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        // Asked before opening: opening a FIFO would wait for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open_read(&self, path: &Path) -> io::Result<(Arc<dyn ReadAt>, u64)> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok((Arc::new(file), len))
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn VfsFile>> {
        let mode = match access {
            Access::Private => 0o600,
            Access::Group => 0o640,
            Access::Public => 0o644,
        };
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(OsFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_private(&self, path: &Path) -> io::Result<bool> {
        Ok(std::fs::metadata(path)?.mode() & 0o077 == 0)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        free_bytes(folder)
    }

    fn forget(&self, path: &Path) -> io::Result<()> {
        use rustix::fs::{Advice, fadvise};
        match fadvise(File::open(path)?, 0, None, Advice::DontNeed) {
            // A file system that cannot be asked reads again as it likes.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::SPIPE) | Ok(()) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_folder_and_the_simulated_one_behave_alike() {
        let folder = tempfile::tempdir().unwrap();
        let simulated = FaultyVfs::new();
        for (vfs, root) in
            [(&OsVfs as &dyn Vfs, folder.path().to_owned()), (&simulated as &dyn Vfs, PathBuf::from("/s"))]
        {
            let dir = root.join("a/b");
            vfs.create_dir_all(&dir).unwrap();
            vfs.create_dir_all(&dir).unwrap();
            let path = dir.join("f");
            write_atomic(vfs, &path, b"one", Access::Private).unwrap();
            write_atomic(vfs, &path, b"three", Access::Private).unwrap();
            assert!(vfs.is_private(&path).unwrap());
            assert!(vfs.exists(&path).unwrap());
            assert_eq!(vfs.create(&path, Access::Group).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(
                write_new(vfs, &path, b"two", Access::Group).unwrap_err().kind(),
                io::ErrorKind::AlreadyExists
            );
            let second = dir.join("g");
            vfs.create(&second, Access::Group).unwrap();
            assert_eq!(vfs.rename_new(&second, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            vfs.rename_new(&second, &dir.join("h")).unwrap();
            vfs.remove(&dir.join("h")).unwrap();
            let mut file = vfs.open(&path).unwrap();
            file.append(b"!").unwrap();
            file.write_at(1, b"HR").unwrap();
            assert_eq!(vfs.read(&path, 6).unwrap(), b"tHRee!");
            assert_eq!(vfs.read(&path, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(vfs.read_start(&path, 2).unwrap(), b"tH");
            assert_eq!(vfs.read_start(&path, 99).unwrap(), b"tHRee!");
            file.truncate(2).unwrap();
            file.append(b"z").unwrap();
            file.sync().unwrap();
            assert_eq!(vfs.read(&path, 9).unwrap(), b"tHz");
            assert_eq!(vfs.len(&path).unwrap(), 3);
            assert!(vfs.free_bytes(&dir).unwrap() > 0);
            assert_eq!(vfs.list(&dir).unwrap(), ["f"]);
            let lock = vfs.lock(&dir.join("lock")).unwrap();
            assert_eq!(vfs.lock(&dir.join("lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(lock);
            vfs.lock(&dir.join("lock")).unwrap();
            vfs.remove(&path).unwrap();
            assert_eq!(vfs.read(&path, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(vfs.open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(vfs.list(&root.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
            let missing = root.join("none/f");
            assert_eq!(vfs.create(&missing, Access::Group).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_file_that_could_not_be_written_leaves_nothing_behind() {
        for at in 1.. {
            let vfs = FaultyVfs::new();
            vfs.create_dir_all(Path::new("/d")).unwrap();
            let path = Path::new("/d/f");
            vfs.fail_at(vfs.operations() + at, Fault::Error(io::ErrorKind::StorageFull));
            let done = write_atomic(&vfs, path, b"whole", Access::Group).is_ok();
            let left = vfs.files();
            assert!(left.is_empty() || left == [(path.to_owned(), b"whole".to_vec())], "{at}: {left:?}");
            if done {
                break;
            }
        }
        assert!(free_bytes(tempfile::tempdir().unwrap().path()).unwrap() > 0);
    }
}
