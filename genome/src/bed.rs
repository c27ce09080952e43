//! BED intervals.

use std::path::Path;

use noodles::bed;

use crate::{Interval, ReadError, text};

/// Reads the first three columns of every line.
///
/// # Errors
/// A file or line that cannot be read.
pub fn read(path: &Path) -> Result<Vec<(String, Interval)>, ReadError> {
    let mut reader = bed::io::Reader::<3, _>::new(text::open(path)?);
    let mut record = bed::Record::default();
    let mut intervals = Vec::new();
    loop {
        let line = intervals.len() as u64 + 1;
        let bad = |e: std::io::Error| ReadError::Line { path: path.to_owned(), line, reason: e.to_string() };
        if reader.read_record(&mut record).map_err(bad)? == 0 {
            return Ok(intervals);
        }
        let start = record.feature_start().map_err(bad)?;
        let end = record.feature_end().transpose().map_err(bad)?;
        // noodles hands out the start as a 1-based position.
        let interval =
            end.and_then(|end| Interval::new(usize::from(start) as u64 - 1, usize::from(end) as u64));
        let name = String::from_utf8_lossy(record.reference_sequence_name()).into_owned();
        intervals.push((
            name,
            interval.ok_or_else(|| ReadError::Line {
                path: path.to_owned(),
                line,
                reason: "got an end before its start, expected start <= end".into(),
            })?,
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bed_is_half_open() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"chr1\t0\t5\nchr2\t7\t9\n").unwrap();
        let got = read(f.path()).unwrap();
        assert_eq!((got.len(), got[0].1.len(), got[1].1.start()), (2, 5, 7));
    }
}
