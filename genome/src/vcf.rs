//! VCF, one allele at a time. A record that cannot be used is handed out with its reason, so that no
//! row of a file that can be read to its end is lost.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, Read},
    path::{Path, PathBuf},
};

use noodles::vcf;

use crate::{ReadError, Variant, text};

/// One alternate allele of one record. Of a line that is no record, the first 64 characters of each column.
#[derive(Clone, Debug)]
pub struct Row {
    /// CHROM as written.
    pub contig: String,
    /// POS, 0 where it is not a number.
    pub position: u64,
    /// REF as written.
    pub ref_allele: String,
    /// One ALT as written; all of them where the line is no record.
    pub alt_allele: String,
    /// The variant, or why there is none.
    pub variant: Result<Variant, String>,
    info: HashMap<String, String>,
}

impl Row {
    /// Value of an INFO key, as written.
    pub fn info(&self, key: &str) -> Option<&str> {
        self.info.get(key).map(String::as_str)
    }
}

/// Reads alleles from a VCF file, plain or compressed.
pub struct Reader {
    path: PathBuf,
    inner: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    pending: Vec<Row>,
}

impl Reader {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, or has no usable VCF header.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut inner = text::open(path)?;
        let mut header = Vec::new();
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            let starts = inner.fill_buf().map_err(|e| text::io_error(path, e))?.first().copied();
            if starts != Some(b'#') {
                break;
            }
            number += 1;
            text::read_line(&mut *inner, &mut line).map_err(|e| text::io_error(path, e))?;
            header.extend_from_slice(&line);
            header.push(b'\n');
        }
        check_header(&header).map_err(|e| ReadError::Line {
            path: path.to_owned(),
            line: number.max(1),
            reason: format!(
                "got no usable VCF header ({e}), expected ##fileformat=VCFv4.x down to #CHROM; add the header"
            ),
        })?;
        Ok(Self { path: path.to_owned(), inner, line, number, pending: Vec::new() })
    }
}

/// The alleles of one line that is no header, its end taken away; `number` is for reasons.
pub fn rows(line: &[u8], number: u64) -> Vec<Row> {
    let broken = |reason: String| {
        let shown: Vec<String> =
            line.split(|&b| b == b'\t').take(5).map(|f| String::from_utf8_lossy(f).into_owned()).collect();
        let field = |i: usize| shown.get(i).cloned().unwrap_or_else(|| ".".into());
        vec![Row {
            contig: field(0),
            position: field(1).parse().unwrap_or(0),
            ref_allele: field(3),
            alt_allele: field(4),
            variant: Err(format!("line {number}: {reason}")),
            info: HashMap::new(),
        }]
    };
    // noodles looks at the columns without the tabs between them: a letter that a tab cuts in two ends it.
    if std::str::from_utf8(line).is_err() {
        return broken("got bytes that are no text, expected UTF-8".into());
    }
    // It wants the eight fixed columns; fewer would shift one into the next.
    let columns = line.split(|&b| b == b'\t').count();
    if columns < 8 {
        return broken(format!("got {columns} columns, expected at least 8 separated by tabs"));
    }
    let record = match vcf::Record::try_from(line) {
        Ok(record) => record,
        Err(e) => return broken(e.to_string()),
    };
    let position = match record.variant_start() {
        Some(Ok(p)) => usize::from(p) as u64,
        None => 0,
        Some(Err(_)) => {
            return broken("got a position that is no whole number, expected 1 or more".into());
        }
    };
    let info: HashMap<String, String> = record
        .info()
        .as_ref()
        .split(';')
        .filter_map(|pair| pair.split_once('=').or(Some((pair, ""))))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let alternates = record.alternate_bases();
    alternates
        .as_ref()
        .split(',')
        .map(|alt| Row {
            contig: record.reference_sequence_name().to_owned(),
            position,
            ref_allele: record.reference_bases().to_owned(),
            alt_allele: alt.to_owned(),
            variant: Variant::new(record.reference_sequence_name(), position, record.reference_bases(), alt)
                .map_err(|e| format!("line {number}: {e}")),
            info: info.clone(),
        })
        .collect()
}

/// Whether the lines of a header, each with its end, are one.
///
/// # Errors
/// Why not.
pub fn check_header(header: &[u8]) -> Result<(), String> {
    let mut defined = HashSet::new();
    // Merged files define a key twice, which noodles refuses; the first one holds.
    let lines = header.split_inclusive(|&b| b == b'\n');
    let kept: Vec<&[u8]> =
        lines.filter(|line| definition(line).is_none_or(|d| defined.insert(d.to_vec()))).collect();
    vcf::io::Reader::new(kept.concat().as_slice()).read_header().map(drop).map_err(|e| e.to_string())
}

/// `##INFO=<ID=X` of a header line that defines X.
fn definition(line: &[u8]) -> Option<&[u8]> {
    let id = line.windows(5).position(|w| w == b"=<ID=")?;
    let end = line[id..].iter().position(|b| matches!(b, b',' | b'>'))?;
    Some(&line[..id + end])
}

impl Iterator for Reader {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.pending.pop() {
                return Some(Ok(row));
            }
            let mut line = std::mem::take(&mut self.line);
            let read = text::read_line(&mut *self.inner, &mut line);
            self.line = line;
            self.number += 1;
            match read {
                Ok(false) => return None,
                Ok(true) if self.line.is_empty() => {}
                Ok(true) => {
                    self.pending = rows(&self.line, self.number);
                    self.pending.reverse();
                }
                Err(e) => {
                    // One error, then the end: what follows a broken stream is unknown.
                    self.inner = Box::new(std::io::empty().take(0));
                    return Some(Err(text::io_error(&self.path, e)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(bytes: &[u8]) -> Result<Reader, ReadError> {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(bytes).unwrap();
        Reader::open(f.path())
    }

    const HEADER: &str = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    #[test]
    fn every_allele_is_a_row_and_bad_lines_say_why() {
        let body = "chr1\t5\t.\tA\tC,G\t.\t.\tX=1;FLAG\nchr1\t0\t.\tA\tC\t.\t.\t.\nchr1\tx\t.\tA\tC\t.\t.\t.\nshort\t7\r\nchr1\t9\t.\tAT\tA\t.\t.\t.\nchr1\t9\t.\tA\t<DEL>\t.\t.\t.\n";
        let rows: Vec<Row> =
            open(format!("{HEADER}{body}").as_bytes()).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 7);
        assert_eq!(
            (rows[0].alt_allele.as_str(), rows[1].alt_allele.as_str(), rows[1].info("X")),
            ("C", "G", Some("1"))
        );
        assert!(rows[0].variant.is_ok() && rows[5].variant.is_ok());
        assert!([2, 3, 4, 6].iter().all(|&i| rows[i].variant.is_err()));
        assert_eq!((rows[4].contig.as_str(), rows[4].position), ("short", 7));
    }

    #[test]
    fn a_key_that_is_defined_twice_is_taken_as_the_first() {
        let twice = "##fileformat=VCFv4.3\n##contig=<ID=chr1>\n##contig=<ID=chr1,length=9>\n\
            ##INFO=<ID=X,Number=1,Type=String,Description=\"a\">\n\
            ##INFO=<ID=X,Number=1,Type=Integer,Description=\"b\">\n\
            #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t5\t.\tA\tC\t.\t.\tX=1\n";
        let rows: Vec<Row> = open(twice.as_bytes()).unwrap().map(Result::unwrap).collect();
        assert!(rows.len() == 1 && rows[0].variant.is_ok());
    }

    #[test]
    fn a_line_that_cannot_be_read_keeps_its_alleles_whole() {
        let deleted = "ACGT".repeat(50);
        let row = open(format!("{HEADER}chr1\tx\t.\t{deleted}\tA\t.\t.\t.\n").as_bytes()).unwrap().next();
        assert_eq!(row.unwrap().unwrap().ref_allele, deleted);
    }

    #[test]
    fn a_letter_that_a_tab_cuts_in_two_is_a_bad_line() {
        let line = b"chr1\t10\xf0\t\x9f\xa7\xac\tA\tC\t9\tPASS\t.\nchr1\t5\t.\tA\tC\t.\t.\t.\n";
        let rows: Vec<Row> = open(&[HEADER.as_bytes(), line].concat()).unwrap().map(Result::unwrap).collect();
        assert!(rows.len() == 2 && rows[0].variant.is_err() && rows[1].variant.is_ok(), "{rows:?}");
    }

    #[test]
    fn a_file_without_header_is_refused() {
        assert!(matches!(open(b"chr1\t5\t.\tA\tC\t.\t.\t.\n"), Err(ReadError::Line { .. })));
        assert!(open(b"").is_err());
    }
}
