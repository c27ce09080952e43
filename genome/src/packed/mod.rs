//! A reference pack's parts: bases at two bits each with where other codes stand, and transcripts. The bases are read by
//! position and checked by the block whenever they are read, so that a pack of a whole genome opens at once.

mod build;
mod read;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Serialize};

use crate::{CdsPart, Exon, Strand, Transcript};

pub use build::{Built, build};
pub(crate) use read::Packed;

/// The parts, in the order of the archive.
pub const PARTS: [&str; 5] = [RECORDS, TRANSCRIPTS, RUNS, BLOCKS, BASES];
/// Names and lengths of the records.
pub const RECORDS: &str = "records.bin";
/// Transcripts, in the order in which they answer.
pub const TRANSCRIPTS: &str = "transcripts.bin";
/// Where codes other than A, C, G and T stand.
pub const RUNS: &str = "runs.bin";
/// SHA-256 of each block of the bases.
pub const BLOCKS: &str = "blocks.bin";
/// Bases: A, C, G, T = 0 to 3, four to a byte from its lowest bits on, each record from a byte of its own on.
pub const BASES: &str = "bases.2bit";

/// Bytes of the bases that are checked together.
pub const BLOCK_BYTES: usize = 16 << 10;

/// Bytes that are read by position.
pub trait ReadAt: Send + Sync + Debug {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Fewer bytes are there, or they cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().filter(|from| *from <= self.len());
        let held = from.and_then(|from| self[from..].get(..buffer.len()));
        buffer.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The parts of a pack, whose digests are checked but for that of the bases.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The part of this name.
    pub records: Vec<u8>,
    /// The part of this name.
    pub transcripts: Vec<u8>,
    /// The part of this name.
    pub runs: Vec<u8>,
    /// The part of this name.
    pub blocks: Vec<u8>,
    /// Where the bases are.
    pub source: std::sync::Arc<dyn ReadAt>,
    /// Where in it they begin.
    pub bases_at: u64,
    /// Bytes of them.
    pub bases_len: u64,
}

/// A record of the FASTA file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    name: String,
    len: u64,
}

/// Equal codes that are no bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// Offset in the record.
    from: u64,
    len: u64,
    code: u8,
}

/// A transcript; exons and coding parts by ascending start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    contig: String,
    id: String,
    gene: String,
    reverse: bool,
    exons: Vec<(i64, i64)>,
    cds: Vec<(i64, i64, u8)>,
}

impl Stored {
    fn of(contig: &str, transcript: &Transcript) -> Self {
        Self {
            contig: contig.to_owned(),
            id: transcript.id.clone(),
            gene: transcript.gene.clone(),
            reverse: transcript.strand == Strand::Reverse,
            exons: transcript.exons().iter().map(|e| (e.start, e.end)).collect(),
            cds: transcript.cds().iter().map(|c| (c.start, c.end, c.phase)).collect(),
        }
    }

    fn transcript(self) -> Result<crate::gff::Placed, crate::EncodeError> {
        let strand = if self.reverse { Strand::Reverse } else { Strand::Forward };
        let exons = self.exons.into_iter().map(|(start, end)| Exon { start, end }).collect();
        let cds = self.cds.into_iter().map(|(start, end, phase)| CdsPart { start, end, phase }).collect();
        let transcript = Transcript::new(self.id, self.gene, strand, exons, cds)?.on_contig(&self.contig);
        Ok(crate::gff::Placed { contig: self.contig, transcript, preferred: false })
    }
}
