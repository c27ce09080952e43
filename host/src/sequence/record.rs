//! The stored set, `dataset.bin`: magic, SHA-256 of the body, body (postcard).

use std::{collections::BTreeMap, path::Path};

use locus_genome::Alphabet;
use serde::{Deserialize, Serialize};

use crate::{Result, data::Split, files};

const MAGIC: &[u8; 8] = b"LOCUSSQ1";

/// What is to be predicted of a record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// Index of a class.
    Class(u16),
    /// A value.
    Value(f32),
}

/// One labelled sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceRecord {
    /// Its name, unique in its file.
    pub name: String,
    /// Upper-case letters of the alphabet (DNA with T, RNA with U), or SMILES as written.
    pub sequence: String,
    /// What is to be predicted.
    pub target: Target,
    /// What must not be torn apart between splits, where there is such a thing; the unit of resampling.
    pub group: Option<String>,
    /// Offset of the one letter that differs from the wild type, where there is one.
    pub changed: Option<usize>,
    /// Who may see it.
    pub split: Split,
}

/// Labelled sequences of one alphabet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceSet {
    /// What they are written in.
    pub alphabet: Alphabet,
    /// Names of the classes in the order of their indices; none where targets are values.
    pub classes: Vec<String>,
    /// SHA-256 of the files it was made from.
    pub sources: BTreeMap<String, String>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// The sequence that the records differ from, where there is one.
    pub wild_type: Option<String>,
    /// The records, in the order of the files.
    pub records: Vec<SequenceRecord>,
}

impl SequenceSet {
    /// Indices of the records of a split.
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.records.len()).filter(|&i| self.records[i].split == split).collect()
    }

    /// Indices of the records that probabilities are fitted on: their own half of validation, or all of it where it is
    /// not halved.
    pub fn for_fitting(&self) -> Vec<usize> {
        let half = self.of_split(Split::ValFit);
        if half.is_empty() { self.of_split(Split::ValSelect) } else { half }
    }

    /// Writes the set, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_checked(path, MAGIC, self)
    }

    /// Reads a set and checks it.
    ///
    /// # Errors
    /// No such file, another format, or bytes that changed since.
    pub fn read(path: &Path) -> Result<Self> {
        files::read_checked(path, MAGIC)
    }
}
