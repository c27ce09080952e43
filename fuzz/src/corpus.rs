//! The files that cases start from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of a target.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Names and bytes of a folder's files, by name.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, fs::read(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// Several files in one case: four bytes of length before each.
pub fn join(files: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend((file.len() as u32).to_le_bytes());
        bytes.extend(*file);
    }
    bytes
}

/// The files of a case; one that says to be longer than what is left is what is left.
pub fn split<const N: usize>(mut bytes: &[u8]) -> [&[u8]; N] {
    let mut files = [&[][..]; N];
    for file in &mut files {
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else { break };
        let (own, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*len) as usize));
        (*file, bytes) = (own, rest);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_apart_as_they_were_joined_and_lies_are_cut() {
        let joined = join(&[b"one", b"", b"three"]);
        assert_eq!(split::<4>(&joined), [&b"one"[..], b"", b"three", b""]);
        assert_eq!(split::<2>(b"\xff\xff\xff\xffab"), [&b"ab"[..], b""]);
        assert_eq!(split::<1>(b"\x01\0"), [b""]);
    }
}
