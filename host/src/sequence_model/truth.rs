//! What is to be said of records, and what was.

use locus_engine::probability::softmax;
use locus_firmware_config::manifest::SequenceCalibration;

use crate::sequence::{SequenceSet, Target};

/// The targets of some records.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// Class of each.
    Classes(Vec<usize>),
    /// Value of each.
    Values(Vec<f64>),
}

impl Truth {
    /// The targets of the named records of a set.
    pub fn of(set: &SequenceSet, records: &[usize]) -> Self {
        let targets = || records.iter().map(|&i| set.records[i].target);
        if set.classes.is_empty() {
            Self::Values(
                targets().map(|t| if let Target::Value(v) = t { f64::from(v) } else { f64::NAN }).collect(),
            )
        } else {
            Self::Classes(targets().map(|t| if let Target::Class(c) = t { c.into() } else { 0 }).collect())
        }
    }

    /// Records.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(c) => c.len(),
            Self::Values(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those at the given places.
    #[must_use]
    pub fn at(&self, places: &[usize]) -> Self {
        match self {
            Self::Classes(c) => Self::Classes(places.iter().map(|&i| c[i]).collect()),
            Self::Values(v) => Self::Values(places.iter().map(|&i| v[i]).collect()),
        }
    }
}

/// What calibrated logits say of each record: probabilities of the classes, or the one value.
pub fn predicted(logits: &[Vec<f32>], calibration: &SequenceCalibration) -> Vec<Vec<f64>> {
    let one = |z: &Vec<f32>| match calibration {
        SequenceCalibration::Classes { temperature, offsets, .. } => softmax(z, *temperature, offsets),
        SequenceCalibration::Value { mean, deviation } => {
            z.first().map(|&z| mean + deviation * f64::from(z)).into_iter().collect()
        }
        _ => Vec::new(),
    };
    logits.iter().map(one).collect()
}
