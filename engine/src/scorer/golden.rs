//! Golden vectors: the proof, on the device itself, that it computes what the bundle promises.

use locus_firmware_config::manifest::{GoldenSequence, GoldenVector};
use serde::Serialize;

use super::{ScoreError, logits_of, model::Model};
use crate::batch::{Row, TokenBatch};
use crate::graphs::Inputs;
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

/// One golden vector: a row, and its logits.
pub(super) enum Expected {
    Pair(GoldenVector),
    Sequence(GoldenSequence),
}

impl Expected {
    fn row(&self) -> Row<'_> {
        match self {
            Self::Pair(v) => Row {
                ref_ids: &v.ref_ids,
                alt_ids: &v.alt_ids,
                ref_track: &v.track,
                alt_track: &v.track,
                features: &v.features,
            },
            Self::Sequence(v) => Row::sequence(&v.ids, &v.track),
        }
    }

    fn logits(&self, int8: bool) -> &[f32] {
        match (self, int8) {
            (Self::Pair(v), false) => &v.logits_fp32,
            (Self::Pair(v), true) => &v.logits_int8,
            (Self::Sequence(v), false) => &v.logits_fp32,
            (Self::Sequence(v), true) => &v.logits_int8,
        }
    }
}

impl Model {
    /// As [`super::Scorer::golden_self_test`].
    pub(super) fn golden_self_test(&mut self) -> Result<GoldenReport, Error> {
        let precision = self.session.spec().precision;
        let golden = &self.manifest.golden;
        let tolerance = if precision.is_int8() { golden.tolerance_int8 } else { golden.tolerance_fp32 };
        let mut report =
            GoldenReport { vectors: 0, largest_difference: 0.0, tolerance, precision, skipped: None };
        if precision == ActivePrecision::Fake {
            report.skipped = Some("the fake engine has no numbers to compare".into());
            return Ok(report);
        }
        for session in self.session.each() {
            compare(session, &self.golden, &mut report)?;
        }
        report.vectors = self.golden.len();
        Ok(report)
    }
}

fn compare(session: &mut dyn Session, vectors: &[Expected], report: &mut GoldenReport) -> Result<(), Error> {
    let rows: Vec<Row<'_>> = vectors.iter().map(Expected::row).collect();
    let longest = session.spec().buckets.last().map_or(0, |bucket| *bucket as usize);
    let own_bucket = logits_of(session, &rows)?;
    let mut padded = Logits::default();
    for (vector, (golden, got)) in vectors.iter().zip(own_bucket).enumerate() {
        let expected = golden.logits(report.precision.is_int8());
        session.run(&TokenBatch::pack_rows(&rows[vector..=vector], longest)?, &mut padded)?;
        for got in [got.as_slice(), padded.row(0)] {
            let difference = largest_difference(got, expected);
            if difference.is_nan() || difference > report.tolerance {
                let (tolerance, precision) = (report.tolerance, report.precision);
                return Err(ScoreError::GoldenDiffers { vector, difference, tolerance, precision }.into());
            }
            report.largest_difference = report.largest_difference.max(difference);
        }
    }
    Ok(())
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

pub(super) fn read(bundle: &Bundle) -> Result<Vec<Expected>, ScoreError> {
    let golden = &bundle.manifest().golden;
    let malformed = |detail: String| ScoreError::GoldenMalformed { detail };
    let bytes = bundle.part(&golden.part).ok_or_else(|| malformed("the part is not there".into()))?;
    let unreadable = |error: serde_json::Error| malformed(error.to_string());
    let vectors: Vec<Expected> = match Inputs::of(bundle.manifest().task) {
        Inputs::Pair => {
            let all: Vec<GoldenVector> = serde_json::from_slice(&bytes).map_err(unreadable)?;
            all.into_iter().map(Expected::Pair).collect()
        }
        Inputs::Sequence => {
            let all: Vec<GoldenSequence> = serde_json::from_slice(&bytes).map_err(unreadable)?;
            all.into_iter().map(Expected::Sequence).collect()
        }
    };
    if vectors.len() != golden.count as usize {
        let (got, expected) = (vectors.len(), golden.count);
        return Err(malformed(format!("{got} vectors, the manifest says {expected}")));
    }
    Ok(vectors)
}
