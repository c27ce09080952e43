//! A model in memory, whatever it reads: variants or whole sequences.

use locus_engine::{
    Bundle, Error, GoldenReport, LoadOptions, Score, Scorer, SequenceScore, SequenceScorer, SessionSpec,
    Skipped, batch::Row,
};
use locus_firmware_config::{
    manifest::{Manifest, Task},
    profile::DeviceProfile,
};
use locus_genome::{
    EncodedVariant, VariantEncoder,
    sequence::{EncodedSequence, SequenceEncoder},
};

/// A model with its session.
#[derive(Debug)]
pub enum Loaded {
    /// Judges variants.
    Variant(Box<Scorer>),
    /// Judges whole sequences.
    Sequence(Box<SequenceScorer>),
}

/// Makes the input of a model.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Variant(VariantEncoder),
    Sequence(SequenceEncoder),
}

/// What a model reads.
#[derive(Debug)]
pub(super) enum Encoded {
    Variant(Box<EncodedVariant>),
    Sequence(EncodedSequence),
    /// Stands in a job while its rows are in the batch.
    Taken,
}

/// What a model says.
#[derive(Debug)]
pub(super) enum Scored {
    Variant(Score),
    Sequence(SequenceScore),
}

impl Loaded {
    /// Opens a session for a verified bundle, by the order of `options` or else of `profile`.
    ///
    /// # Errors
    /// As [`Scorer::open`].
    pub fn open(bundle: &Bundle, profile: &DeviceProfile, options: &LoadOptions) -> Result<Self, Error> {
        Ok(match bundle.manifest().task {
            Task::VariantEffect => Self::Variant(Box::new(Scorer::open(bundle, profile, options)?)),
            _ => Self::Sequence(Box::new(SequenceScorer::open(bundle, profile, options)?)),
        })
    }

    /// What runs.
    pub fn spec(&self) -> &SessionSpec {
        match self {
            Self::Variant(scorer) => scorer.spec(),
            Self::Sequence(scorer) => scorer.spec(),
        }
    }

    /// Engines that came first in the order and do not serve.
    pub fn skipped(&self) -> &[Skipped] {
        match self {
            Self::Variant(scorer) => scorer.skipped(),
            Self::Sequence(scorer) => scorer.skipped(),
        }
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Variant(scorer) => scorer.manifest(),
            Self::Sequence(scorer) => scorer.manifest(),
        }
    }

    /// The bundle's digest.
    pub fn digest(&self) -> &str {
        match self {
            Self::Variant(scorer) => scorer.digest(),
            Self::Sequence(scorer) => scorer.digest(),
        }
    }

    /// Compares the golden vectors.
    ///
    /// # Errors
    /// As [`Scorer::golden_self_test`].
    pub fn golden_self_test(&mut self) -> Result<GoldenReport, Error> {
        match self {
            Self::Variant(scorer) => scorer.golden_self_test(),
            Self::Sequence(scorer) => scorer.golden_self_test(),
        }
    }

    pub(super) fn write_over(&mut self) -> Result<(), Error> {
        match self {
            Self::Variant(scorer) => scorer.write_over(),
            Self::Sequence(scorer) => scorer.write_over(),
        }
    }

    pub(super) fn reader(&self) -> Reader {
        match self {
            Self::Variant(scorer) => Reader::Variant(*scorer.encoder()),
            Self::Sequence(scorer) => Reader::Sequence(scorer.encoder().clone()),
        }
    }

    /// Scores rows that this model's reader made, in their order; gives them back. A row that fails does not fail the
    /// others: after an error each is run by itself.
    pub(super) fn score(&mut self, encoded: Vec<Encoded>) -> (Vec<Encoded>, Vec<Result<Scored, Error>>) {
        match self {
            Self::Variant(scorer) => {
                let rows: Vec<EncodedVariant> = encoded
                    .into_iter()
                    .filter_map(|row| if let Encoded::Variant(row) = row { Some(*row) } else { None })
                    .collect();
                let scores = each(&rows, |rows| scorer.score(rows), Scored::Variant);
                (rows.into_iter().map(|row| Encoded::Variant(Box::new(row))).collect(), scores)
            }
            Self::Sequence(scorer) => {
                let rows: Vec<EncodedSequence> = encoded
                    .into_iter()
                    .filter_map(|row| if let Encoded::Sequence(row) = row { Some(row) } else { None })
                    .collect();
                let scores = each(&rows, |rows| scorer.score(rows), Scored::Sequence);
                (rows.into_iter().map(Encoded::Sequence).collect(), scores)
            }
        }
    }
}

impl Loaded {
    /// First logits of rows that this model's reader made; `None` of a sequence model.
    pub(super) fn logits(&mut self, rows: &[EncodedVariant]) -> Option<Result<Vec<f32>, Error>> {
        let Self::Variant(scorer) = self else { return None };
        let rows: Vec<Row<'_>> = rows.iter().map(Row::from).collect();
        let first = |logits: Vec<Vec<f32>>| logits.iter().filter_map(|row| row.first().copied()).collect();
        Some(scorer.logits(&rows).map(first))
    }
}

fn each<R, S>(
    rows: &[R],
    mut score: impl FnMut(&[R]) -> Result<Vec<S>, Error>,
    scored: impl Fn(S) -> Scored,
) -> Vec<Result<Scored, Error>> {
    match score(rows) {
        Ok(scores) => scores.into_iter().map(|score| Ok(scored(score))).collect(),
        Err(error) if rows.len() == 1 => vec![Err(error)],
        Err(_) => rows
            .iter()
            .map(|one| {
                let mut scores = score(std::slice::from_ref(one))?;
                Ok(scored(scores.swap_remove(0)))
            })
            .collect(),
    }
}
