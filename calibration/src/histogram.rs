//! How often an activation has which size.

use serde::{Deserialize, Serialize};

use crate::QuantError;

/// Bins of a histogram: fine enough that a bin is an eighth of a step of 8 bits.
pub const BINS: usize = 2_048;

/// Counts of absolute values in [`BINS`] bins of equal width from 0. Where a larger value comes, the width doubles and
/// neighbours are merged, so that the first batch does not decide what can be seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Upper bound of the last bin; 0 while only zeros were seen.
    top: f32,
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { top: 0.0, counts: vec![0; BINS] }
    }
}

impl Histogram {
    /// Takes values in.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(QuantError::NotFinite { value });
        }
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        self.reach(largest);
        let per = if self.top > 0.0 { BINS as f64 / f64::from(self.top) } else { 0.0 };
        for value in values {
            let bin = (f64::from(value.abs()) * per) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
        Ok(())
    }

    /// Makes the bins wide enough.
    fn reach(&mut self, largest: f32) {
        if largest <= self.top {
            return;
        }
        if self.top == 0.0 {
            // What was seen before is zeros, which lie in the first bin of any width.
            self.top = largest;
            return;
        }
        while self.top < largest && self.top < f32::MAX / 2.0 {
            for bin in 0..BINS / 2 {
                self.counts[bin] = self.counts[2 * bin] + self.counts[2 * bin + 1];
            }
            self.counts[BINS / 2..].fill(0);
            self.top *= 2.0;
        }
        self.top = self.top.max(largest);
    }

    /// Values that were seen.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bound of the last bin.
    pub const fn top(&self) -> f32 {
        self.top
    }

    /// Counts, from 0 upwards.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Upper bound of the first `bins` bins.
    pub fn bound(&self, bins: usize) -> f32 {
        (f64::from(self.top) * bins as f64 / BINS as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_order(values in prop::collection::vec(-1e4f32..1e4, 1..300), cut in 0usize..300) {
            let mut h = Histogram::default();
            let cut = cut.min(values.len());
            h.observe(&values[..cut]).unwrap();
            h.observe(&values[cut..]).unwrap();
            prop_assert_eq!(h.total(), values.len() as u64);
            let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            prop_assert!(h.top() >= largest && (h.top() <= 2.0 * largest || cut < values.len()));
            // Each value lies below the bound of its bin or one beside it.
            for v in &values {
                let bin = (f64::from(v.abs()) / f64::from(h.top().max(f32::MIN_POSITIVE)) * BINS as f64) as usize;
                let near = bin.saturating_sub(1)..(bin + 2).min(BINS);
                prop_assert!(v.abs() == 0.0 || bin >= BINS || h.counts()[near].iter().any(|c| *c > 0));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_and_zeros_are_kept() {
        let mut h = Histogram::default();
        h.observe(&[0.0; 5]).unwrap();
        assert!(h.observe(&[1.0, f32::NAN]).is_err());
        assert_eq!((h.total(), h.top()), (5, 0.0));
        h.observe(&[f32::MAX]).unwrap();
        h.observe(&[1.0]).unwrap();
        assert_eq!((h.total(), h.top(), h.counts()[0]), (7, f32::MAX, 6));
    }
}
