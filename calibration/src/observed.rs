//! Everything that is kept of an activation while training records run.

use serde::{Deserialize, Serialize};

use crate::{Histogram, MinMax, QuantError};

/// Share of the running mean that a further batch leaves.
const KEPT: f32 = 0.9;

/// What was seen of one activation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    min_max: MinMax,
    moving: Option<f32>,
    histogram: Histogram,
    channels: Vec<f32>,
}

impl Observed {
    /// Takes a batch in: rows of `channels` values, one after the other.
    ///
    /// # Errors
    /// A value that is not finite, rows that are not whole, or other channels than before.
    pub fn observe(&mut self, values: &[f32], channels: usize) -> Result<(), QuantError> {
        let other = !self.channels.is_empty() && self.channels.len() != channels;
        if channels == 0 || other || !values.len().is_multiple_of(channels) {
            let channels = if other { self.channels.len() } else { channels };
            return Err(QuantError::Shape { values: values.len(), channels });
        }
        // First what takes nothing of a batch that it refuses.
        self.histogram.observe(values)?;
        self.min_max.observe(values)?;
        self.channels.resize(channels, 0.0);
        for row in values.chunks_exact(channels) {
            self.channels.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs()));
        }
        if !values.is_empty() {
            let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            self.moving = Some(self.moving.map_or(largest, |mean| KEPT * mean + (1.0 - KEPT) * largest));
        }
        Ok(())
    }

    /// Smallest and largest value.
    pub const fn min_max(&self) -> &MinMax {
        &self.min_max
    }

    /// Running mean of each batch's largest absolute value.
    pub const fn moving_average(&self) -> Option<f32> {
        self.moving
    }

    /// Absolute values.
    pub const fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// Largest absolute value of each channel.
    pub fn channels(&self) -> &[f32] {
        &self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_their_own_largest_values() {
        let mut seen = Observed::default();
        seen.observe(&[1.0, -5.0, 3.0, 2.0], 2).unwrap();
        seen.observe(&[-4.0, 1.0], 2).unwrap();
        assert_eq!(seen.channels(), [4.0, 5.0]);
        assert_eq!(seen.moving_average(), Some(0.9 * 5.0 + (1.0 - 0.9) * 4.0));
        assert_eq!(seen.histogram().total(), 6);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_and_change_nothing() {
        let mut seen = Observed::default();
        seen.observe(&[1.0, 2.0], 2).unwrap();
        let before = seen.clone();
        assert!(seen.observe(&[1.0, 2.0, 3.0], 3).is_err());
        assert!(seen.observe(&[1.0, 2.0, 3.0], 2).is_err());
        assert!(seen.observe(&[1.0], 0).is_err());
        assert_eq!(seen, before);
    }
}
