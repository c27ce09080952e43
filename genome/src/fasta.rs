//! FASTA: plain, gzip or bgzip; records named as contigs or as regions of them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use noodles::fasta;

use crate::{ReadError, dna, text};

/// One record: a contig, or a region of one.
#[derive(Clone, Debug)]
pub struct Record {
    /// Contig name; for `chr17:50182096-50206639` it is `chr17`.
    pub contig: String,
    /// 1-based position of the first base on the contig.
    pub first: i64,
    /// Whether the name was a region.
    pub region: bool,
    /// Upper-case IUPAC codes.
    pub bases: Vec<u8>,
}

impl Record {
    /// 1-based position of the last base.
    pub fn last(&self) -> i64 {
        self.first + self.bases.len() as i64 - 1
    }
}

/// Splits `chr17:50182096-50206639` into contig, first and last; `None` where the name is no region.
pub fn parse_region(name: &str) -> Option<(&str, i64, i64)> {
    let (contig, range) = name.rsplit_once(':')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (!contig.is_empty() && 1 <= first && first <= last).then_some((contig, first, last))
}

/// Reads every record.
///
/// # Errors
/// A file that cannot be read or is cut off, a duplicate name, a character that is no IUPAC code, a
/// region whose length is not that of its bases, no record at all.
pub fn read(path: &Path) -> Result<Vec<Record>, ReadError> {
    let mut reader = fasta::io::Reader::new(text::open(path)?);
    let mut names = HashSet::new();
    let mut records = Vec::new();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| text::io_error(path, e))?;
        let name = String::from_utf8_lossy(record.name()).into_owned();
        if !names.insert(name.clone()) {
            return Err(ReadError::Duplicate { path: path.to_owned(), name });
        }
        let bad = |reason| ReadError::Line { path: path.to_owned(), line: i as u64 + 1, reason };
        let mut bases = record.sequence().as_ref().to_vec();
        for (offset, b) in bases.iter_mut().enumerate() {
            *b = dna::normalise_base(char::from(*b)).ok_or_else(|| {
                bad(format!(
                    "record {name:?}: got byte {b:#04x} at position {}, expected an IUPAC code",
                    offset + 1
                ))
            })?;
        }
        let (contig, first, region) = match parse_region(&name) {
            Some((contig, first, last)) => {
                if last - first + 1 != bases.len() as i64 {
                    return Err(bad(format!(
                        "record {name:?}: got {} bases, expected the {} of its name",
                        bases.len(),
                        last - first + 1
                    )));
                }
                (contig.to_owned(), first, true)
            }
            None => (name, 1, false),
        };
        records.push(Record { contig, first, region, bases });
    }
    if records.is_empty() {
        return Err(ReadError::Nothing { path: path.to_owned(), expected: "FASTA record" });
    }
    Ok(records)
}

/// Records by contig, found by position.
#[derive(Debug, Default)]
pub(crate) struct Store {
    records: Vec<Record>,
    by_contig: HashMap<String, Vec<usize>>,
}

impl Store {
    pub(crate) fn new(records: Vec<Record>) -> Self {
        let mut by_contig: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, r) in records.iter().enumerate() {
            by_contig.entry(r.contig.clone()).or_default().push(i);
        }
        Self { records, by_contig }
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn has_contig(&self, contig: &str) -> bool {
        self.by_contig.contains_key(contig)
    }

    /// The record over a position with the most known bases around it.
    pub(crate) fn over(&self, contig: &str, position: i64) -> Option<&Record> {
        let room = |r: &&Record| (position - r.first).min(r.last() - position);
        let over = |&i: &usize| {
            (self.records[i].first <= position && position <= self.records[i].last())
                .then(|| &self.records[i])
        };
        self.by_contig.get(contig)?.iter().filter_map(over).max_by_key(room)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(bytes).unwrap();
        f
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        e.write_all(bytes).unwrap();
        e.finish().unwrap()
    }

    const TEXT: &[u8] = b">chr1:11-16\nacgu\nNN\n>plain comment\r\nACGT\r\n";

    #[test]
    fn plain_gzip_and_bgzip_read_alike() {
        let mut bgzip = noodles::bgzf::io::Writer::new(Vec::new());
        bgzip.write_all(TEXT).unwrap();
        for bytes in [TEXT.to_vec(), gzip(TEXT), bgzip.finish().unwrap()] {
            let records = read(file(&bytes).path()).unwrap();
            assert_eq!((records[0].contig.as_str(), records[0].first, records[0].last()), ("chr1", 11, 16));
            assert_eq!(
                (records[0].bases.as_slice(), records[1].bases.as_slice()),
                (b"ACGTNN".as_slice(), b"ACGT".as_slice())
            );
            assert_eq!((records[1].contig.as_str(), records[1].region), ("plain", false));
        }
    }

    #[test]
    fn bad_files_are_refused() {
        let long: Vec<u8> = [b">a\n".as_slice(), &b"ACGTTGCA".repeat(5000)].concat();
        let whole = gzip(&long);
        assert!(matches!(read(file(&whole[..whole.len() / 2]).path()), Err(ReadError::Io { .. })));
        assert!(matches!(read(file(b">a\nAC\n>a\nGT\n").path()), Err(ReadError::Duplicate { .. })));
        assert!(matches!(read(file(b">a\nAC!\n").path()), Err(ReadError::Line { .. })));
        assert!(matches!(read(file(b">chr1:1-9\nACGT\n").path()), Err(ReadError::Line { .. })));
        assert!(read(file(b"").path()).is_err());
        assert!(matches!(read(Path::new("/nowhere.fa")), Err(ReadError::Io { .. })));
    }
}
