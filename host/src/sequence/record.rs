//! The stored set. `dataset.bin`: magic, SHA-256 of the body, body (postcard). The letters of DNA and RNA lie beside it
//! in `dataset.packed`, two bits a base behind a memory map ([`crate::packed`]); those of other alphabets in the body.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_genome::Alphabet;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    data::Split,
    files,
    packed::{PackedGenome, PackedWriter},
};

const MAGIC: &[u8; 8] = b"LOCUSSQ2";

/// What is to be predicted of a record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// Index of a class.
    Class(u16),
    /// A value.
    Value(f32),
}

/// One labelled sequence; its letters are [`SequenceSet::sequence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceRecord {
    /// Its name, unique in its file.
    pub name: String,
    /// What is to be predicted.
    pub target: Target,
    /// What must not be torn apart between splits, where there is such a thing; the unit of resampling.
    pub group: Option<String>,
    /// Offset of the one letter that differs from the wild type, where there is one.
    pub changed: Option<usize>,
    /// Who may see it.
    pub split: Split,
}

/// Where the letters of the records are.
#[derive(Debug, Serialize, Deserialize)]
enum Letters {
    /// In memory, record after record.
    Held(Vec<String>),
    /// In the packed file with this digest.
    Packed {
        sha256: [u8; 32],
        #[serde(skip)]
        genome: Option<PackedGenome>,
    },
}

/// Labelled sequences of one alphabet.
#[derive(Debug, Serialize, Deserialize)]
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
    letters: Letters,
}

/// The file of the packed letters beside a set.
fn packed(path: &Path) -> PathBuf {
    path.with_extension("packed")
}

/// Whether the letters of an alphabet are packed.
pub const fn is_packed(alphabet: Alphabet) -> bool {
    matches!(alphabet, Alphabet::Dna | Alphabet::Rna)
}

impl SequenceSet {
    /// A set without records.
    pub const fn new(alphabet: Alphabet, classes: Vec<String>) -> Self {
        Self {
            alphabet,
            classes,
            sources: BTreeMap::new(),
            left_out: BTreeMap::new(),
            wild_type: None,
            records: Vec::new(),
            letters: Letters::Held(Vec::new()),
        }
    }

    /// Adds a record to a set that is being made: upper-case letters of the alphabet (DNA with T, RNA with U), or
    /// SMILES as written. A stored set takes none.
    pub fn push(&mut self, record: SequenceRecord, sequence: String) {
        if let Letters::Held(letters) = &mut self.letters {
            letters.push(sequence);
            self.records.push(record);
        }
    }

    /// Keeps the records of a set that is being made for which `keep` says so of their letters.
    ///
    /// # Errors
    /// Whatever `keep` gives.
    pub fn retain(&mut self, keep: impl Fn(&str) -> Result<bool>) -> Result<()> {
        if let Letters::Held(letters) = &mut self.letters {
            let keep = letters.iter().map(|l| keep(l)).collect::<Result<Vec<bool>>>()?;
            let mut of_letters = keep.iter().copied();
            letters.retain(|_| of_letters.next().unwrap_or(false));
            let mut of_records = keep.into_iter();
            self.records.retain(|_| of_records.next().unwrap_or(false));
        }
        Ok(())
    }

    /// Letters of a record.
    ///
    /// # Errors
    /// No such record.
    pub fn sequence(&self, record: usize) -> Result<Cow<'_, str>> {
        let none = || Error::Data {
            what: "the set".into(),
            got: format!("record {record}"),
            expected: format!("one of its {}", self.records.len()),
        };
        match &self.letters {
            Letters::Held(letters) => letters.get(record).map(|l| Cow::Borrowed(l.as_str())).ok_or_else(none),
            Letters::Packed { genome, .. } => {
                let genome = genome.as_ref().ok_or_else(none)?;
                let mut bases = genome.bases(record, 0, self.length(record) as u64)?;
                if self.alphabet == Alphabet::Rna {
                    bases.iter_mut().filter(|b| **b == b'T').for_each(|b| *b = b'U');
                }
                Ok(Cow::Owned(bases.into_iter().map(char::from).collect()))
            }
        }
    }

    /// Bytes of a record's letters; 0 without such a record.
    pub fn length(&self, record: usize) -> usize {
        match &self.letters {
            Letters::Held(letters) => letters.get(record).map_or(0, String::len),
            Letters::Packed { genome, .. } => {
                genome.as_ref().and_then(|g| g.records().get(record)).map_or(0, |r| r.len as usize)
            }
        }
    }

    /// Name of a record's class; `None` where targets are values.
    pub fn class(&self, record: usize) -> Option<&str> {
        match self.records.get(record)?.target {
            Target::Class(class) => self.classes.get(usize::from(class)).map(String::as_str),
            Target::Value(_) => None,
        }
    }

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

    /// Writes the set, whole or not at all; what is packed is read from the packed file from then on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn store(&mut self, path: &Path) -> Result<()> {
        if is_packed(self.alphabet) {
            let place = packed(path);
            let mut writer = PackedWriter::create(&place)?;
            for record in 0..self.records.len() {
                // Names are unique in a file only.
                writer.record(&record.to_string(), "")?;
                let letters = self.sequence(record)?;
                if self.alphabet == Alphabet::Rna {
                    writer.bases(letters.replace('U', "T").as_bytes())?;
                } else {
                    writer.bases(letters.as_bytes())?;
                }
            }
            writer.finish()?;
            let genome = PackedGenome::open(&place)?;
            self.letters = Letters::Packed { sha256: genome.sha256(), genome: Some(genome) };
        }
        files::write_checked(path, MAGIC, self)
    }

    /// Reads a set and checks it.
    ///
    /// # Errors
    /// No such file, another format, bytes that changed since, or packed letters of another set.
    pub fn read(path: &Path) -> Result<Self> {
        let mut set: Self = files::read_checked(path, MAGIC)?;
        let expected = set.records.len();
        let got = match &mut set.letters {
            Letters::Held(letters) => letters.len(),
            Letters::Packed { sha256, genome } => {
                let place = packed(path);
                let found = PackedGenome::open(&place)?;
                if found.sha256() != *sha256 {
                    let reason = format!(
                        "got the letters of another set, expected those of {}; run locus prepare again",
                        path.display()
                    );
                    return Err(Error::Dataset { path: place, reason });
                }
                genome.insert(found).records().len()
            }
        };
        if got != expected {
            let reason = format!("got the letters of {got} records, expected {expected}");
            return Err(Error::Dataset { path: path.to_owned(), reason });
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(alphabet: Alphabet, sequences: &[&str]) -> SequenceSet {
        let mut set = SequenceSet::new(alphabet, vec!["a".into()]);
        for sequence in sequences {
            let record = SequenceRecord {
                name: "the same".into(),
                target: Target::Class(0),
                group: None,
                changed: None,
                split: Split::Train,
            };
            set.push(record, (*sequence).to_owned());
        }
        set
    }

    #[test]
    fn a_set_reads_back_letter_by_letter_and_bases_take_two_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dataset.bin");
        let long = "ACGT".repeat(10_000);
        for (alphabet, sequences) in [
            (Alphabet::Dna, vec!["ACGTNNRYT", "", "A", long.as_str()]),
            (Alphabet::Rna, vec!["ACGUUNNRY", "U"]),
            (Alphabet::AminoAcid, vec!["MKVX*", "U"]),
            (Alphabet::Smiles, vec!["C[C@H](N)C(=O)O"]),
        ] {
            let mut made = set(alphabet, &sequences);
            made.store(&path).unwrap();
            for set in [made, SequenceSet::read(&path).unwrap()] {
                for (i, expected) in sequences.iter().enumerate() {
                    assert_eq!(set.sequence(i).unwrap(), *expected);
                    assert_eq!(set.length(i), expected.len());
                }
                assert!(set.sequence(sequences.len()).is_err());
            }
            if alphabet == Alphabet::Dna {
                let size = |p: &Path| std::fs::metadata(p).unwrap().len();
                assert!(size(&path) < 500 && size(&packed(&path)) < 10_500);
            }
        }
    }

    #[test]
    fn letters_of_another_set_and_letters_that_are_gone_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.bin"), folder.path().join("other.bin"));
        set(Alphabet::Dna, &["ACGT"]).store(&one).unwrap();
        set(Alphabet::Dna, &["ACGA"]).store(&other).unwrap();
        std::fs::copy(packed(&other), packed(&one)).unwrap();
        let error = SequenceSet::read(&one).unwrap_err().to_string();
        assert!(error.contains("one.packed") && error.contains("locus prepare"), "{error}");
        std::fs::remove_file(packed(&one)).unwrap();
        assert!(SequenceSet::read(&one).unwrap_err().to_string().contains("one.packed"));
    }

    #[test]
    fn retain_keeps_letters_and_records_together() {
        let mut set = set(Alphabet::Dna, &["A", "ACG", "T", "ACGT"]);
        for (i, record) in set.records.iter_mut().enumerate() {
            record.name = i.to_string();
        }
        set.retain(|s| Ok(s.len() > 1)).unwrap();
        assert_eq!(set.records.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((set.sequence(0).unwrap(), set.sequence(1).unwrap()), ("ACG".into(), "ACGT".into()));
    }
}
