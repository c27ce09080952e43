//! One file → candidates: records that are readable and good enough.

use std::{collections::BTreeMap, path::Path};

use locus_genome::{ReadError, smiles::Molecule};

use super::super::{
    SequenceRecord, SetPlan, Target,
    filter::{Fault, Reader},
    plan::{FilePlan, SplitBy},
    read::{self, Row},
    scaffold::scaffold,
    split::Part,
};
use crate::{Error, Result, data::Split};

/// A record on its way, with the target as written and the part that a file or column says.
pub(super) struct Candidate {
    pub(super) record: SequenceRecord,
    pub(super) sequence: String,
    pub(super) label: String,
    pub(super) said: Option<Part>,
}

/// What reads one file.
pub(super) struct Intake<'a> {
    plan: &'a SetPlan,
    path: &'a Path,
    reader: Reader,
    wild_type: Option<String>,
}

impl<'a> Intake<'a> {
    /// Reads `path` by `plan`.
    ///
    /// # Errors
    /// A wild type that is not of the alphabet.
    pub(super) fn new(plan: &'a SetPlan, path: &'a Path) -> Result<Self> {
        let reader = Reader::new(plan.alphabet, plan.t_is_u);
        let wild_type = plan.wild_type.as_deref().map(|text| {
            reader.read(text).map(|(text, _)| text).map_err(|fault| Error::Recipe {
                key: "data.wild_type".into(),
                got: format!("{fault:?}"),
                expected: "a sequence of data.alphabet".into(),
            })
        });
        Ok(Self { plan, path, reader, wild_type: wild_type.transpose()? })
    }

    fn wrong(&self, row: &Row, reason: String) -> Error {
        ReadError::Line { path: self.path.to_owned(), line: row.line, reason }.into()
    }

    /// Every usable record, in order; counts the others by reason.
    ///
    /// # Errors
    /// As [`super::prepare`].
    pub(super) fn read(
        &self,
        file: &FilePlan,
        left_out: &mut BTreeMap<String, u64>,
    ) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        let (mut rows, mut unreadable, mut first) = (0_u64, 0_u64, None);
        read::read(self.plan, file, self.path, |row| {
            rows += 1;
            if !(rows - 1).is_multiple_of(self.plan.keep_one_in as u64) {
                return Ok(());
            }
            match self.candidate(&row)? {
                Ok(candidate) => candidates.push(candidate),
                Err(fault) => {
                    let reason = match fault {
                        Fault::Poor(reason) => reason,
                        Fault::Unreadable(e) => {
                            unreadable += 1;
                            first.get_or_insert_with(|| {
                                self.wrong(&row, format!("record {:?}: {e}", row.name))
                            });
                            "not of the alphabet"
                        }
                    };
                    *left_out.entry(reason.to_owned()).or_default() += 1;
                }
            }
            Ok(())
        })?;
        // A few broken records are left out; a file of another alphabet is a mistake.
        match first {
            Some(error) if 2 * unreadable > rows / self.plan.keep_one_in as u64 => Err(error),
            _ => Ok(candidates),
        }
    }

    fn candidate(&self, row: &Row) -> Result<Result<Candidate, Fault>> {
        if row.target.is_empty() {
            if self.plan.target.optional {
                return Ok(Err(Fault::Poor("no target")));
            }
            let reason = format!(
                "record {:?} has no {}, expected a target; give it one, or set data.target.optional",
                row.name, self.plan.target.field
            );
            return Err(self.wrong(row, reason));
        }
        let said = row.split.as_deref().map(|text| {
            Part::parse(text)
                .ok_or_else(|| self.wrong(row, format!("got split {text:?}, expected train, val or test")))
        });
        let (sequence, length, changed) = match &self.wild_type {
            Some(wild_type) => {
                let (sequence, offset) = self.mutated(row, wild_type)?;
                (sequence, wild_type.len(), Some(offset))
            }
            None => match self.reader.read(&row.sequence) {
                Ok((sequence, length)) => (sequence, length, None),
                Err(fault) => return Ok(Err(fault)),
            },
        };
        if let Err(fault) = self.reader.check(&self.plan.filter, &sequence, length) {
            return Ok(Err(fault));
        }
        let group = match (self.plan.split.by, changed) {
            (SplitBy::Scaffold, _) => {
                // A molecule too large for one writing is a group of its own.
                let molecule = Molecule::parse(&sequence).ok();
                Some(molecule.as_ref().and_then(scaffold).unwrap_or_else(|| sequence.clone()))
            }
            (_, Some(offset)) => Some((offset + 1).to_string()),
            _ => row.group.clone(),
        };
        let target = Target::Value(0.0);
        let record = SequenceRecord { name: row.name.clone(), target, group, changed, split: Split::Train };
        Ok(Ok(Candidate { record, sequence, label: row.target.clone(), said: said.transpose()? }))
    }

    /// The wild type with the substitution that stands in the place of a sequence.
    fn mutated(&self, row: &Row, wild_type: &str) -> Result<(String, usize)> {
        let text = row.sequence.as_str();
        let bad = || {
            let expected = "expected a substitution of the wild type, such as H24C, positions from 1";
            self.wrong(row, format!("record {:?}: got {text:.12?}, {expected}", row.name))
        };
        let letters = text.as_bytes();
        let (&from, rest) = letters.split_first().ok_or_else(bad)?;
        let (&to, position) = rest.split_last().ok_or_else(bad)?;
        let position: usize =
            std::str::from_utf8(position).ok().and_then(|p| p.parse().ok()).ok_or_else(bad)?;
        let offset = position.checked_sub(1).ok_or_else(bad)?;
        if wild_type.as_bytes().get(offset) != Some(&from) || !to.is_ascii() {
            return Err(bad());
        }
        let mut sequence = wild_type.to_owned();
        sequence.replace_range(offset..=offset, char::from(to).encode_utf8(&mut [0; 4]));
        Ok((self.reader.read(&sequence).map_err(|_| bad())?.0, offset))
    }
}
