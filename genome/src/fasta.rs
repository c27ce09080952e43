//! FASTA: plain, gzip or bgzip; records named as contigs or as regions of them; read at once, or only what is asked
//! for where an index (`.fai`) lies beside the file.

mod stream;

pub use stream::{Piece, stream};

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use noodles::{
    core::{Position, Region},
    fasta,
};

use crate::{EncodeError, ReadError, dna, packed::Packed, text};

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
    /// Its number in the file.
    pub(crate) index: usize,
    name: String,
    /// Upper-case IUPAC codes; empty until all of them are asked for where there is an index.
    bases: OnceLock<Vec<u8>>,
}

impl Record {
    /// 1-based position of the last base.
    pub const fn last(&self) -> i64 {
        self.first + self.len - 1
    }

    pub(crate) fn new(path: &Path, name: String, len: i64, line: u64) -> Result<Self, ReadError> {
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
        Ok(Self { contig, first, region, len, index: 0, name, bases: OnceLock::new() })
    }
}

/// Splits `chr17:50182096-50206639` into contig, first and last; `None` where the name is no region.
pub fn parse_region(name: &str) -> Option<(&str, i64, i64)> {
    let (contig, range) = name.rsplit_once(':')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (!contig.is_empty() && 1 <= first && first <= last && last <= i64::MAX / 4)
        .then_some((contig, first, last))
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

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

fn index_of(path: &Path) -> PathBuf {
    beside(path, ".fai")
}

/// The index's line of a record, where the file is long enough for what it says.
fn checked(index: &Path, listed: &fasta::fai::Record, line: u64, size: u64) -> Result<Record, ReadError> {
    let name = String::from_utf8_lossy(listed.name()).into_owned();
    let (width, bases) = (listed.line_width().get(), listed.line_base_count().get());
    let end = (listed.length() / bases)
        .checked_mul(width)
        .and_then(|whole| whole.checked_add(listed.length() % bases)?.checked_add(listed.position()));
    let fits = end.is_some_and(|end| end <= size.saturating_add(width - bases.min(width)));
    let len = i64::try_from(listed.length()).ok().filter(|_| fits && bases <= width).ok_or_else(|| {
        let reason = format!(
            "record {name:?}: got {} bases from byte {} in lines of {bases} bases and {width} bytes, expected a stretch of the file; make the index again with `samtools faidx`",
            listed.length(),
            listed.position(),
        );
        ReadError::Line { path: index.to_owned(), line, reason }
    })?;
    Record::new(index, name, len, line)
}

/// Opens a file with its index; the bases come when they are asked for.
fn open_indexed(path: &Path) -> Result<(Vec<Record>, Indexed), ReadError> {
    let index = index_of(path);
    let about = |path: &Path| fs::metadata(path).map_err(|e| text::io_error(path, e));
    let changed = |path: &Path| about(path)?.modified().map_err(|e| text::io_error(path, e));
    if changed(&index)? < changed(path)? {
        let reason = format!("it is older than {}; make it again with `samtools faidx`", path.display());
        return Err(ReadError::Beside { path: index, reason });
    }
    // As noodles tells them apart.
    let compressed = path.extension().is_some_and(|e| e == "gz" || e == "bgz");
    let blocks = beside(path, ".gzi");
    if compressed && !blocks.is_file() {
        let reason = format!(
            "got no such file, expected the index of the blocks of {}; make it with `bgzip --reindex`, or remove the .fai to have the file read whole",
            path.display()
        );
        return Err(ReadError::Beside { path: blocks, reason });
    }
    let reader = fasta::io::indexed_reader::Builder::default()
        .build_from_path(path)
        .map_err(|e| text::io_error(&index, e))?;
    let size = if compressed { 1 << 60 } else { about(path)?.len() };
    let listed: &[fasta::fai::Record] = reader.index().as_ref();
    let records = (1..).zip(listed).map(|(line, listed)| checked(&index, listed, line, size));
    let records = records.collect::<Result<_, _>>()?;
    Ok((records, reader))
}

/// Records by contig, found by position.
pub(crate) struct Store {
    path: PathBuf,
    records: Vec<Record>,
    by_contig: HashMap<String, Vec<usize>>,
    indexed: Option<Mutex<Indexed>>,
    packed: Option<Packed>,
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
        Self::of(path, records, indexed, None)
    }

    /// The records of a pack.
    ///
    /// # Errors
    /// A duplicate name, no record at all.
    pub(crate) fn packed(records: Vec<Record>, packed: Packed) -> Result<Self, ReadError> {
        Self::of(Path::new(crate::packed::RECORDS), records, None, Some(packed))
    }

    fn of(
        path: &Path,
        records: Vec<Record>,
        indexed: Option<Mutex<Indexed>>,
        packed: Option<Packed>,
    ) -> Result<Self, ReadError> {
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
        Ok(Self { path: path.to_owned(), records, by_contig, indexed, packed })
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

    /// All bases of a record; where there is an index they are read now and kept.
    ///
    /// # Errors
    /// [`EncodeError::Unreadable`]: the file is gone, or not what its index says.
    pub(crate) fn bases<'a>(&self, record: &'a Record) -> Result<&'a [u8], EncodeError> {
        if let Some(bases) = record.bases.get() {
            return Ok(bases);
        }
        let bases = self.query(record, record.first, record.last())?;
        Ok(record.bases.get_or_init(|| bases))
    }

    /// The bases of a record from one position to another, both inside it; where there is an index, they alone are
    /// read.
    ///
    /// # Errors
    /// As [`Store::bases`].
    pub(crate) fn interval<'a>(
        &self,
        record: &'a Record,
        from: i64,
        to: i64,
    ) -> Result<Cow<'a, [u8]>, EncodeError> {
        let Some(bases) = record.bases.get() else { return self.query(record, from, to).map(Cow::Owned) };
        Ok(Cow::Borrowed(&bases[(from - record.first) as usize..=(to - record.first) as usize]))
    }

    fn query(&self, record: &Record, from: i64, to: i64) -> Result<Vec<u8>, EncodeError> {
        let read = || {
            if let Some(packed) = &self.packed {
                let [from, to] = [from - record.first, to - record.first + 1].map(i64::unsigned_abs);
                return packed.bases(record.index, from, to);
            }
            let failed = |e| text::io_error(&self.path, e);
            let gone = || failed(io::ErrorKind::UnexpectedEof.into());
            let at = |position: i64| {
                usize::try_from(position - record.first + 1).ok().and_then(Position::new).ok_or_else(gone)
            };
            let region = Region::new(record.name.as_bytes(), at(from)?..=at(to)?);
            let reader = self.indexed.as_ref().ok_or_else(gone)?;
            let read =
                reader.lock().unwrap_or_else(PoisonError::into_inner).query(&region).map_err(failed)?;
            let bases = normalised(&self.path, &record.name, read.sequence().as_ref().to_vec(), 1)?;
            if bases.len() as i64 == to - from + 1 { Ok(bases) } else { Err(gone()) }
        };
        read().map_err(|error: ReadError| EncodeError::Unreadable {
            contig: record.contig.clone(),
            source: error.into(),
        })
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
        let error = wrong.bases(&wrong.records()[1]).unwrap_err();
        assert!(matches!(error, EncodeError::Unreadable { .. }));
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("r.fa"), "{cause}");
        fs::write(index_of(&path), "chr1:11-16\t7\t12\t4\t5\n").unwrap();
        assert!(matches!(Store::open(&path), Err(ReadError::Line { .. })));
        let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
        File::open(index_of(&path)).unwrap().set_modified(earlier).unwrap();
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.contains("older"), "{error}");
    }

    #[test]
    fn an_index_reads_what_is_asked_for_and_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.fa");
        fs::write(&path, TEXT).unwrap();
        fs::write(index_of(&path), "chr1:11-16\t6\t12\t4\t5\nplain\t4\t36\t4\t6\n").unwrap();
        let store = Store::open(&path).unwrap();
        let record = &store.records()[0];
        assert_eq!(&*store.interval(record, 13, 15).unwrap(), b"GTN");
        assert!(record.bases.get().is_none());
        store.bases(record).unwrap();
        assert_eq!(&*store.interval(record, 13, 15).unwrap(), b"GTN");
    }

    #[test]
    fn an_index_that_points_outside_the_file_or_lacks_its_blocks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.fa");
        fs::write(&path, TEXT).unwrap();
        let most = u64::MAX;
        for line in [
            format!("plain\t{most}\t36\t4\t6\n"),
            format!("plain\t4\t{most}\t4\t6\n"),
            format!("plain\t{}\t36\t1\t{most}\n", most / 2),
            "plain\t400\t36\t4\t6\n".into(),
            "plain\t4\t36\t6\t4\n".into(),
            format!("chr1:1-{}\t{}\t36\t4\t6\n", i64::MAX, i64::MAX),
        ] {
            fs::write(index_of(&path), &line).unwrap();
            let error = Store::open(&path).unwrap_err().to_string();
            assert!(error.contains("samtools faidx"), "{line}: {error}");
        }
        let compressed = folder.path().join("r.fa.gz");
        fs::write(&compressed, gzip(TEXT)).unwrap();
        fs::write(index_of(&compressed), "plain\t4\t36\t4\t6\n").unwrap();
        let error = Store::open(&compressed).unwrap_err().to_string();
        assert!(error.contains(".gzi") && error.contains("bgzip"), "{error}");
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
