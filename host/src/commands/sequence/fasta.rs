//! FASTA of any alphabet, record by record, of which an over-long one takes no more memory than the others.

use std::{io::BufRead, path::Path};

use locus_genome::{ReadError, text};

use crate::{Result, error::io_at};

/// Letters of a record that are kept: far more than any model reads.
pub(super) const MAX_LETTERS: u64 = 1 << 20;
/// Bytes of a header.
const MAX_HEADER: usize = 1 << 16;

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The first word of its header; empty without one.
    pub(super) name: String,
    /// Its letters as written; none of them where there are over [`MAX_LETTERS`].
    pub(super) letters: Vec<u8>,
    /// How many there are.
    pub(super) count: u64,
}

impl Record {
    fn named(header: &[u8]) -> Self {
        let header = String::from_utf8_lossy(header);
        let name = header.trim_start_matches('>').split_whitespace().next().unwrap_or_default();
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn add(&mut self, line: &[u8]) {
        // The one before a line's end may lie in another piece of the file.
        let letters = line.iter().copied().filter(|&b| b != b'\r');
        let before = self.letters.len();
        self.letters.extend(letters);
        self.count += (self.letters.len() - before) as u64;
        if self.count > MAX_LETTERS {
            self.letters = Vec::new();
        }
    }
}

/// Every record of a file, plain, gzip or bgzip, in order.
///
/// # Errors
/// A file that cannot be read or is cut off, letters before the first header, a header of over 64 KiB, whatever `each`
/// gives.
pub(super) fn records(path: &Path, mut each: impl FnMut(Record) -> Result<()>) -> Result<()> {
    let mut reader = text::open(path)?;
    let (mut open, mut header): (Option<Record>, Option<Vec<u8>>) = (None, None);
    let (mut line, mut begins) = (1_u64, true);
    let wrong =
        |line: u64, reason: &str| ReadError::Line { path: path.to_owned(), line, reason: reason.to_owned() };
    loop {
        let piece = reader.fill_buf().map_err(io_at(path))?;
        if piece.is_empty() {
            break;
        }
        let end = piece.iter().position(|&b| b == b'\n');
        let text = &piece[..end.unwrap_or(piece.len())];
        let taken = end.map_or(piece.len(), |end| end + 1);
        if begins && text.first() == Some(&b'>') {
            if let Some(record) = open.take() {
                each(record)?;
            }
            header = Some(Vec::new());
        }
        match (&mut header, &mut open) {
            (Some(bytes), _) => {
                if bytes.len() + text.len() > MAX_HEADER {
                    return Err(wrong(line, "got a header of over 65536 bytes, expected a name").into());
                }
                bytes.extend_from_slice(text);
                if end.is_some() {
                    open = header.take().map(|bytes| Record::named(&bytes));
                }
            }
            (None, Some(record)) => record.add(text),
            (None, None) if text.trim_ascii().is_empty() => {}
            (None, None) => {
                return Err(
                    wrong(line, "got letters before the first header, expected '>' and a name").into()
                );
            }
        }
        reader.consume(taken);
        begins = end.is_some();
        line += u64::from(begins);
    }
    match open.or_else(|| header.map(|bytes| Record::named(&bytes))) {
        Some(record) => each(record),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Record>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut all = Vec::new();
        records(file.path(), |record| {
            assert!(record.letters.len() as u64 <= MAX_LETTERS);
            all.push(record);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn records_come_in_order_with_lines_joined_whatever_ends_them() {
        let all = read(b"\r\n>a x=1\r\nAC\r\n\r\nGT>\r\n>\nC\n>c").unwrap();
        let seen: Vec<(&str, &[u8])> = all.iter().map(|r| (r.name.as_str(), r.letters.as_slice())).collect();
        assert_eq!(seen, [("a", &b"ACGT>"[..]), ("", b"C"), ("c", b"")]);
        assert!(read(b"").unwrap().is_empty());
        // Line ends on every place of a buffer.
        for shift in 0..3 {
            let text = format!(">{}\r\n{}", "n".repeat(1 + shift), "AC\r\n".repeat(50_000));
            assert_eq!(read(text.as_bytes()).unwrap()[0].letters, b"AC".repeat(50_000));
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_counted_and_not_kept() {
        let most = MAX_LETTERS as usize;
        let text = format!(">fits\n{}\n>long\n{}\n>after\nACGT\n", "A".repeat(most), "A\n".repeat(most + 1));
        let all = read(text.as_bytes()).unwrap();
        let seen: Vec<(usize, u64)> = all.iter().map(|r| (r.letters.len(), r.count)).collect();
        assert_eq!(seen, [(most, most as u64), (0, most as u64 + 1), (4, 4)]);
    }

    #[test]
    fn what_is_no_fasta_is_refused_with_its_line() {
        let error = |text: &[u8]| read(text).unwrap_err().to_string();
        assert!(error(b"\n\nACGT\n").contains("line 3"));
        assert!(error(&[b">a\nC\n>".as_slice(), &b"x".repeat(1 << 17)].concat()).contains("line 3"));
    }
}
