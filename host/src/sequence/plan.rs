//! `[data]` of a recipe whose records are sequences.

use std::path::PathBuf;

use locus_genome::Alphabet;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where sequences come from and what is done with them before training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// Folder of the files; the variable `LOCUS_DATA` wins over it.
    pub root: PathBuf,
    /// What the sequences are written in.
    pub alphabet: Alphabet,
    /// Files, read in this order.
    pub files: Vec<FilePlan>,
    /// What is to be predicted.
    pub target: TargetPlan,
    /// Column of the sequence, in tables.
    #[serde(default = "sequence_column")]
    pub sequence: String,
    /// Column of the name, in tables; without it records are named by their row.
    #[serde(default)]
    pub name: Option<String>,
    /// What must not be torn apart between splits: a gene, a chromosome, a position.
    #[serde(default)]
    pub group: Option<Field>,
    /// Protein or transcript whose substitutions (`H24C`) the column of the sequence holds; the group is then the
    /// position.
    #[serde(default)]
    pub wild_type: Option<String>,
    /// Whether T in RNA is read as U.
    #[serde(default)]
    pub t_is_u: bool,
    /// Which records are good enough.
    #[serde(default)]
    pub filter: FilterPlan,
    /// How much of the k-mers of the smaller of two records the other may hold before one of them is left out of
    /// training; without it only exact duplicates are.
    #[serde(default)]
    pub near_duplicates: Option<f64>,
    /// Who may see which record.
    #[serde(default)]
    pub split: SplitPlan,
    /// Keep one record in so many, for trials.
    #[serde(default = "one")]
    pub keep_one_in: usize,
}

/// One file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlan {
    /// FASTA (`.fa`, `.fasta`, `.fna`, `.faa`), CSV or TSV (`.csv`, `.tsv`), plain or with `.gz`; below the root.
    pub path: PathBuf,
    /// Split of all its records: train, val or test.
    #[serde(default)]
    pub split: Option<String>,
}

/// A value of a record: a column of a table; in FASTA `name`, `word` (the first word after the name), or the key of a
/// `key=value` after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Column or key.
    pub field: String,
    /// Only what stands before the first of these characters.
    #[serde(default)]
    pub until: Option<char>,
}

impl Field {
    /// The part of a value that counts.
    pub fn of<'a>(&self, value: &'a str) -> &'a str {
        self.until.and_then(|c| value.split_once(c)).map_or(value, |(before, _)| before).trim()
    }
}

/// What is to be predicted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPlan {
    /// Column or key.
    pub field: String,
    /// Only what stands before the first of these characters.
    #[serde(default)]
    pub until: Option<char>,
    /// Classes or values.
    #[serde(default)]
    pub kind: TargetKind,
    /// The classes in the order of the model's labels, of two the positive one last; else in the order of the alphabet.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Whether records without target are left out instead of being an error.
    #[serde(default)]
    pub optional: bool,
}

/// Kind of target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// One of several classes.
    #[default]
    Class,
    /// A real number.
    Value,
}

/// Which records are good enough. Lengths are bases, residues, or the tokens of SMILES.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterPlan {
    /// Shortest.
    pub min_length: usize,
    /// Longest.
    pub max_length: usize,
    /// Largest share of N, or of X in proteins.
    pub max_unknown: f64,
    /// Largest share of the other ambiguity codes.
    pub max_ambiguous: f64,
}

impl Default for FilterPlan {
    fn default() -> Self {
        Self { min_length: 1, max_length: 50_000, max_unknown: 0.1, max_ambiguous: 0.1 }
    }
}

/// Who may see which record. What a file or a column says is never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitPlan {
    /// Column or key that says train, val or test.
    pub field: Option<Field>,
    /// How the records of which nothing is said are split.
    pub by: SplitBy,
    /// Shares of train, val and test among them.
    pub shares: [f64; 3],
    /// Share of the records that are said to be of train which is used for validation, drawn by the same rule.
    pub validation_from_train: f64,
    /// Whether validation is halved: one half chooses checkpoints, the other fits probabilities. Of a small set both
    /// see all of it.
    pub halve_validation: bool,
    /// Seed of the draw, apart from the training's: runs of several seeds see the same splits.
    pub seed: u64,
}

impl Default for SplitPlan {
    fn default() -> Self {
        Self {
            field: None,
            by: SplitBy::Said,
            shares: [0.8, 0.1, 0.1],
            validation_from_train: 0.0,
            halve_validation: true,
            seed: 1,
        }
    }
}

/// A rule of splitting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Every record's split is said.
    #[default]
    Said,
    /// At random, each class alike.
    Random,
    /// Whole groups.
    Group,
    /// Whole Bemis-Murcko scaffolds (1996), the largest to train first, as MoleculeNet does.
    Scaffold,
}

fn sequence_column() -> String {
    "sequence".into()
}

const fn one() -> usize {
    1
}

impl SetPlan {
    /// # Errors
    /// A value that cannot be.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, got: String, expected: &str| {
            Err(Error::Recipe { key: format!("data.{key}"), got, expected: expected.into() })
        };
        let share = |v: f64| (0.0..=1.0).contains(&v);
        if self.files.is_empty() {
            return wrong("files", "none".into(), "at least one file");
        }
        if let Some(near) = self.near_duplicates
            && !(near > 0.0 && near <= 1.0)
        {
            return wrong("near_duplicates", near.to_string(), "a share above 0 and up to 1");
        }
        if self.near_duplicates.is_some() && self.alphabet == Alphabet::Smiles {
            return wrong(
                "near_duplicates",
                "a share".into(),
                "none: of molecules only the same graph is a duplicate",
            );
        }
        let filter = &self.filter;
        if filter.min_length > filter.max_length || filter.max_length == 0 {
            let got = format!("{} to {}", filter.min_length, filter.max_length);
            return wrong("filter", got, "min_length up to max_length, above 0");
        }
        if !share(filter.max_unknown) || !share(filter.max_ambiguous) {
            let got = format!("{} and {}", filter.max_unknown, filter.max_ambiguous);
            return wrong("filter", got, "shares from 0 to 1");
        }
        let split = &self.split;
        let sum: f64 = split.shares.iter().sum();
        if !split.shares.iter().all(|&s| share(s)) || (sum - 1.0).abs() > 1e-6 {
            return wrong("split.shares", format!("{:?}", split.shares), "three shares that make 1");
        }
        if !(0.0..1.0).contains(&split.validation_from_train) {
            return wrong(
                "split.validation_from_train",
                split.validation_from_train.to_string(),
                "0 or more, below 1",
            );
        }
        if split.validation_from_train > 0.0 && split.by == SplitBy::Said {
            return wrong(
                "split.by",
                "said".into(),
                "random, group or scaffold, where validation is drawn from train",
            );
        }
        if split.by == SplitBy::Scaffold && self.alphabet != Alphabet::Smiles {
            return wrong("split.by", "scaffold".into(), "random or group; only molecules have scaffolds");
        }
        if split.by == SplitBy::Group && self.group.is_none() && self.wild_type.is_none() {
            return wrong("split.by", "group".into(), "a field data.group that names the group");
        }
        if self.target.kind == TargetKind::Value && !self.target.classes.is_empty() {
            return wrong("target.classes", format!("{:?}", self.target.classes), "none beside values");
        }
        if self.keep_one_in == 0 {
            return wrong("keep_one_in", "0".into(), "1 or more");
        }
        Ok(())
    }
}
