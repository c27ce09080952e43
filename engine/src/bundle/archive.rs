//! Walks the ustar archive of a bundle: one entry at a time, nothing allocated before its size is believable.
//!
//! The reader is stricter than the format. A bundle is written by one program and is never edited by hand,
//! so everything that a general archive may contain (links, folders, extended headers, prefixes, bytes after
//! the end) has no honest reason to be there and is refused.

use std::io::{BufReader, Read, Seek};

/// One tar block, in bytes.
pub(crate) const BLOCK_BYTES: u64 = 512;
/// Zero bytes that may follow the two closing blocks (GNU tar pads to 20 blocks).
const MAX_TAIL_BYTES: u64 = 20 * BLOCK_BYTES;
/// The longest name of a part.
const MAX_NAME_BYTES: usize = 64;

/// Why an archive is not a bundle. None of the messages quotes the content of a part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file could not be read.
    #[error("the bundle could not be read: {0}; check the file and its permissions")]
    Read(#[from] std::io::Error),
    /// The file is no regular file.
    #[error(
        "got something that is not a regular file, expected a .locus file; give the path of the file itself"
    )]
    NotAFile,
    /// The file is larger than this box accepts.
    #[error("the bundle has {got} bytes, expected at most {limit}; use a smaller model or raise the limit")]
    TooLarge {
        /// Size of the file in bytes.
        got: u64,
        /// Largest size accepted.
        limit: u64,
    },
    /// The length is no multiple of a tar block, or the closing blocks are missing.
    #[error("the file ends early or is not a tar archive ({got} bytes, expected {expected}); copy it again")]
    Truncated {
        /// Size of the file in bytes.
        got: u64,
        /// What the headers ask for, in words or bytes.
        expected: String,
    },
    /// A header with a wrong checksum or impossible numbers.
    #[error("archive entry {index} has a damaged header ({detail}); copy the bundle again")]
    Header {
        /// 0-based number of the entry.
        index: usize,
        /// What the reader found.
        detail: String,
    },
    /// Not POSIX ustar: GNU or old headers.
    #[error("archive entry {index} is not ustar; make the bundle with `locus bundle create`")]
    NotUstar {
        /// 0-based number of the entry.
        index: usize,
    },
    /// A link, folder, device, sparse file or extended header.
    #[error("archive entry {index} has type {kind:?}, expected a regular file; do not open this bundle")]
    NotRegular {
        /// 0-based number of the entry.
        index: usize,
        /// The type byte of the header.
        kind: char,
    },
    /// A name with anything but lower-case letters, digits, `-`, `_` and inner dots.
    #[error("archive entry {index} has a name that no part can have ({name:?}); do not open this bundle")]
    Name {
        /// 0-based number of the entry.
        index: usize,
        /// The name, shortened, control characters escaped when shown.
        name: String,
    },
    /// An entry larger than what is left of the file, or than it may be.
    #[error(
        "part {name} says {got} bytes, expected at most {limit}; copy the bundle again, and do not open it if this stays"
    )]
    PartTooLarge {
        /// Name of the part.
        name: String,
        /// Size in the header.
        got: u64,
        /// Largest size possible.
        limit: u64,
    },
    /// Bytes after the end of the archive, which no digest covers.
    #[error("{got} bytes follow the end of the archive, expected only zero padding; copy the bundle again")]
    Tail {
        /// Number of bytes after the closing blocks.
        got: u64,
    },
}

/// A checked header.
pub(crate) struct PartHeader {
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// Reads entries in order from `total` bytes.
pub(crate) struct ArchiveReader<R> {
    inner: R,
    total: u64,
    at: u64,
    index: usize,
}

impl<R: Read> ArchiveReader<R> {
    /// Starts at the first header of an archive of `total` bytes, `limit` at most.
    pub(crate) fn new(inner: R, total: u64, limit: u64) -> Result<Self, ArchiveError> {
        if total > limit {
            return Err(ArchiveError::TooLarge { got: total, limit });
        }
        if total < 2 * BLOCK_BYTES || !total.is_multiple_of(BLOCK_BYTES) {
            return Err(ArchiveError::Truncated {
                got: total,
                expected: "a multiple of 512 from 1,024 on".into(),
            });
        }
        Ok(Self { inner, total, at: 0, index: 0 })
    }

    /// The next header, or `None` after the closing blocks, when only zero padding is left.
    pub(crate) fn next_header(&mut self) -> Result<Option<PartHeader>, ArchiveError> {
        if self.total - self.at < 2 * BLOCK_BYTES {
            return Err(self.truncated("two closing blocks"));
        }
        let mut header = tar::Header::new_old();
        self.inner.read_exact(header.as_mut_bytes())?;
        self.at += BLOCK_BYTES;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.check_tail()?;
            return Ok(None);
        }
        let index = self.index;
        self.index += 1;
        let damaged = |detail: &str| ArchiveError::Header { index, detail: detail.to_owned() };
        let sum = checksum(header.as_bytes());
        match header.cksum() {
            Ok(stated) if stated == sum => {}
            Ok(stated) => return Err(damaged(&format!("checksum {stated}, expected {sum}"))),
            Err(_) => return Err(damaged("checksum is not octal")),
        }
        let Some(ustar) = header.as_ustar() else { return Err(ArchiveError::NotUstar { index }) };
        if ustar.typeflag != [b'0'] {
            return Err(ArchiveError::NotRegular { index, kind: char::from(ustar.typeflag[0]) });
        }
        let name = part_name(&header.path_bytes()).map_err(|name| ArchiveError::Name { index, name })?;
        if ustar.linkname.iter().any(|byte| *byte != 0) {
            return Err(damaged("a regular file with a link name"));
        }
        // Base-256 numbers would be a GNU extension; the crate reads them all the same.
        if ustar.size[0] & 0x80 != 0 {
            return Err(damaged("size is not octal"));
        }
        let size = header.entry_size().map_err(|_| damaged("size is not octal"))?;
        let limit = (self.total - self.at).saturating_sub(2 * BLOCK_BYTES);
        if size > limit {
            return Err(ArchiveError::PartTooLarge { name, got: size, limit });
        }
        Ok(Some(PartHeader { name, size }))
    }

    /// The bytes of the entry whose header was read last; refuses more than `limit` before allocating.
    pub(crate) fn read_part(&mut self, header: &PartHeader, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let too_large = || ArchiveError::PartTooLarge { name: header.name.clone(), got: header.size, limit };
        if header.size > limit {
            return Err(too_large());
        }
        let size = usize::try_from(header.size).map_err(|_| too_large())?;
        let mut bytes = vec![0; size];
        self.inner.read_exact(&mut bytes)?;
        self.end_part(header)?;
        Ok(bytes)
    }

    /// Where the next byte lies: after a header, the first one of its part.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Gives the bytes of the entry whose header was read last in blocks of `len`; the last one is what is left.
    pub(crate) fn stream_part(
        &mut self,
        header: &PartHeader,
        len: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ArchiveError> {
        let (mut block, mut left) = (vec![0; len], header.size);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(len).min(len);
            self.inner.read_exact(&mut block[..part])?;
            each(&block[..part]);
            left -= part as u64;
        }
        self.end_part(header)
    }

    /// Reads what pads an entry.
    fn end_part(&mut self, header: &PartHeader) -> Result<(), ArchiveError> {
        let padding = header.size.next_multiple_of(BLOCK_BYTES) - header.size;
        let mut rest = [0; BLOCK_BYTES as usize];
        let rest = &mut rest[..padding as usize];
        self.inner.read_exact(rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            let detail = "its padding is not zero".to_owned();
            return Err(ArchiveError::Header { index: self.index.saturating_sub(1), detail });
        }
        self.at += header.size + padding;
        Ok(())
    }

    fn check_tail(&mut self) -> Result<(), ArchiveError> {
        let left = self.total - self.at;
        let tail = ArchiveError::Tail { got: left.saturating_sub(BLOCK_BYTES) };
        if left > BLOCK_BYTES + MAX_TAIL_BYTES {
            return Err(tail);
        }
        let mut rest = Vec::new();
        self.inner.by_ref().take(left).read_to_end(&mut rest)?;
        if rest.len() as u64 != left {
            return Err(self.truncated("what the file system said"));
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(tail);
        }
        self.at = self.total;
        Ok(())
    }

    fn truncated(&self, expected: &str) -> ArchiveError {
        ArchiveError::Truncated { got: self.total, expected: expected.to_owned() }
    }
}

impl<R: Read + Seek> ArchiveReader<BufReader<R>> {
    /// Leaves out the bytes of the entry whose header was read last.
    pub(crate) fn skip_part(&mut self, header: &PartHeader) -> Result<(), ArchiveError> {
        let too_large =
            || ArchiveError::PartTooLarge { name: header.name.clone(), got: header.size, limit: self.total };
        let by = i64::try_from(header.size).map_err(|_| too_large())?;
        self.inner.seek_relative(by)?;
        self.end_part(header)
    }
}

/// Most bytes of an archive of entries of these sizes, in bytes.
pub(crate) fn longest(sizes: impl Iterator<Item = u64>) -> u64 {
    let entry = |size: u64| {
        BLOCK_BYTES.saturating_add(size.saturating_add(BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES)
    };
    sizes.map(entry).fold(2 * BLOCK_BYTES + MAX_TAIL_BYTES, u64::saturating_add)
}

/// The header checksum of POSIX ustar: all bytes added up, the checksum field read as spaces.
fn checksum(header: &[u8; BLOCK_BYTES as usize]) -> u32 {
    let field = 148..156;
    header.iter().enumerate().map(|(at, byte)| if field.contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

/// Checks a name; the error is the name, shortened for a message.
pub(crate) fn part_name(raw: &[u8]) -> Result<String, String> {
    let shown = || String::from_utf8_lossy(&raw[..raw.len().min(MAX_NAME_BYTES)]).into_owned();
    let text = std::str::from_utf8(raw).map_err(|_| shown())?;
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !starts || text.len() > MAX_NAME_BYTES || !text.bytes().all(allowed) || text.contains("..") {
        return Err(shown());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_file_names_only() {
        for good in ["manifest.json", "fp32.onnx", "int8-fp16.onnx", "model-card.md", "a"] {
            assert_eq!(part_name(good.as_bytes()).as_deref(), Ok(good));
        }
        let bad: [&[u8]; 12] = [
            b"",
            b".",
            b"..",
            b"/etc/passwd",
            b"../x",
            b"a/b",
            b"a\\b",
            b"A.json",
            b".hidden",
            b"a..b",
            b"a\0b",
            b"\xff",
        ];
        for name in bad {
            assert!(part_name(name).is_err(), "{name:?}");
        }
        assert!(part_name("x".repeat(65).as_bytes()).is_err());
    }

    #[test]
    fn a_lying_length_never_allocates() {
        let mut header = tar::Header::new_ustar();
        header.set_path("manifest.json").unwrap();
        header.set_size(7 << 30);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(2048, 0);
        let mut reader = ArchiveReader::new(bytes.as_slice(), 2048, u64::MAX).unwrap();
        assert!(matches!(reader.next_header(), Err(ArchiveError::PartTooLarge { limit: 512, .. })));
    }

    #[test]
    fn an_empty_archive_has_no_entries_and_short_files_are_refused() {
        let zeros = [0; 1024];
        let mut reader = ArchiveReader::new(zeros.as_slice(), 1024, 1 << 20).unwrap();
        assert!(reader.next_header().unwrap().is_none());
        assert!(ArchiveReader::new(zeros.as_slice(), 512, 1 << 20).is_err());
        assert!(ArchiveReader::new(zeros.as_slice(), 1025, 1 << 20).is_err());
        assert!(matches!(
            ArchiveReader::new(zeros.as_slice(), 1024, 1000),
            Err(ArchiveError::TooLarge { .. })
        ));
    }
}
