//! Makes the parts of a pack of FASTA and GFF3, whatever their size.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{BASES, BLOCK_BYTES, BLOCKS, Listed, RECORDS, RUNS, Run, Stored, TRANSCRIPTS};
use crate::{
    ReadError, dna,
    fasta::{self, Piece},
    gff, reference, text,
};

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Records of the FASTA file.
    pub records: u64,
    /// Letters of all of them.
    pub bases: u64,
    /// Transcripts.
    pub transcripts: u64,
    /// Their genes.
    pub genes: u64,
    /// Why transcripts were left out, one line each.
    pub skipped: Vec<String>,
}

/// Two bits of a base; another code stands as A and is found in the runs.
const fn bits(base: u8) -> u8 {
    match base {
        b'C' => 1,
        b'G' => 2,
        b'T' => 3,
        _ => 0,
    }
}

/// The bases, as they are written.
struct Writer {
    file: BufWriter<File>,
    block: Vec<u8>,
    blocks: Vec<u8>,
    /// The byte that is being filled, and how many bases it has.
    byte: (u8, u8),
}

impl Writer {
    fn byte(&mut self, byte: u8) -> std::io::Result<()> {
        self.block.push(byte);
        if self.block.len() == BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> std::io::Result<()> {
        if !self.block.is_empty() {
            self.blocks.extend(Sha256::digest(&self.block));
            self.file.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    fn push(&mut self, bases: &[u8]) -> std::io::Result<()> {
        for &base in bases {
            let (byte, filled) = self.byte;
            let byte = byte | bits(base) << (2 * filled);
            if filled == 3 {
                self.byte = (0, 0);
                self.byte(byte)?;
            } else {
                self.byte = (byte, filled + 1);
            }
        }
        Ok(())
    }

    fn end_record(&mut self) -> std::io::Result<()> {
        let (byte, filled) = std::mem::take(&mut self.byte);
        if filled > 0 { self.byte(byte) } else { Ok(()) }
    }
}

fn note(runs: &mut Vec<Run>, from: u64, bases: &[u8]) {
    for (at, &code) in (from..).zip(bases) {
        if dna::is_base(code) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.code == code && run.from + run.len == at => run.len += 1,
            _ => runs.push(Run { from: at, len: 1, code }),
        }
    }
}

/// Writes the parts into a folder.
///
/// # Errors
/// [`ReadError`]: a file that cannot be read or contradicts itself, or transcripts of another assembly.
pub fn build(fasta: &Path, gff3: &Path, folder: &Path) -> Result<Built, ReadError> {
    let gff::Transcripts { placed, skipped } = gff::read(gff3)?;
    let path = folder.join(BASES);
    let failed = |error| text::io_error(&path, error);
    let file = File::create(&path).map_err(failed)?;
    let mut writer =
        Writer { file: BufWriter::new(file), block: Vec::new(), blocks: Vec::new(), byte: (0, 0) };
    let (mut records, mut runs): (Vec<Listed>, Vec<Vec<Run>>) = (Vec::new(), Vec::new());
    fasta::stream(fasta, |piece| {
        match piece {
            Piece::Record { name, .. } => {
                writer.end_record().map_err(failed)?;
                records.push(Listed { name: name.to_owned(), len: 0 });
                runs.push(Vec::new());
            }
            Piece::Bases(bases) => {
                if let (Some(record), Some(runs)) = (records.last_mut(), runs.last_mut()) {
                    note(runs, record.len, bases);
                    record.len += bases.len() as u64;
                }
                writer.push(bases).map_err(failed)?;
            }
        }
        Ok::<(), ReadError>(())
    })?;
    writer
        .end_record()
        .and_then(|()| writer.end_block())
        .and_then(|()| writer.file.flush())
        .map_err(failed)?;
    let made = records.iter().map(|r| fasta::Record::new(fasta, r.name.clone(), r.len as i64, 1));
    let made = made.collect::<Result<Vec<_>, _>>()?;
    let contigs: std::collections::HashSet<&str> = made.iter().map(|r| r.contig.as_str()).collect();
    reference::check_beside(&made, &|contig| contigs.contains(contig), &placed, fasta, gff3)?;
    let placed = reference::preferred_first(placed);
    let stored: Vec<Stored> = placed.iter().map(|p| Stored::of(&p.contig, &p.transcript)).collect();
    let genes: std::collections::HashSet<&str> =
        stored.iter().map(|s| s.gene.as_str()).filter(|gene| !gene.is_empty()).collect();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|error| text::io_error(&path, error))
    };
    let encoded = |result: Result<Vec<u8>, postcard::Error>| {
        result.map_err(|error| ReadError::Beside { path: folder.to_owned(), reason: error.to_string() })
    };
    write(RECORDS, &encoded(postcard::to_stdvec(&records))?)?;
    write(TRANSCRIPTS, &encoded(postcard::to_stdvec(&stored))?)?;
    write(RUNS, &encoded(postcard::to_stdvec(&runs))?)?;
    write(BLOCKS, &writer.blocks)?;
    Ok(Built {
        records: records.len() as u64,
        bases: records.iter().map(|r| r.len).sum(),
        transcripts: stored.len() as u64,
        genes: genes.len() as u64,
        skipped,
    })
}
