//! Scores whole sequences by a sequence bundle.

use locus_firmware_config::manifest::{Manifest, SequenceCalibration};
use locus_firmware_config::profile::DeviceProfile;
use locus_genome::{EncodedSequence, SequenceEncoder};

use super::{GoldenReport, Model, ScoreError, golden, logits_of};
use crate::batch::Row;
use crate::graphs::Inputs;
use crate::probability::softmax;
use crate::select::Skipped;
use crate::session::{LoadOptions, Session, SessionSpec};
use crate::{Bundle, Error};

/// The outcome for one sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceScore {
    /// Raw outputs; empty where the model cannot read the sequence.
    pub logits: Vec<f32>,
    /// Calibrated probability of each label, in their order; none of a regression, or where it abstains.
    pub probabilities: Vec<f64>,
    /// The predicted value of a regression.
    pub value: Option<f64>,
    /// Why no answer is given.
    pub abstained: Option<String>,
}

impl SequenceScore {
    /// Number and probability of the most probable label.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.probabilities.iter().copied().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a })
    }
}

/// A session with everything around it that turns sequences into answers.
pub struct SequenceScorer {
    model: Model,
    encoder: SequenceEncoder,
}

impl std::fmt::Debug for SequenceScorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SequenceScorer")
            .field("digest", &self.model.digest)
            .field("spec", self.spec())
            .finish_non_exhaustive()
    }
}

impl SequenceScorer {
    /// Checks what is asked of a verified bundle before an engine is looked for.
    ///
    /// # Errors
    /// [`ScoreError`] for a bundle of another task or whose golden vectors cannot be read.
    pub fn check(bundle: &Bundle) -> Result<(), Error> {
        encoder_of(bundle)?;
        golden::read(bundle)?;
        Ok(())
    }

    /// Opens a session for a verified bundle, by the order of `options` or else of `profile`.
    ///
    /// # Errors
    /// As [`super::Scorer::open`].
    pub fn open(bundle: &Bundle, profile: &DeviceProfile, options: &LoadOptions) -> Result<Self, Error> {
        let encoder = encoder_of(bundle)?;
        Ok(Self { model: Model::open(bundle, profile, options)?, encoder })
    }

    /// Makes the rows that [`SequenceScorer::score`] takes.
    pub const fn encoder(&self) -> &SequenceEncoder {
        &self.encoder
    }

    /// What runs.
    pub fn spec(&self) -> &SessionSpec {
        self.model.session.spec()
    }

    /// Engines that came first in the order and do not serve.
    pub fn skipped(&self) -> &[Skipped] {
        &self.model.skipped
    }

    /// The model's manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.model.manifest
    }

    /// The bundle's digest.
    pub fn digest(&self) -> &str {
        &self.model.digest
    }

    /// As [`super::Scorer::golden_self_test`].
    ///
    /// # Errors
    /// As there.
    pub fn golden_self_test(&mut self) -> Result<GoldenReport, Error> {
        self.model.golden_self_test()
    }

    /// As [`super::Scorer::write_over`].
    ///
    /// # Errors
    /// As there.
    pub fn write_over(&mut self) -> Result<(), Error> {
        self.model.session.write_over()
    }

    /// As [`logits_of`], by this scorer's session.
    ///
    /// # Errors
    /// As [`logits_of`].
    pub fn logits(&mut self, rows: &[Row<'_>]) -> Result<Vec<Vec<f32>>, Error> {
        logits_of(&mut self.model.session, rows)
    }

    /// Scores sequences in their order. What the model was not trained for abstains with its reason; it never fails
    /// the others, and no sequence is cut.
    ///
    /// # Errors
    /// [`Error`] when the session fails or gives a number that is not finite.
    pub fn score(&mut self, sequences: &[EncodedSequence]) -> Result<Vec<SequenceScore>, Error> {
        let reasons: Vec<Option<String>> = sequences.iter().map(|s| self.out_of_scope(s)).collect();
        let readable = || (0..sequences.len()).filter(|at| reasons[*at].is_none());
        let rows: Vec<Row<'_>> =
            readable().map(|at| Row::sequence(&sequences[at].ids, &sequences[at].track)).collect();
        let mut logits = logits_of(&mut self.model.session, &rows)?.into_iter();
        reasons
            .into_iter()
            .map(|reason| match reason {
                Some(_) => Ok(SequenceScore { abstained: reason, ..SequenceScore::default() }),
                None => self.judge(logits.next().unwrap_or_default()),
            })
            .collect()
    }

    /// What logits mean.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`] for one that is no number, or where they are not as many as the labels.
    pub fn judge(&self, logits: Vec<f32>) -> Result<SequenceScore, Error> {
        let manifest = &self.model.manifest;
        if logits.len() != manifest.labels.len() || logits.iter().any(|z| !z.is_finite()) {
            return Err(ScoreError::NotFinite.into());
        }
        let (probabilities, value) = match &manifest.probability.sequence {
            Some(SequenceCalibration::Classes { temperature, offsets, .. }) => {
                (softmax(&logits, *temperature, offsets), None)
            }
            Some(SequenceCalibration::Value { mean, deviation }) => {
                (Vec::new(), logits.first().map(|&z| mean + deviation * f64::from(z)))
            }
            _ => return Err(ScoreError::NotFinite.into()),
        };
        if probabilities.iter().copied().chain(value).any(|p| !p.is_finite()) {
            return Err(ScoreError::NotFinite.into());
        }
        Ok(SequenceScore { logits, probabilities, value, abstained: None })
    }

    /// Why the model was not trained for this sequence; `None` when it was.
    pub fn out_of_scope(&self, sequence: &EncodedSequence) -> Option<String> {
        let Manifest { scope, tokenizer, .. } = &self.model.manifest;
        let (letters, min, max) = (sequence.letters, scope.min_bases, scope.max_bases);
        if letters < min as usize || letters > max as usize {
            return Some(format!("out of scope: {letters} letters, expected {min} to {max}"));
        }
        let (tokens, most) = (sequence.ids.len().saturating_sub(2), tokenizer.window_kmers);
        if tokens == 0 || tokens > most as usize {
            return Some(format!("out of scope: {tokens} tokens, expected 1 to {most}"));
        }
        let percent = scope.max_ambiguous_percent.unwrap_or(100);
        if sequence.ambiguous * 100 > letters * percent as usize {
            let ambiguous = sequence.ambiguous;
            return Some(format!(
                "out of scope: {ambiguous} of {letters} letters are ambiguous, expected at most {percent} %"
            ));
        }
        None
    }
}

fn encoder_of(bundle: &Bundle) -> Result<SequenceEncoder, ScoreError> {
    let manifest = bundle.manifest();
    if Inputs::of(manifest.task) != Inputs::Sequence {
        return Err(ScoreError::Task { got: manifest.task, expected: "sequence" });
    }
    match &manifest.scope.wild_type {
        None => Ok(SequenceEncoder::new(*bundle.tokenizer(), manifest.tokenizer.frames.unwrap_or(1))),
        Some(wild_type) => SequenceEncoder::of_wild_type(*bundle.tokenizer(), wild_type)
            .map_err(|error| ScoreError::WildType { detail: error.to_string() }),
    }
}
