//! A disk in memory that forgets what was not synced, tears what was being written, and fails on request.
//! Everything it does comes from a seed (the approach of SQLite's test VFS and of LazyFS).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use locus_genome::packed::ReadAt;

use super::{Access, Vfs, VfsFile, VfsLock};

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: every later operation fails until [`FaultyVfs::restart`].
    PowerCut,
    /// The operation fails with this kind, a write after part of it was done, and the rest goes on working.
    Error(io::ErrorKind),
    /// From here on every operation that writes fails with this kind, as on a disk that stays full.
    Lasting(io::ErrorKind),
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => content.resize(*len, 0),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    private: bool,
}

#[derive(Debug, Clone)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => names.insert(path.clone(), *inode),
            Self::Unlink(path) => names.remove(path),
        };
    }
}

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Directory changes that no `sync_dir` covers yet; a rename is one group of two.
    unsynced: Vec<Vec<Naming>>,
    folders: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    plan: Option<(u64, Fault)>,
    off: bool,
    log: Vec<String>,
    /// Bytes that the disk says are free; what is written does not change it.
    free: Option<u64>,
}

/// A simulated disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultyVfs {
    disk: Arc<Mutex<Disk>>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and enough to pick what survives.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % (n as u64).max(1)) as usize
    }
}

fn power() -> io::Error {
    io::Error::other("simulated power cut")
}

impl FaultyVfs {
    /// An empty disk that works.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Operations that changed or synced something, so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets operation number `at` (counted as [`FaultyVfs::operations`] does, the first is 1) go wrong.
    pub fn fail_at(&self, at: u64, fault: Fault) {
        self.disk().plan = Some((at, fault));
    }

    /// Lets the disk say that so many bytes are free.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.disk().free = Some(bytes);
    }

    /// What the operations were, for messages of tests.
    pub fn log(&self) -> Vec<String> {
        self.disk().log.clone()
    }

    /// Starts the machine again after a power cut: of what was not synced, the seed decides what is lost, torn or
    /// kept, in any order within a file and as a prefix in a folder. Locks are gone, faults are forgotten.
    pub fn restart(&self, seed: u64) {
        let mut seed = Seed(seed);
        let disk = &mut *self.disk();
        for inode in &mut disk.inodes {
            let mut content = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.unsynced) {
                match (seed.below(4), &change) {
                    (0, _) => {}
                    (1, Change::Write { offset, bytes }) => {
                        let kept = bytes[..seed.below(bytes.len() + 1)].to_vec();
                        Change::Write { offset: *offset, bytes: kept }.apply(&mut content);
                    }
                    (2, Change::Write { offset, bytes }) => {
                        // The length reached the disk, a part of the data did not.
                        let mut kept = bytes.clone();
                        let hole = seed.below(bytes.len() + 1);
                        let end = (hole + seed.below(bytes.len() + 1)).min(bytes.len());
                        kept[hole..end].fill(0);
                        Change::Write { offset: *offset, bytes: kept }.apply(&mut content);
                    }
                    _ => change.apply(&mut content),
                }
            }
            inode.durable.clone_from(&content);
            inode.live = content;
        }
        let kept = seed.below(disk.unsynced.len() + 1);
        for group in disk.unsynced.drain(..).take(kept) {
            group.iter().for_each(|naming| naming.apply(&mut disk.durable_names));
        }
        disk.names = disk.durable_names.clone();
        disk.locks.clear();
        disk.plan = None;
        disk.off = false;
    }

    /// Flips one bit of a file, or anything else, behind the back of everyone.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let disk = &mut *self.disk();
        let inode = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let inode = &mut disk.inodes[inode];
        change(&mut inode.live);
        inode.durable.clone_from(&inode.live);
        inode.unsynced.clear();
        Ok(())
    }

    /// A disk with the same contents that goes its own way, without plan, locks or unsynced changes.
    pub fn fork(&self) -> Self {
        let fork = Self::new();
        let disk = self.disk();
        let inode = |i: &Inode| Inode {
            durable: i.live.clone(),
            live: i.live.clone(),
            unsynced: vec![],
            ..i.clone()
        };
        *fork.disk() = Disk {
            inodes: disk.inodes.iter().map(inode).collect(),
            names: disk.names.clone(),
            durable_names: disk.names.clone(),
            folders: disk.folders.clone(),
            ..Disk::default()
        };
        fork
    }

    /// All files with their contents.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let disk = self.disk();
        disk.names.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].live.clone())).collect()
    }
}

impl Disk {
    /// Counts one operation; the fault that hits it, if any.
    fn step(&mut self, what: impl FnOnce() -> String) -> io::Result<Option<io::ErrorKind>> {
        if self.off {
            return Err(power());
        }
        self.operations += 1;
        self.log.push(what());
        match self.plan {
            Some((at, Fault::PowerCut)) if self.operations == at => {
                self.off = true;
                Ok(None)
            }
            Some((at, Fault::Error(kind))) if self.operations == at => Ok(Some(kind)),
            Some((at, Fault::Lasting(kind))) if self.operations >= at => Ok(Some(kind)),
            _ => Ok(None),
        }
    }

    /// The answer of an operation that was cut or not.
    fn done(&self) -> io::Result<()> {
        if self.off { Err(power()) } else { Ok(()) }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        if self.off {
            return Err(power());
        }
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn naming(&mut self, group: Vec<Naming>) {
        group.iter().for_each(|naming| naming.apply(&mut self.names));
        self.unsynced.push(group);
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.inodes[inode];
        change.apply(&mut inode.live);
        inode.unsynced.push(change);
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
    name: String,
}

impl FaultyFile {
    fn with<T>(&self, work: impl FnOnce(&mut Disk, usize, &str) -> T) -> T {
        let mut disk = self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut disk, self.inode, &self.name)
    }

    fn write(&mut self, offset: Option<u64>, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, inode, name| {
            let fault = disk.step(|| format!("write {name} {} bytes", bytes.len()))?;
            let offset = offset.map_or(disk.inodes[inode].live.len(), |offset| offset as usize);
            if let Some(kind) = fault {
                let part = bytes[..bytes.len() / 2].to_vec();
                disk.change(inode, Change::Write { offset, bytes: part });
                return Err(kind.into());
            }
            disk.change(inode, Change::Write { offset, bytes: bytes.to_vec() });
            disk.done()
        })
    }
}

impl VfsFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(None, bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(Some(offset), bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|disk, inode, name| {
            if let Some(kind) = disk.step(|| format!("truncate {name} {len}"))? {
                return Err(kind.into());
            }
            disk.change(inode, Change::Truncate(len as usize));
            disk.done()
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|disk, inode, name| {
            let fault = disk.step(|| format!("sync {name}"))?;
            let cut = disk.off;
            let inode = &mut disk.inodes[inode];
            if let Some(kind) = fault {
                // As on Linux: the pages count as clean, so that a second sync succeeds and proves nothing.
                inode.unsynced.clear();
                return Err(kind.into());
            }
            if !cut {
                inode.durable.clone_from(&inode.live);
                inode.unsynced.clear();
            }
            disk.done()
        })
    }
}

#[derive(Debug)]
struct FaultyLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl VfsLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner).locks.remove(&self.path);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Vfs for FaultyVfs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let disk = &mut *self.disk();
        if disk.folders.contains(dir) {
            return Ok(());
        }
        if let Some(kind) = disk.step(|| format!("mkdir {}", name_of(dir)))? {
            return Err(kind.into());
        }
        disk.done()?;
        disk.folders.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.off {
            return Err(power());
        }
        if !disk.folders.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(disk.names.keys().filter(|path| path.parent() == Some(dir)).map(|path| name_of(path)).collect())
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let inode = &disk.inodes[disk.inode(path)?];
        if inode.live.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(inode.live.clone())
    }

    fn read_start(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let live = &disk.inodes[disk.inode(path)?].live;
        Ok(live[..live.len().min(usize::try_from(len).unwrap_or(usize::MAX))].to_vec())
    }

    fn open_read(&self, path: &Path) -> io::Result<(Arc<dyn ReadAt>, u64)> {
        let disk = self.disk();
        let live = disk.inodes[disk.inode(path)?].live.clone();
        let len = live.len() as u64;
        Ok((Arc::new(live), len))
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Box<dyn VfsFile>> {
        let disk = &mut *self.disk();
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if path.parent().is_none_or(|folder| !disk.folders.contains(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(kind) = disk.step(|| format!("create {}", name_of(path)))? {
            return Err(kind.into());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode { private: access == Access::Private, ..Inode::default() });
        disk.naming(vec![Naming::Link(path.to_owned(), inode)]);
        disk.done()?;
        Ok(Box::new(FaultyFile { disk: self.disk.clone(), inode, name: name_of(path) }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let inode = self.disk().inode(path)?;
        Ok(Box::new(FaultyFile { disk: self.disk.clone(), inode, name: name_of(path) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = &mut *self.disk();
        let inode = disk.inode(from)?;
        if let Some(kind) = disk.step(|| format!("rename {} {}", name_of(from), name_of(to)))? {
            return Err(kind.into());
        }
        disk.naming(vec![Naming::Unlink(from.to_owned()), Naming::Link(to.to_owned(), inode)]);
        disk.done()
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.disk().names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let disk = &mut *self.disk();
        disk.inode(path)?;
        if let Some(kind) = disk.step(|| format!("remove {}", name_of(path)))? {
            return Err(kind.into());
        }
        disk.naming(vec![Naming::Unlink(path.to_owned())]);
        disk.done()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let disk = &mut *self.disk();
        if let Some(kind) = disk.step(|| format!("sync folder {}", name_of(dir)))? {
            return Err(kind.into());
        }
        if !disk.off {
            // One folder at a time would be laxer; metadata journals commit them together.
            for group in std::mem::take(&mut disk.unsynced) {
                group.iter().for_each(|naming| naming.apply(&mut disk.durable_names));
            }
        }
        disk.done()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let disk = &mut *self.disk();
        if disk.off {
            return Err(power());
        }
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock { disk: self.disk.clone(), path: path.to_owned() }))
    }

    fn is_private(&self, path: &Path) -> io::Result<bool> {
        let disk = self.disk();
        Ok(disk.inodes[disk.inode(path)?].private)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let disk = self.disk();
        if disk.off { Err(power()) } else { Ok(disk.names.contains_key(path)) }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let disk = self.disk();
        Ok(disk.inodes[disk.inode(path)?].live.len() as u64)
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        let disk = self.disk();
        if disk.off { Err(power()) } else { Ok(disk.free.unwrap_or(1 << 40)) }
    }

    fn forget(&self, path: &Path) -> io::Result<()> {
        self.disk().inode(path).map(drop)
    }
}

#[cfg(test)]
mod tests;
