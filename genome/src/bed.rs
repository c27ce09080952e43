//! BED intervals.

use std::path::Path;

use noodles::bed;

use crate::{Interval, ReadError, text};

/// Reads the first three columns of every line but comments and empty ones.
///
/// # Errors
/// A file or line that cannot be read.
pub fn read(path: &Path) -> Result<Vec<(String, Interval)>, ReadError> {
    let mut file = text::open(path)?;
    let mut record = bed::Record::default();
    let (mut intervals, mut bytes, mut line) = (Vec::new(), Vec::new(), 0);
    loop {
        line += 1;
        if !text::read_line(&mut *file, &mut bytes).map_err(|e| text::io_error(path, e))? {
            return Ok(intervals);
        }
        if bytes.is_empty() || bytes.starts_with(b"#") {
            continue;
        }
        let bad = |e: std::io::Error| ReadError::Line { path: path.to_owned(), line, reason: e.to_string() };
        bed::io::Reader::<3, _>::new(bytes.as_slice()).read_record(&mut record).map_err(bad)?;
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

    #[test]
    fn a_bad_line_is_named_by_its_number_in_the_file() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"# regions\nchr1\t0\t5\n\nchr2\t9\t7\n").unwrap();
        assert!(matches!(read(f.path()), Err(ReadError::Line { line: 4, .. })));
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"# regions\nchr1\tx\t5\n").unwrap();
        assert!(matches!(read(f.path()), Err(ReadError::Line { line: 2, .. })));
    }
}
