//! `locus align`: identity of two sequences, aligned from end to end.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use locus_genome::text;
use noodles::fasta;
use serde_json::json;

use crate::{
    Error, Result,
    align::{Scoring, align},
    error::io_at,
};

/// Longest product of two lengths: a minute and a half.
const MAX_CELLS: u64 = 10_000_000_000;

/// Most bytes of a file that are read.
const MAX_BYTES: u64 = 1 << 30;

/// What is aligned.
#[derive(Clone, Debug, clap::Args)]
pub struct AlignArgs {
    /// FASTA; its first record
    pub first: PathBuf,
    /// FASTA; its first record
    pub second: PathBuf,
    /// Amino acids (BLOSUM62, gaps 11 + 1 a residue) instead of bases (2 / −3, gaps 5 + 2 a base)
    #[arg(long)]
    pub protein: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Aligns and prints.
///
/// # Errors
/// A file without a record, or sequences that are too long.
pub fn run(args: &AlignArgs) -> Result<()> {
    let (a, b) = (first_record(&args.first)?, first_record(&args.second)?);
    let cells = a.len() as u64 * b.len() as u64;
    if cells > MAX_CELLS {
        return Err(Error::Data {
            what: format!("{} and {}", args.first.display(), args.second.display()),
            got: format!("{} and {} letters", a.len(), b.len()),
            expected: "lengths whose product is 10^10 at most, such as 100,000 and 100,000".into(),
        });
    }
    let found = align(&a, &b, if args.protein { &Scoring::PROTEIN } else { &Scoring::NUCLEOTIDE });
    if args.json {
        say!(
            "{}",
            json!({ "score": found.score, "columns": found.columns, "identical": found.identical, "identity": found.identity() })
        );
        return Ok(());
    }
    say!("identity {:.4} ({} of {} columns)", found.identity(), found.identical, found.columns);
    say!("score    {}", found.score);
    Ok(())
}

fn first_record(path: &Path) -> Result<Vec<u8>> {
    let file = BufReader::new(text::open(path)?.take(MAX_BYTES));
    let mut reader = fasta::io::Reader::new(file);
    match reader.records().next() {
        Some(record) => Ok(record.map_err(io_at(path))?.sequence().as_ref().to_vec()),
        None => Err(Error::Data {
            what: path.display().to_string(),
            got: "no record".into(),
            expected: "a FASTA file".into(),
        }),
    }
}
