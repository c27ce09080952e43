//! FASTA read piece by piece, for files that are larger than memory.

use std::{io::BufRead, path::Path};

use noodles::fasta::{self, record::Definition};

use crate::{ReadError, dna, text};

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A record begins.
    Record {
        /// The first word of its header.
        name: &'a str,
        /// The rest of its header; empty without one.
        description: &'a str,
    },
    /// Bases of the record that began last: upper-case IUPAC codes, 64 KiB of them at most.
    Bases(&'a [u8]),
}

/// Reads a file, plain, gzip or bgzip, and gives each piece to `each`, in order. Memory does not grow with the file.
///
/// # Errors
/// A file that cannot be read or is cut off, a byte that is no IUPAC code, no record at all; whatever `each` gives.
pub fn stream<E: From<ReadError>>(
    path: &Path,
    mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |e| E::from(text::io_error(path, e));
    let mut reader = fasta::io::Reader::new(text::open(path)?);
    let mut definition = Definition::default();
    let mut bases = Vec::new();
    for number in 1.. {
        if reader.read_definition(&mut definition).map_err(failed)? == 0 {
            if number == 1 {
                return Err(ReadError::Nothing { path: path.to_owned(), expected: "FASTA record" }.into());
            }
            break;
        }
        let name = definition.name().to_string();
        let description = definition.description().map(ToString::to_string).unwrap_or_default();
        each(Piece::Record { name: &name, description: &description })?;
        let mut sequence = reader.sequence_reader();
        let mut position = 0;
        loop {
            let line = sequence.fill_buf().map_err(failed)?;
            if line.is_empty() {
                break;
            }
            let taken = line.len();
            bases.clear();
            for &b in line {
                position += 1;
                bases.push(dna::normalise_base(char::from(b)).ok_or_else(|| ReadError::Line {
                    path: path.to_owned(),
                    line: number,
                    reason: format!(
                        "record {name:?}: got byte {b:#04x} at position {position}, expected an IUPAC code"
                    ),
                })?);
            }
            sequence.consume(taken);
            each(Piece::Bases(&bases))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(String, String, Vec<u8>)>, ReadError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut all: Vec<(String, String, Vec<u8>)> = Vec::new();
        stream(file.path(), |piece| {
            match piece {
                Piece::Record { name, description } => {
                    all.push((name.to_owned(), description.to_owned(), Vec::new()));
                }
                Piece::Bases(bases) => all.last_mut().unwrap().2.extend(bases),
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(all)
    }

    #[test]
    fn records_come_with_their_headers_and_normalised_bases() {
        let long = "acgu".repeat(50_000);
        let text = format!(">a split=train x\nacgu\r\n\nNNrT\n>b\n>c\n{long}\n");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        for bytes in [text.clone().into_bytes(), gzip.finish().unwrap()] {
            let all = read(&bytes).unwrap();
            assert_eq!(all[0], ("a".into(), "split=train x".into(), b"ACGTNNRT".to_vec()));
            assert_eq!(all[1], ("b".into(), String::new(), Vec::new()));
            assert_eq!(all[2].2, "ACGT".repeat(50_000).as_bytes());
        }
    }

    #[test]
    fn bad_files_are_refused_with_their_place() {
        let error = read(b">a\nAC\nG!T\n").unwrap_err().to_string();
        assert!(error.contains("0x21") && error.contains("position 4"), "{error}");
        assert!(matches!(read(b""), Err(ReadError::Nothing { .. })));
        assert!(read(b"ACGT\n").is_err());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&[b">a\n".as_slice(), &b"ACGTTGCA".repeat(5_000)].concat()).unwrap();
        let whole = gzip.finish().unwrap();
        assert!(matches!(read(&whole[..whole.len() / 2]), Err(ReadError::Io { .. })));
    }
}
