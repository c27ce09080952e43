//! Reads the bases of a pack by position.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::{BASES, BLOCK_BYTES, BLOCKS, Listed, Parts, RECORDS, RUNS, ReadAt, Run, Stored, TRANSCRIPTS};
use crate::{ReadError, fasta::Record, gff::Placed, text};

/// Blocks that are kept, one MiB of them.
const KEPT: usize = 64;

/// The bases of a pack.
#[derive(Debug)]
pub(crate) struct Packed {
    source: Arc<dyn ReadAt>,
    at: u64,
    len: u64,
    /// SHA-256 of each block.
    blocks: Vec<[u8; 32]>,
    /// By record: the byte where its bases begin, and its runs.
    records: Vec<(u64, Vec<Run>)>,
    /// Blocks that were read last, checked.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

fn wrong(part: &str, reason: impl Into<String>) -> ReadError {
    ReadError::Beside { path: part.into(), reason: reason.into() }
}

fn decoded<'a, T: serde::Deserialize<'a>>(part: &str, bytes: &'a [u8]) -> Result<T, ReadError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(wrong(part, "got bytes that are no such part, expected what `locus pack build` writes")),
    }
}

impl Packed {
    /// Takes the parts apart: bases, records and transcripts.
    pub(crate) fn open(parts: Parts) -> Result<(Self, Vec<Record>, Vec<Placed>), ReadError> {
        let listed: Vec<Listed> = decoded(RECORDS, &parts.records)?;
        let runs: Vec<Vec<Run>> = decoded(RUNS, &parts.runs)?;
        let stored: Vec<Stored> = decoded(TRANSCRIPTS, &parts.transcripts)?;
        if runs.len() != listed.len() {
            return Err(wrong(RUNS, format!("got {} records, expected {}", runs.len(), listed.len())));
        }
        let (mut records, mut made, mut at) = (Vec::with_capacity(listed.len()), Vec::new(), 0_u64);
        for (index, (Listed { name, len }, runs)) in listed.into_iter().zip(runs).enumerate() {
            let mut end = 0;
            for run in &runs {
                let next = run.from.checked_add(run.len).filter(|next| *next <= len && run.from >= end);
                end = next.ok_or_else(|| {
                    wrong(RUNS, format!("got a run of record {index} that overlaps, or ends behind it"))
                })?;
            }
            let signed = i64::try_from(len).ok().filter(|len| *len <= i64::MAX / 4);
            let signed = signed.ok_or_else(|| wrong(RECORDS, "got a record longer than any genome"))?;
            let mut record = Record::new(Path::new(RECORDS), name, signed, index as u64 + 1)?;
            record.index = index;
            made.push(record);
            records.push((at, runs));
            at = at.checked_add(len.div_ceil(4)).ok_or_else(|| wrong(RECORDS, "got more bases than fit"))?;
        }
        let (whole, rest) = parts.blocks.as_chunks::<32>();
        if at != parts.bases_len || !rest.is_empty() || whole.len() as u64 != at.div_ceil(BLOCK_BYTES as u64)
        {
            let reason =
                format!("got {} bytes and {} blocks, expected {at} bytes", parts.bases_len, whole.len());
            return Err(wrong(BASES, reason));
        }
        let placed = stored.into_iter().map(|stored| {
            let id = stored.id.clone();
            stored.transcript().map_err(|error| wrong(TRANSCRIPTS, format!("transcript {id:?}: {error}")))
        });
        let placed = placed.collect::<Result<_, _>>()?;
        let packed = Self {
            source: parts.source,
            at: parts.bases_at,
            len: at,
            blocks: whole.to_vec(),
            records,
            kept: Mutex::default(),
        };
        Ok((packed, made, placed))
    }

    /// A block, checked.
    fn block(&self, number: u64) -> Result<Arc<[u8]>, ReadError> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|(n, _)| *n == number)
                && let Some(entry) = kept.remove(at)
            {
                let block = Arc::clone(&entry.1);
                kept.push_back(entry);
                return Ok(block);
            }
        }
        let from = number * BLOCK_BYTES as u64;
        let len = self.len.saturating_sub(from).min(BLOCK_BYTES as u64) as usize;
        let mut bytes = vec![0; len];
        self.source
            .read_exact_at(&mut bytes, self.at + from)
            .map_err(|error| text::io_error(Path::new(BASES), error))?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        if self.blocks.get(number as usize) != Some(&digest) {
            return Err(wrong(
                BLOCKS,
                format!(
                    "block {number} of the bases is not what was signed: the disk is damaged; flash the pack again"
                ),
            ));
        }
        let block: Arc<[u8]> = bytes.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((number, Arc::clone(&block)));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(block)
    }

    /// Bases from one offset of a record up to another.
    pub(crate) fn bases(&self, record: usize, from: u64, to: u64) -> Result<Vec<u8>, ReadError> {
        let (start, runs) = self
            .records
            .get(record)
            .ok_or_else(|| text::io_error(Path::new(RECORDS), io::ErrorKind::NotFound.into()))?;
        let mut bases = Vec::with_capacity(to.saturating_sub(from) as usize);
        let mut offset = from;
        while offset < to {
            let byte = start + offset / 4;
            let block = self.block(byte / BLOCK_BYTES as u64)?;
            let into = (byte % BLOCK_BYTES as u64) as usize;
            if into >= block.len() {
                return Err(text::io_error(Path::new(BASES), io::ErrorKind::UnexpectedEof.into()));
            }
            for byte in &block[into..] {
                let in_byte = offset % 4..4.min(offset % 4 + to - offset);
                offset += in_byte.end - in_byte.start;
                bases.extend(in_byte.map(|place| b"ACGT"[usize::from(byte >> (2 * place) & 3)]));
                if offset == to {
                    break;
                }
            }
        }
        let first = runs.partition_point(|run| run.from + run.len <= from);
        for run in runs[first..].iter().take_while(|run| run.from < to) {
            let [a, b] = [run.from.max(from), (run.from + run.len).min(to)].map(|at| (at - from) as usize);
            bases[a..b].fill(run.code);
        }
        Ok(bases)
    }
}
