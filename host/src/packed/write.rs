//! Writing a packed genome: nothing but the index is held in memory.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use locus_genome::fasta::{self, Piece};
use sha2::{Digest, Sha256};

use super::{MAGIC, PackedRecord, Run};
use crate::{Error, Result, files::Growing};

/// A packed genome that is being written: [`PackedWriter::finish`] puts it in its place.
pub struct PackedWriter {
    path: PathBuf,
    file: Growing,
    hasher: Sha256,
    place: u64,
    records: Vec<PackedRecord>,
    names: HashSet<String>,
    /// Bases of the last byte that are there, and how many.
    byte: (u8, u32),
    buffer: Vec<u8>,
}

impl PackedWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut writer = Self {
            path: path.to_owned(),
            file: Growing::create(path)?,
            hasher: Sha256::new(),
            place: 0,
            records: Vec::new(),
            names: HashSet::new(),
            byte: (0, 0),
            buffer: MAGIC.to_vec(),
        };
        writer.flush()?;
        Ok(writer)
    }

    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.buffer);
        self.file.write(&self.buffer)?;
        self.place += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn end_byte(&mut self) -> Result<()> {
        if self.byte.1 > 0 {
            self.buffer.push(self.byte.0);
            self.byte = (0, 0);
        }
        self.flush()
    }

    /// Begins a record.
    ///
    /// # Errors
    /// A name that is there already, or a disk that is full.
    pub fn record(&mut self, name: &str, description: &str) -> Result<()> {
        if !self.names.insert(name.to_owned()) {
            return Err(Error::Data {
                what: self.path.display().to_string(),
                got: format!("the record name {name:?} twice"),
                expected: "unique names; rename or leave out one".into(),
            });
        }
        self.end_byte()?;
        let place = self.place;
        let (name, description) = (name.to_owned(), description.to_owned());
        self.records.push(PackedRecord { name, description, len: 0, place, runs: Vec::new() });
        Ok(())
    }

    /// Adds upper-case IUPAC codes to the record that began last.
    ///
    /// # Errors
    /// No record began, or a disk that is full.
    pub fn bases(&mut self, bases: &[u8]) -> Result<()> {
        let Some(record) = self.records.last_mut() else {
            return Err(Error::Data {
                what: self.path.display().to_string(),
                got: "bases before the first record".into(),
                expected: "a record".into(),
            });
        };
        let (mut byte, mut held) = self.byte;
        for &base in bases {
            let code = match base {
                b'A' => 0,
                b'C' => 1,
                b'G' => 2,
                b'T' => 3,
                code => {
                    let at = record.len;
                    match record.runs.last_mut() {
                        Some(run) if run.code == code && run.start + run.len == at => run.len += 1,
                        _ => record.runs.push(Run { start: at, len: 1, code }),
                    }
                    0
                }
            };
            byte |= code << (2 * held);
            held += 1;
            record.len += 1;
            if held == 4 {
                self.buffer.push(byte);
                (byte, held) = (0, 0);
            }
        }
        self.byte = (byte, held);
        if self.buffer.len() >= 1 << 16 { self.flush() } else { Ok(()) }
    }

    /// Adds the records of a FASTA file for which `keep` says so of name and description, read piece by piece.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`PackedWriter::record`].
    pub fn fasta(&mut self, path: &Path, keep: impl Fn(&str, &str) -> bool) -> Result<()> {
        let mut kept = false;
        fasta::stream(path, |piece| match piece {
            Piece::Record { name, description } => {
                kept = keep(name, description);
                if kept { self.record(name, description) } else { Ok(()) }
            }
            Piece::Bases(bases) if kept => self.bases(bases),
            Piece::Bases(_) => Ok(()),
        })
    }

    /// Writes the index and puts the file in its place.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(mut self) -> Result<()> {
        self.end_byte()?;
        self.buffer = postcard::to_allocvec(&self.records)
            .map_err(|e| Error::Dataset { path: self.path.clone(), reason: e.to_string() })?;
        let len = self.buffer.len() as u64;
        self.buffer.extend(len.to_le_bytes());
        self.flush()?;
        self.file.write(&self.hasher.finalize())?;
        self.file.finish()
    }
}
