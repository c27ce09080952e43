//! Scores encoded variants: the one place that host, box and benchmarks call.

mod crew;
mod error;
mod golden;
mod memory;
mod model;
mod sequence;
#[cfg(test)]
mod tests;

use locus_firmware_config::manifest::{Manifest, Scope, Task};
use locus_firmware_config::message::Band;
use locus_firmware_config::profile::DeviceProfile;
use locus_genome::{EncodedVariant, Kind, ScopeReason, Tokenizer, VariantEncoder, feature_names};

use crate::batch::{Row, TokenBatch, group_by_bucket};
use crate::probability::{Verdict, judge};
use crate::select::Skipped;
use crate::session::{LoadOptions, Logits, Session, SessionSpec};
use crate::{Bundle, Error};

pub use error::ScoreError;
pub use golden::GoldenReport;
use model::Model;
pub use sequence::{SequenceScore, SequenceScorer};

/// The outcome for one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Raw outputs; empty when the model cannot read the variant.
    pub logits: Vec<f32>,
    /// Calibrated probability of the positive label; `None` when abstained.
    pub probability: Option<f64>,
    /// Where the probability lies; `Band::None` when abstained.
    pub band: Band,
    /// Whether no answer is given.
    pub abstained: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The prior that the probability assumes.
    pub prior: Option<f64>,
}

impl Score {
    fn new(logits: Vec<f32>, verdict: Verdict) -> Self {
        Self {
            logits,
            probability: verdict.probability,
            band: verdict.band,
            abstained: verdict.abstained.is_some(),
            reason: verdict.abstained,
            prior: verdict.prior,
        }
    }
}

/// A session with everything around it that turns variants into probabilities.
pub struct Scorer {
    model: Model,
    encoder: VariantEncoder,
}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scorer")
            .field("digest", &self.model.digest)
            .field("spec", self.spec())
            .finish_non_exhaustive()
    }
}

impl Scorer {
    /// Checks what is asked of a verified bundle before an engine is looked for: the features are those that this
    /// program computes, the golden vectors can be read.
    ///
    /// # Errors
    /// [`ScoreError`].
    pub fn check(bundle: &Bundle) -> Result<(), Error> {
        encoder_of(bundle)?;
        golden::read(bundle)?;
        Ok(())
    }

    /// The encoder of a bundle that is not opened.
    ///
    /// # Errors
    /// [`ScoreError`] for a bundle of another task, or whose features are not those that this program computes.
    pub fn encoder_of(bundle: &Bundle) -> Result<VariantEncoder, ScoreError> {
        encoder_of(bundle)
    }

    /// Opens a session for a verified bundle, by the order of `options` or else of `profile`.
    ///
    /// # Errors
    /// [`Error::NoEngine`] when no engine works; [`ScoreError`] when the bundle's features or golden vectors are
    /// not what this program can use.
    pub fn open(bundle: &Bundle, profile: &DeviceProfile, options: &LoadOptions) -> Result<Self, Error> {
        let encoder = encoder_of(bundle)?;
        Ok(Self { model: Model::open(bundle, profile, options)?, encoder })
    }

    /// Makes the rows that [`Scorer::score`] takes. Cheap to copy, for other threads.
    pub fn encoder(&self) -> &VariantEncoder {
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
    pub fn manifest(&self) -> &Manifest {
        &self.model.manifest
    }

    /// The bundle's digest.
    pub fn digest(&self) -> &str {
        &self.model.digest
    }

    /// As [`logits_of`], by this scorer's session.
    ///
    /// # Errors
    /// As [`logits_of`].
    pub fn logits(&mut self, rows: &[Row<'_>]) -> Result<Vec<Vec<f32>>, Error> {
        logits_of(&mut self.model.session, rows)
    }

    /// Runs one prepared batch, for callers that queue and pack themselves.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.model.session.run(batch, logits)
    }

    /// Proves that this device computes the logits that the bundle promises, each vector in its own bucket and
    /// once more in the longest one.
    ///
    /// # Errors
    /// [`ScoreError::GoldenDiffers`] with the first vector beyond its tolerance; session errors.
    pub fn golden_self_test(&mut self) -> Result<GoldenReport, Error> {
        self.model.golden_self_test()
    }

    /// Writes over what the engine's memory still holds of the rows since the last call, by blank runs of their
    /// shapes. For a time when nobody waits.
    ///
    /// # Errors
    /// As [`Session::run`]; the other shapes are written over all the same.
    pub fn write_over(&mut self) -> Result<(), Error> {
        self.model.session.write_over()
    }

    /// Scores variants in their order. What the model cannot read, or was not trained for, abstains with its
    /// reason; it never fails the others.
    ///
    /// # Errors
    /// [`Error`] when the session fails or gives a number that is not finite.
    pub fn score(&mut self, variants: &[EncodedVariant]) -> Result<Vec<Score>, Error> {
        let readable: Vec<usize> = (0..variants.len()).filter(|at| variants[*at].in_scope.is_ok()).collect();
        let rows: Vec<Row<'_>> = readable.iter().map(|at| Row::from(&variants[*at])).collect();
        let mut logits = vec![Vec::new(); variants.len()];
        for (at, row) in readable.iter().zip(self.logits(&rows)?) {
            logits[*at] = row;
        }
        variants.iter().zip(logits).map(|(variant, logits)| self.judge(variant, logits)).collect()
    }

    /// What the logits of one variant mean: scope, probability and band.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`] for a logit that is no number, or for none where there should be one.
    pub fn judge(&self, variant: &EncodedVariant, logits: Vec<f32>) -> Result<Score, Error> {
        if let Some(reason) = self.out_of_scope(variant) {
            return Ok(Score::new(logits, Verdict::abstain(reason, None)));
        }
        let logit = logits.first().copied().ok_or(ScoreError::NotFinite)?;
        let verdict = judge(&self.model.manifest.probability, variant.mode, variant.consequence, logit)?;
        Ok(Score::new(logits, verdict))
    }

    /// Why the model was not trained for this variant; `None` when it was.
    pub fn out_of_scope(&self, variant: &EncodedVariant) -> Option<String> {
        let scope = &self.model.manifest.scope;
        if let Err(reason) = variant.in_scope {
            return Some(format!("out of scope: {reason}"));
        }
        if !reads(scope, variant.kind) {
            return Some(match variant.kind {
                Kind::Snv => "out of scope: the model was not trained for single-base variants".into(),
                Kind::Indel => format!("out of scope: {}", ScopeReason::NotSnv),
            });
        }
        if !scope.modes.iter().any(|mode| mode == variant.mode.as_str()) {
            return Some(format!("out of scope: the model was not trained for input mode {}", variant.mode));
        }
        let bases = variant.window_bases;
        if bases < scope.min_bases as usize || bases > scope.max_bases as usize {
            let (min, max) = (scope.min_bases, scope.max_bases);
            return Some(format!("out of scope: {bases} bases around the variant, expected {min} to {max}"));
        }
        let (Some(allowed), Some(consequence)) = (&scope.consequences, &variant.consequence) else {
            return None;
        };
        let term = consequence.so_term();
        let trained = term.split('&').any(|term| allowed.iter().any(|allowed| allowed == term));
        (!trained).then(|| format!("out of scope: the model was not trained for {term}"))
    }
}

/// Logits of rows of any lengths, `[rows][labels]`, in their order; batched by bucket.
///
/// # Errors
/// [`Error`] when a row fits no bucket or the session fails.
pub fn logits_of(session: &mut dyn Session, rows: &[Row<'_>]) -> Result<Vec<Vec<f32>>, Error> {
    let (buckets, max_batch) = (session.spec().buckets.clone(), session.spec().max_batch as usize);
    let lengths: Vec<usize> = rows.iter().map(|row| row.ref_ids.len()).collect();
    let mut all = vec![Vec::new(); rows.len()];
    let mut logits = Logits::default();
    for group in group_by_bucket(&lengths, &buckets, max_batch)? {
        let picked: Vec<Row<'_>> = group.rows.iter().map(|row| rows[*row]).collect();
        session.run(&TokenBatch::pack_rows(&picked, group.bucket)?, &mut logits)?;
        for (at, row) in group.rows.iter().enumerate() {
            all[*row] = logits.row(at).to_vec();
        }
    }
    Ok(all)
}

const VARIANT_EFFECT: &str = "variant-effect";

/// The encoder of a variant-effect bundle, whose features are those that this program computes.
fn encoder_of(bundle: &Bundle) -> Result<VariantEncoder, ScoreError> {
    let manifest = bundle.manifest();
    let Tokenizer::Dna(tokenizer) = *bundle.tokenizer() else {
        return Err(ScoreError::Task { got: manifest.task, expected: VARIANT_EFFECT });
    };
    if manifest.task != Task::VariantEffect {
        return Err(ScoreError::Task { got: manifest.task, expected: VARIANT_EFFECT });
    }
    check_features(&manifest.graph.features)?;
    let encoder = VariantEncoder::new(tokenizer, manifest.tokenizer.window_kmers as usize);
    Ok(if reads(&manifest.scope, Kind::Indel) { encoder.with_indels() } else { encoder })
}

/// Whether a model was trained for changes of a kind.
fn reads(scope: &Scope, kind: Kind) -> bool {
    scope.kinds.iter().any(|one| one == kind.as_str())
}

fn check_features(got: &[String]) -> Result<(), ScoreError> {
    let expected = feature_names();
    if got == expected {
        return Ok(());
    }
    let first = (0..got.len().max(expected.len())).find(|at| got.get(*at) != expected.get(*at)).unwrap_or(0);
    let name = got.get(first).or_else(|| expected.get(first));
    let first = name.map(|name| name.chars().take(64).collect()).unwrap_or_default();
    Err(ScoreError::Features { got: got.len(), expected: expected.len(), first })
}
