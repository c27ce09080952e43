//! FASTA: plain, gzip or bgzip; records named as contigs or as regions of them; read at once, or record by record
//! where an index (`.fai`) lies beside the file.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use noodles::{core::Region, fasta};

use crate::{EncodeError, ReadError, dna, text};

type Indexed = fasta::io::IndexedReader<fasta::io::BufReader<File>>;

/// One record: a contig, or a region of one.
#[derive(Debug)]
pub struct Record {
    /// Contig name; for `chr17:50182096-50206639` it is `chr17`.
    pub contig: String,
    /// 1-based position of the first base on the contig.
    pub first: i64,
    /// Whether the name was a region.
    pub region: bool,
    /// Number of bases.
    pub len: i64,
    name: String,
    /// Upper-case IUPAC codes; empty until they are asked for where there is an index.
    bases: OnceLock<Vec<u8>>,
}

impl Record {
    /// 1-based position of the last base.
    pub const fn last(&self) -> i64 {
        self.first + self.len - 1
    }

    fn new(path: &Path, name: String, len: i64, line: u64) -> Result<Self, ReadError> {
        let (contig, first, region) = match parse_region(&name) {
            Some((contig, first, last)) => {
                let expected = last - first + 1;
                if expected != len {
                    let reason =
                        format!("record {name:?}: got {len} bases, expected the {expected} of its name");
                    return Err(ReadError::Line { path: path.to_owned(), line, reason });
                }
                (contig.to_owned(), first, true)
            }
            None => (name.clone(), 1, false),
        };
        Ok(Self { contig, first, region, len, name, bases: OnceLock::new() })
    }
}

/// Splits `chr17:50182096-50206639` into contig, first and last; `None` where the name is no region.
pub fn parse_region(name: &str) -> Option<(&str, i64, i64)> {
    let (contig, range) = name.rsplit_once(':')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (!contig.is_empty() && 1 <= first && first <= last).then_some((contig, first, last))
}

fn normalised(path: &Path, name: &str, mut bases: Vec<u8>, line: u64) -> Result<Vec<u8>, ReadError> {
    for (offset, b) in bases.iter_mut().enumerate() {
        *b = dna::normalise_base(char::from(*b)).ok_or_else(|| ReadError::Line {
            path: path.to_owned(),
            line,
            reason: format!(
                "record {name:?}: got byte {b:#04x} at position {}, expected an IUPAC code",
                offset + 1
            ),
        })?;
    }
    Ok(bases)
}

/// Reads every record with its bases.
fn read(path: &Path) -> Result<Vec<Record>, ReadError> {
    let mut reader = fasta::io::Reader::new(text::open(path)?);
    let mut records = Vec::new();
    for (line, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|e| text::io_error(path, e))?;
        let name = String::from_utf8_lossy(record.name()).into_owned();
        let bases = normalised(path, &name, record.sequence().as_ref().to_vec(), line)?;
        let made = Record::new(path, name, bases.len() as i64, line)?;
        // Just made, so it is empty.
        let _ = made.bases.set(bases);
        records.push(made);
    }
    Ok(records)
}

fn index_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".fai");
    PathBuf::from(name)
}

/// Opens a file with its index; the bases come when they are asked for.
fn open_indexed(path: &Path) -> Result<(Vec<Record>, Indexed), ReadError> {
    let index = index_of(path);
    let changed =
        |path: &Path| fs::metadata(path).and_then(|m| m.modified()).map_err(|e| text::io_error(path, e));
    if changed(&index)? < changed(path)? {
        let reason = format!("it is older than {}; make it again with `samtools faidx`", path.display());
        return Err(ReadError::Line { path: index, line: 1, reason });
    }
    let reader = fasta::io::indexed_reader::Builder::default()
        .build_from_path(path)
        .map_err(|e| text::io_error(&index, e))?;
    let listed: &[fasta::fai::Record] = reader.index().as_ref();
    let records = (1..).zip(listed).map(|(line, listed)| {
        let name = String::from_utf8_lossy(listed.name()).into_owned();
        Record::new(&index, name, i64::try_from(listed.length()).unwrap_or(i64::MAX), line)
    });
    let records = records.collect::<Result<_, _>>()?;
    Ok((records, reader))
}

/// Records by contig, found by position.
pub(crate) struct Store {
    path: PathBuf,
    records: Vec<Record>,
    by_contig: HashMap<String, Vec<usize>>,
    indexed: Option<Mutex<Indexed>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, records, indexed, .. } = self;
        let indexed = indexed.is_some();
        f.debug_struct("Store")
            .field("path", path)
            .field("records", &records.len())
            .field("indexed", &indexed)
            .finish()
    }
}

impl Store {
    /// Opens a file: by its index where one lies beside it, else whole.
    ///
    /// # Errors
    /// A file that cannot be read or is cut off, a duplicate name, a character that is no IUPAC code, a region
    /// whose length is not that of its bases, an index that is older than the file, no record at all.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let (records, indexed) = if index_of(path).is_file() {
            let (records, reader) = open_indexed(path)?;
            (records, Some(Mutex::new(reader)))
        } else {
            (read(path)?, None)
        };
        if records.is_empty() {
            return Err(ReadError::Nothing { path: path.to_owned(), expected: "FASTA record" });
        }
        let mut names = HashSet::new();
        let mut by_contig: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, record) in records.iter().enumerate() {
            if !names.insert(record.name.as_str()) {
                return Err(ReadError::Duplicate { path: path.to_owned(), name: record.name.clone() });
            }
            by_contig.entry(record.contig.clone()).or_default().push(i);
        }
        Ok(Self { path: path.to_owned(), records, by_contig, indexed })
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

    /// The bases of a record; read now where there is an index and they were not asked for before.
    ///
    /// # Errors
    /// [`EncodeError::Unreadable`]: the file is gone, or not what its index says.
    pub(crate) fn bases<'a>(&self, record: &'a Record) -> Result<&'a [u8], EncodeError> {
        if let Some(bases) = record.bases.get() {
            return Ok(bases);
        }
        let unreadable = || EncodeError::Unreadable { contig: record.contig.clone() };
        let reader = self.indexed.as_ref().ok_or_else(unreadable)?;
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = reader.query(&Region::new(record.name.as_bytes(), ..)).map_err(|_| unreadable())?;
        let bases = read.sequence().as_ref().to_vec();
        let bases = normalised(&self.path, &record.name, bases, 1).map_err(|_| unreadable())?;
        if bases.len() as i64 != record.len {
            return Err(unreadable());
        }
        Ok(record.bases.get_or_init(|| bases))
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

    fn all(store: &Store) -> Vec<(&str, i64, i64, &[u8])> {
        store
            .records()
            .iter()
            .map(|r| (r.contig.as_str(), r.first, r.last(), store.bases(r).unwrap()))
            .collect()
    }

    #[test]
    fn plain_gzip_and_bgzip_read_alike() {
        let mut bgzip = noodles::bgzf::io::Writer::new(Vec::new());
        bgzip.write_all(TEXT).unwrap();
        for bytes in [TEXT.to_vec(), gzip(TEXT), bgzip.finish().unwrap()] {
            let file = file(&bytes);
            let store = Store::open(file.path()).unwrap();
            let expected: [(&str, i64, i64, &[u8]); 2] =
                [("chr1", 11, 16, b"ACGTNN"), ("plain", 1, 4, b"ACGT")];
            assert_eq!(all(&store), expected);
            assert!(store.records()[0].region && !store.records()[1].region);
        }
    }

    #[test]
    fn an_index_gives_the_same_bases_and_an_old_or_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.fa");
        fs::write(&path, TEXT).unwrap();
        let whole = Store::open(&path).unwrap();
        // Name, bases, offset of the first, bases and bytes a line.
        let index = "chr1:11-16\t6\t12\t4\t5\nplain\t4\t36\t4\t6\n";
        fs::write(index_of(&path), index).unwrap();
        let indexed = Store::open(&path).unwrap();
        assert!(indexed.indexed.is_some() && indexed.records()[0].bases.get().is_none());
        assert_eq!(all(&indexed), all(&whole));
        fs::write(index_of(&path), index.replace("plain\t4\t36", "plain\t4\t17")).unwrap();
        let wrong = Store::open(&path).unwrap();
        assert!(matches!(wrong.bases(&wrong.records()[1]), Err(EncodeError::Unreadable { .. })));
        fs::write(index_of(&path), "chr1:11-16\t7\t12\t4\t5\n").unwrap();
        assert!(matches!(Store::open(&path), Err(ReadError::Line { .. })));
        let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
        File::open(index_of(&path)).unwrap().set_modified(earlier).unwrap();
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.contains("older"), "{error}");
    }

    #[test]
    fn bad_files_are_refused() {
        let long: Vec<u8> = [b">a\n".as_slice(), &b"ACGTTGCA".repeat(5000)].concat();
        let whole = gzip(&long);
        let open = |bytes: &[u8]| Store::open(file(bytes).path());
        assert!(matches!(open(&whole[..whole.len() / 2]), Err(ReadError::Io { .. })));
        assert!(matches!(open(b">a\nAC\n>a\nGT\n"), Err(ReadError::Duplicate { .. })));
        assert!(matches!(open(b">a\nAC!\n"), Err(ReadError::Line { .. })));
        assert!(matches!(open(b">chr1:1-9\nACGT\n"), Err(ReadError::Line { .. })));
        assert!(open(b"").is_err());
        assert!(matches!(Store::open(Path::new("/nowhere.fa")), Err(ReadError::Io { .. })));
    }
}
