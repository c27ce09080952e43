//! Reading a packed genome through a memory map.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use locus_mapped::MappedFile;
use sha2::{Digest, Sha256};

use super::{MAGIC, PackedRecord};
use crate::{Error, Result, error::io_at};

/// Length of the index's length and of the digest.
const TRAILER: u64 = 40;

/// A packed genome, open. Pages come in when they are read and leave when memory is wanted. While it is open the file
/// must not be cut or written to (see [`MappedFile`]).
#[derive(Debug)]
pub struct PackedGenome {
    path: PathBuf,
    map: MappedFile,
    records: Vec<PackedRecord>,
    sha256: [u8; 32],
}

impl PackedGenome {
    /// Opens a file: its digest and every place in its index are checked before anything is mapped.
    ///
    /// # Errors
    /// No such file, one that is cut or changed, or another format.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |reason: &str| Error::Dataset { path: path.to_owned(), reason: reason.to_owned() };
        let mut file = File::open(path).map_err(io_at(path))?;
        let size = file.metadata().map_err(io_at(path))?.len();
        let mut magic = [0; 8];
        if file.read_exact(&mut magic).is_err() || &magic != MAGIC {
            return Err(wrong("got another format, expected LOCUSPK1"));
        }
        let body =
            size.checked_sub(TRAILER + 8).ok_or_else(|| wrong("got a file that ends in its header"))?;
        let mut trailer = [0; TRAILER as usize];
        file.seek(SeekFrom::Start(8 + body)).map_err(io_at(path))?;
        file.read_exact(&mut trailer).map_err(io_at(path))?;
        file.rewind().map_err(io_at(path))?;
        let sha256 = digest(&mut file, size - 32).map_err(io_at(path))?;
        if sha256 != trailer[8..] {
            return Err(wrong("got bytes that do not match their digest"));
        }
        let index = u64::from_le_bytes(trailer[..8].try_into().expect("8 bytes"));
        let bases = body.checked_sub(index).ok_or_else(|| wrong("got an index longer than the file"))?;
        let mut bytes = vec![0; index as usize];
        file.seek(SeekFrom::Start(8 + bases)).map_err(io_at(path))?;
        file.read_exact(&mut bytes).map_err(io_at(path))?;
        let records: Vec<PackedRecord> = postcard::from_bytes(&bytes)
            .map_err(|e| wrong(&format!("got an index that cannot be read ({e})")))?;
        let inside = |r: &PackedRecord| {
            let end = r.place.checked_add(r.len.div_ceil(4));
            let runs = r.runs.iter().all(|run| run.start.checked_add(run.len).is_some_and(|e| e <= r.len));
            r.place >= 8
                && end.is_some_and(|end| end <= 8 + bases)
                && runs
                && r.runs.is_sorted_by_key(|run| run.start)
        };
        if !records.iter().all(inside) {
            return Err(wrong("got an index that points outside the bases"));
        }
        let map = MappedFile::new(file).map_err(io_at(path))?;
        if map.len() as u64 != size {
            return Err(wrong("got a file that changed while it was opened"));
        }
        Ok(Self { path: path.to_owned(), map, records, sha256 })
    }

    /// The records, in the order in which they were written.
    pub fn records(&self) -> &[PackedRecord] {
        &self.records
    }

    /// SHA-256 of all before it, which the file ends in.
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Upper-case IUPAC codes of `start..end` (0-based, half-open) of a record.
    ///
    /// # Errors
    /// A stretch beyond the record, or no such record.
    pub fn bases(&self, record: usize, start: u64, end: u64) -> Result<Vec<u8>> {
        let found = self.records.get(record).filter(|r| start <= end && end <= r.len);
        let record = found.ok_or_else(|| Error::Data {
            what: self.path.display().to_string(),
            got: format!("bases {start} to {end} of record {record}"),
            expected: format!("a stretch of one of its {} records", self.records.len()),
        })?;
        // Inside the map, as was checked when it was opened.
        let first = record.place + start / 4;
        let bytes = &self.map[first as usize..(record.place + end.div_ceil(4)) as usize];
        let base = |offset: u64| b"ACGT"[usize::from(bytes[(offset / 4) as usize] >> (2 * (offset % 4)) & 3)];
        let skipped = start % 4;
        let mut bases: Vec<u8> = (skipped..skipped + (end - start)).map(base).collect();
        for (from, to, code) in record.runs_in(start, end) {
            bases[(from - start) as usize..(to - start) as usize].fill(code);
        }
        Ok(bases)
    }
}

/// SHA-256 of the next `len` bytes.
fn digest(file: &mut File, len: u64) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = file.take(len);
    loop {
        let n = left.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..n]);
    }
}
