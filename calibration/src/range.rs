//! What values an activation takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{QuantError, QuantParams};

/// Smallest and largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest.
    pub min: f32,
    /// Largest.
    pub max: f32,
}

impl Range {
    /// Scale that covers the range from -127 to 127.
    ///
    /// # Errors
    /// A bound that is not finite, or a maximum below the minimum.
    pub fn params(self) -> Result<QuantParams, QuantError> {
        if !self.min.is_finite() || !self.max.is_finite() || self.max < self.min {
            return Err(QuantError::Range { min: self.min, max: self.max });
        }
        QuantParams::covering(self.min.abs().max(self.max.abs()))
    }
}

/// The range of everything seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinMax {
    range: Option<Range>,
}

impl MinMax {
    /// Takes values in.
    ///
    /// # Errors
    /// A value that is not finite: a range over it would hide a broken model.
    pub fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        for &v in values {
            if !v.is_finite() {
                return Err(QuantError::NotFinite { value: v });
            }
            let r = self.range.get_or_insert(Range { min: v, max: v });
            r.min = r.min.min(v);
            r.max = r.max.max(v);
        }
        Ok(())
    }

    /// The range, once something was seen.
    pub const fn range(&self) -> Option<Range> {
        self.range
    }
}

/// Ranges by activation name, and how they were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationTable {
    /// How ranges were chosen, as [`Method`](crate::Method) writes it.
    pub method: String,
    /// Records that were run.
    pub samples: u64,
    /// Range of each activation.
    pub ranges: BTreeMap<String, Range>,
    /// Strength of the scale migration that these ranges were seen after; 0 without.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub migration: f32,
    /// Largest absolute value of each channel before the migration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, Vec<f32>>,
    /// Layers that stay in float.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub float: BTreeSet<String>,
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}
