//! A file mapped into memory, read-only: the operating system brings its pages in when they are read and lets them go
//! when memory is wanted. A crate of its own because mapping is the workbench's one `unsafe` call.

use std::{fs::File, io, ops::Deref};

use memmap2::Mmap;

/// A file, mapped whole; a shared lock is held on it.
///
/// Nobody may cut it or write to it meanwhile. A program that asks for the lock is kept from it; the workbench itself
/// writes such files beside their place and renames them, which leaves a mapped one as it was. Where another program
/// cuts the file in spite of that, a read beyond its new end ends the process (SIGBUS on Unix): no wrong bytes.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    _lock: File,
}

impl MappedFile {
    /// Maps a file that is open for reading. Check what it holds through the same `file` before: it stays the file
    /// that was checked, whatever its path names by then.
    ///
    /// # Errors
    /// The file is locked by a writer, empty, or cannot be mapped.
    pub fn new(file: File) -> io::Result<Self> {
        file.try_lock_shared()?;
        // SAFETY: the bytes must not change while they are borrowed. The lock is held as long as the map, the map is
        // private to this type and read-only, and no code of the workspace writes to such a file in place. What
        // other programs do cannot be ruled out for any mapped file; the type says so.
        #[expect(unsafe_code, reason = "mapping a file is a promise about other programs")]
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map, _lock: file })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mapped_file_is_what_was_opened_even_where_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, b"first").unwrap();
        fs::write(&next, b"other bytes").unwrap();
        let mapped = MappedFile::new(File::open(&path).unwrap()).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(&*mapped, b"first");
    }

    #[test]
    fn a_file_that_is_written_to_is_not_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"bytes").unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        writer.lock().unwrap();
        assert!(MappedFile::new(File::open(&path).unwrap()).is_err());
        drop(writer);
        let mapped = MappedFile::new(File::open(&path).unwrap()).unwrap();
        assert!(File::options().write(true).open(&path).unwrap().try_lock().is_err());
        drop(mapped);
    }
}
