//! FASTA, CSV and TSV → rows of named values.

use std::{
    cell::Cell,
    collections::HashSet,
    io::{self, BufRead, Read},
    path::Path,
    rc::Rc,
};

use locus_genome::{ReadError, text};
use noodles::fasta;

use super::{
    SetPlan,
    plan::{Field, FilePlan},
};
use crate::Result;

/// The most bytes of one record, its name and line ends included.
const MAX_RECORD_BYTES: u64 = 1 << 24;

/// One record as a file has it: values by column or key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Name, unique in the file.
    pub name: String,
    /// As written, without blanks at the edges.
    pub sequence: String,
    /// What is to be predicted; empty where the file says nothing.
    pub target: String,
    /// Its group, where the plan asks for one.
    pub group: Option<String>,
    /// The split that the file or a column says.
    pub split: Option<String>,
    /// 1-based line in a table, or number of the record in FASTA.
    pub line: u64,
}

/// Stops a reader that gives more bytes than [`MAX_RECORD_BYTES`] before the count is set back.
struct Limited<R> {
    inner: R,
    used: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.count(n)?;
        Ok(n)
    }
}

impl<R: BufRead> Limited<R> {
    fn count(&self, n: usize) -> io::Result<()> {
        self.used.set(self.used.get() + n as u64);
        if self.used.get() > MAX_RECORD_BYTES {
            let reason = format!("a record has over {MAX_RECORD_BYTES} bytes; remove it or cut it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(())
    }
}

/// Reads every record of a file that the plan names, in order.
///
/// # Errors
/// No such file, one that is cut off, a name twice, a column or key that is not there, a record of over 16 MiB, no
/// record at all.
pub fn read(
    plan: &SetPlan,
    file: &FilePlan,
    path: &Path,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    let used = Rc::new(Cell::new(0));
    let input = Limited { inner: text::open(path)?, used: used.clone() };
    let mut names = HashSet::new();
    let mut next = |row: Row| -> Result<()> {
        used.set(0);
        if !names.insert(row.name.clone()) {
            return Err(ReadError::Duplicate { path: path.to_owned(), name: row.name }.into());
        }
        each(Row { split: file.split.clone().or(row.split), ..row })
    };
    match delimiter(path) {
        Some(delimiter) => table(plan, path, input, delimiter, &mut next)?,
        None => sequences(plan, path, input, &mut next)?,
    }
    if names.is_empty() {
        let expected = if delimiter(path).is_some() { "row below the header" } else { "FASTA record" };
        return Err(ReadError::Nothing { path: path.to_owned(), expected }.into());
    }
    Ok(())
}

/// The delimiter of a table, `None` for FASTA.
fn delimiter(path: &Path) -> Option<u8> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    match name.strip_suffix(".gz").unwrap_or(&name).rsplit('.').next()? {
        "csv" => Some(b','),
        "tsv" => Some(b'\t'),
        _ => None,
    }
}

fn sequences(
    plan: &SetPlan,
    path: &Path,
    input: Limited<impl BufRead>,
    next: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    let mut reader = fasta::io::Reader::new(io::BufReader::with_capacity(1 << 16, input));
    for (line, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|e| at(path, line, &e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(record.name());
        let words = record.description().map(|d| text(d)).unwrap_or_default();
        let value = |key: &str| match key {
            "name" => Some(name.as_str()),
            "word" => words.split_whitespace().find(|w| !w.contains('=')),
            _ => words.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('=')),
        };
        let need = |field: &Field| {
            let found = value(&field.field).map(|v| field.of(v).to_owned());
            found.ok_or_else(|| {
                let reason = format!(
                    "record {name:?} has no {}, expected {}=… or so after its name",
                    field.field, field.field
                );
                ReadError::Line { path: path.to_owned(), line, reason }
            })
        };
        let target = target_field(plan);
        next(Row {
            target: if plan.target.optional { need(&target).unwrap_or_default() } else { need(&target)? },
            group: plan.group.as_ref().map(need).transpose()?,
            split: plan.split.field.as_ref().map(need).transpose()?,
            sequence: text(record.sequence().as_ref()),
            name: name.clone(),
            line,
        })?;
    }
    Ok(())
}

fn table(
    plan: &SetPlan,
    path: &Path,
    input: Limited<impl BufRead>,
    delimiter: u8,
    next: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(input);
    let failed = |e: csv::Error| {
        let line = e.position().map_or(1, csv::Position::line);
        match e.into_kind() {
            csv::ErrorKind::Io(e) => at(path, line, &e),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                at(path, line, &format!("got {len} columns, expected the header's {expected_len}"))
            }
            other => at(path, line, &format!("{other:?}")),
        }
    };
    let header = reader.headers().map_err(&failed)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        found.ok_or_else(|| {
            let shown: Vec<&str> = header.iter().take(20).collect();
            at(path, 1, &format!("got no column {name:?}, expected one of {shown:?}"))
        })
    };
    let sequence = column(&plan.sequence)?;
    let name = plan.name.as_deref().map(&column).transpose()?;
    let field = |f: &Field| column(&f.field).map(|at| (at, f.clone()));
    let target = field(&target_field(plan))?;
    let group = plan.group.as_ref().map(field).transpose()?;
    let split = plan.split.field.as_ref().map(field).transpose()?;
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(&failed)? {
        let line = row.position().map_or(0, csv::Position::line);
        let of = |(at, field): &(usize, Field)| field.of(&row[*at]).to_owned();
        next(Row {
            name: name.map_or_else(|| format!("line{line}"), |at| row[at].trim().to_owned()),
            sequence: row[sequence].trim().to_owned(),
            target: of(&target),
            group: group.as_ref().map(of),
            split: split.as_ref().map(of),
            line,
        })?;
    }
    Ok(())
}

fn target_field(plan: &SetPlan) -> Field {
    Field { field: plan.target.field.clone(), until: plan.target.until }
}

fn at(path: &Path, line: u64, reason: &dyn std::fmt::Display) -> ReadError {
    ReadError::Line { path: path.to_owned(), line, reason: reason.to_string() }
}
