//! Files that are whole or absent, and their digests.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, Result, error::io_at};

/// A file written piece by piece beside its target: [`Growing::finish`] puts it there, and where that is never
/// reached nothing is left behind.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Growing {
    /// Begins a file, its folder made where it is not there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_at(parent))?;
        }
        let file = BufWriter::new(File::create(&part).map_err(io_at(&part))?);
        Ok(Self { path: path.to_owned(), part, file })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(io_at(&self.part))
    }

    /// Syncs, and renames over the target.
    ///
    /// # Errors
    /// As [`Growing::write`].
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(io_at(&self.part))?;
        self.file.get_ref().sync_all().map_err(io_at(&self.part))?;
        fs::rename(&self.part, &self.path).map_err(io_at(&self.path))
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // Renamed away where the file is whole.
        let _ = fs::remove_file(&self.part);
    }
}

/// Writes beside the target, syncs, and renames over it: a kill leaves the old file or the new one.
///
/// # Errors
/// The folder cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Growing::create(path)?;
    file.write(bytes)?;
    file.finish()
}

/// Writes a value behind a magic number and the digest of its body (postcard), whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_checked(path: &Path, magic: &[u8; 8], value: &impl Serialize) -> Result<()> {
    let body = postcard::to_allocvec(value)
        .map_err(|e| Error::Dataset { path: path.to_owned(), reason: e.to_string() })?;
    let mut file = Growing::create(path)?;
    file.write(magic)?;
    file.write(&Sha256::digest(&body))?;
    file.write(&body)?;
    file.finish()
}

/// Reads what [`write_checked`] wrote.
///
/// # Errors
/// No such file, another format, or bytes that changed since.
pub fn read_checked<T: DeserializeOwned>(path: &Path, magic: &[u8; 8]) -> Result<T> {
    let bytes = fs::read(path).map_err(io_at(path))?;
    let wrong = |reason: String| Error::Dataset { path: path.to_owned(), reason };
    let body = bytes
        .strip_prefix(magic)
        .ok_or_else(|| wrong(format!("got another format, expected {}", String::from_utf8_lossy(magic))))?;
    let (digest, body) =
        body.split_at_checked(32).ok_or_else(|| wrong("got a file that ends in its header".into()))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(wrong("got bytes that do not match their digest".into()));
    }
    postcard::from_bytes(body).map_err(|e| wrong(format!("got a body that cannot be read ({e})")))
}

/// Waits until what was written to a file is on the disk.
///
/// # Errors
/// No such file, or a disk that fails.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(io_at(path))
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(io_at(path))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(io_at(path))?;
        if n == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_whole_and_leaves_no_part_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.txt");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.tsv");
        write_atomically(&path, b"before").unwrap();
        let mut growing = Growing::create(&path).unwrap();
        growing.write(b"half").unwrap();
        drop(growing);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
