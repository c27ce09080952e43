//! Opening text files, plain or compressed.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

use crate::ReadError;

pub(crate) fn io_error(path: &Path, source: io::Error) -> ReadError {
    ReadError::Io { path: path.to_owned(), source }
}

/// Opens a file, decompressing gzip and bgzip by their magic number. An archive that is cut off within a member (a
/// block, in bgzip) is an error when the cut is read; one cut off between two members cannot be told from a whole one.
///
/// # Errors
/// No such file, or one that cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, ReadError> {
    let file = File::open(path).map_err(|e| io_error(path, e))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let magic = reader.fill_buf().map_err(|e| io_error(path, e))?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

/// A line of so many bytes or more, its end included, is refused.
const MAX_LINE_BYTES: u64 = 1 << 24;

/// Reads one line without its end, or ends, into `line`; `false` at the end of the file.
pub(crate) fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let n = reader.take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if n as u64 == MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 16 MiB"));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(n > 0)
}
