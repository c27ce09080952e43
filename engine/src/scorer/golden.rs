//! Golden vectors: the proof, on the device itself, that it computes what the bundle promises.

use locus_firmware_config::manifest::GoldenVector;
use serde::Serialize;

use super::{ScoreError, Scorer};
use crate::batch::{Row, TokenBatch};
use crate::session::{ActivePrecision, Logits, Session};
use crate::{Bundle, Error};

/// What the golden self-test found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GoldenReport {
    /// Vectors compared.
    pub vectors: usize,
    /// Largest difference of a logit.
    pub largest_difference: f64,
    /// The bundle's tolerance for this precision.
    pub tolerance: f64,
    /// The precision in use.
    pub precision: ActivePrecision,
    /// Why nothing was compared; a report with a reason here is a skip, not a pass.
    pub skipped: Option<String>,
}

impl Scorer {
    /// Proves that this device computes the logits that the bundle promises, each vector in its own bucket and
    /// once more in the longest one.
    ///
    /// # Errors
    /// [`ScoreError::GoldenDiffers`] with the first vector beyond its tolerance; session errors.
    pub fn golden_self_test(&mut self) -> Result<GoldenReport, Error> {
        let precision = self.spec().precision;
        let golden = &self.manifest.golden;
        let tolerance = if precision.is_int8() { golden.tolerance_int8 } else { golden.tolerance_fp32 };
        let mut report =
            GoldenReport { vectors: 0, largest_difference: 0.0, tolerance, precision, skipped: None };
        if precision == ActivePrecision::Fake {
            report.skipped = Some("the fake engine has no numbers to compare".into());
            return Ok(report);
        }
        let vectors = std::mem::take(&mut self.golden);
        let outcome = self.compare_golden(&vectors, &mut report);
        self.golden = vectors;
        outcome.map(|()| report)
    }

    fn compare_golden(&mut self, vectors: &[GoldenVector], report: &mut GoldenReport) -> Result<(), Error> {
        let rows: Vec<Row<'_>> = vectors.iter().map(golden_row).collect();
        let longest = self.spec().buckets.last().map_or(0, |bucket| *bucket as usize);
        let own_bucket = self.logits(&rows)?;
        let mut padded = Logits::default();
        for (vector, (golden, got)) in vectors.iter().zip(own_bucket).enumerate() {
            let int8 = report.precision.is_int8();
            let expected = if int8 { &golden.logits_int8 } else { &golden.logits_fp32 };
            self.session.run(&TokenBatch::pack_rows(&rows[vector..=vector], longest)?, &mut padded)?;
            for got in [got.as_slice(), padded.row(0)] {
                let difference = largest_difference(got, expected);
                if difference.is_nan() || difference > report.tolerance {
                    let (tolerance, precision) = (report.tolerance, report.precision);
                    return Err(ScoreError::GoldenDiffers { vector, difference, tolerance, precision }.into());
                }
                report.largest_difference = report.largest_difference.max(difference);
            }
            report.vectors += 1;
        }
        Ok(())
    }
}

fn golden_row(vector: &GoldenVector) -> Row<'_> {
    Row {
        ref_ids: &vector.ref_ids,
        alt_ids: &vector.alt_ids,
        ref_track: &vector.track,
        alt_track: &vector.track,
        features: &vector.features,
    }
}

/// Infinite when the lengths differ.
fn largest_difference(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() || got.is_empty() {
        return f64::INFINITY;
    }
    let differences = got.iter().zip(expected).map(|(got, expected)| f64::from((got - expected).abs()));
    differences
        .fold(0.0, |most, difference| if difference <= most || f64::is_nan(most) { most } else { difference })
}

pub(super) fn read(bundle: &Bundle) -> Result<Vec<GoldenVector>, ScoreError> {
    let golden = &bundle.manifest().golden;
    let malformed = |detail: String| ScoreError::GoldenMalformed { detail };
    let bytes = bundle.part(&golden.part).ok_or_else(|| malformed("the part is not there".into()))?;
    let vectors: Vec<GoldenVector> =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if vectors.len() != golden.count as usize {
        let (got, expected) = (vectors.len(), golden.count);
        return Err(malformed(format!("{got} vectors, the manifest says {expected}")));
    }
    Ok(vectors)
}
