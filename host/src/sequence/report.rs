//! What `locus prepare` says of a set of sequences.

use locus_genome::{Alphabet, Tokenizer, tokenizer::SmilesTokenizer};
use rayon::prelude::*;

use super::{
    SequenceSet, Target,
    duplicates::{self, Index},
    filter::uncertain,
};
use crate::{
    Result,
    data::describe::{Item, Label, SetReport, by_split, gc, leakage},
};

/// Containment that counts as near, where the recipe names none.
const NEAR: f64 = 0.8;

/// Figures of a set; the items are what its page is drawn from. `near` is the recipe's `data.near_duplicates`.
///
/// # Errors
/// Letters that cannot be read, or what `then` gives.
pub fn describe<T>(
    name: &str,
    set: &SequenceSet,
    near: Option<f64>,
    then: impl FnOnce(&SetReport, &[Item<'_>]) -> Result<T>,
) -> Result<T> {
    let records = &set.records;
    let key = |i| Ok(duplicates::key(set.alphabet, &set.sequence(i)?));
    let keys = (0..records.len()).into_par_iter().map(key).collect::<Result<Vec<String>>>()?;
    let items = records
        .iter()
        .zip(&keys)
        .enumerate()
        .map(|(i, (record, key))| {
            let sequence = set.sequence(i)?;
            let length = length(set.alphabet, &sequence);
            let (unknown, ambiguous) = uncertain(set.alphabet, &sequence);
            Ok(Item {
                split: record.split,
                label: match record.target {
                    Target::Class(class) => Label::Class(&set.classes[usize::from(class)]),
                    Target::Value(value) => Label::Value(f64::from(value)),
                },
                length,
                gc: matches!(set.alphabet, Alphabet::Dna | Alphabet::Rna).then(|| gc(&sequence)).flatten(),
                uncertain: (unknown + ambiguous) as f64 / length.max(1) as f64,
                group: record.group.as_deref(),
                key,
            })
        })
        .collect::<Result<Vec<Item<'_>>>>()?;
    let bound = near.unwrap_or(NEAR);
    let kmers = set.alphabet != Alphabet::Smiles && set.wild_type.is_none();
    // Every one was read for its key.
    let letters = |i: usize| set.sequence(i).unwrap_or_default();
    let count = |of: &[usize], within: &[usize]| {
        let known: std::collections::HashSet<&str> = within.iter().map(|&i| keys[i].as_str()).collect();
        let mut index = Index::new(set.alphabet, bound);
        if kmers {
            within.iter().for_each(|&i| index.add(letters(i)));
        }
        let near =
            |&&i: &&usize| known.contains(keys[i].as_str()) || kmers && index.find(&letters(i)).is_some();
        of.par_iter().filter(near).count() as u64
    };
    let report = SetReport {
        name: name.to_owned(),
        kind: format!("sequences of the alphabet {}", set.alphabet.as_str()),
        sources: set.sources.clone(),
        left_out: set.left_out.clone(),
        splits: by_split(&items),
        leakage: leakage(&items, count),
        near_means: if kmers {
            format!("a record that shares {:.0} % of the k-mers of the smaller of both", 100.0 * bound)
        } else {
            "the same record alone in this set".into()
        },
    };
    then(&report, &items)
}

/// Bases, residues or tokens.
fn length(alphabet: Alphabet, sequence: &str) -> usize {
    match alphabet {
        Alphabet::Smiles => Tokenizer::Smiles(SmilesTokenizer).encode(sequence).map_or(0, |ids| ids.len()),
        _ => sequence.len(),
    }
}
