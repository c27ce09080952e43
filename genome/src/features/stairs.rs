//! A number as the steps it has climbed. A network bends a number slowly and trees cut it at once; between the two
//! stands the piecewise linear encoding (Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep
//! learning").

use alloc::{format, string::String};

/// Rising edges; between two of them is a step.
#[derive(Clone, Copy)]
pub(super) struct Stairs(&'static [f32]);

impl Stairs {
    /// BLOSUM62 over 4.
    pub(super) const BLOSUM: Self = Self(&[-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]);
    /// Changes and their sizes, in units of the scalars.
    pub(super) const CHANGE: Self =
        Self(&[-1.5, -1.1, -0.8, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.8, 1.1, 1.5]);
    /// Places and lengths from 0 to 1.
    pub(super) const PLACE: Self = Self(&[
        0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5625, 0.625, 0.6875, 0.75, 0.8125,
        0.875, 0.9375, 1.0,
    ]);
    /// Mean hydropathy over 4.5 of a stretch of residues.
    pub(super) const HYDROPATHY: Self =
        Self(&[-1.0, -0.4, -0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]);
    /// Mean volume of a stretch of residues, in units of the features.
    pub(super) const VOLUME: Self =
        Self(&[-1.0, -0.5, -0.35, -0.25, -0.15, -0.05, 0.05, 0.15, 0.25, 0.4, 0.7]);
    /// Share of a group of residues in a stretch.
    pub(super) const SHARE: Self = Self(&[0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.25, 0.4]);

    /// Number of steps.
    pub(super) const fn len(self) -> usize {
        self.0.len() - 1
    }

    /// Names of the steps of the number `of`, lowest first.
    pub(super) fn names(self, of: &str) -> impl Iterator<Item = String> {
        self.0[1..].iter().map(move |to| format!("{of}<{to}"))
    }

    /// Writes how far `value` has come through each step, from 0 (below it) to 1 (above it).
    pub(super) fn climb(self, value: f32, steps: &mut [f32]) {
        for (step, edges) in steps.iter_mut().zip(self.0.windows(2)) {
            *step = ((value - edges[0]) / (edges[1] - edges[0])).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fills_the_steps_below_it() {
        let mut steps = [9.0; 9];
        Stairs::SHARE.climb(0.05, &mut steps);
        assert_eq!(steps[..2], [1.0, 1.0]);
        assert!((steps[2] - 0.5).abs() < 1e-5 && steps[3..].iter().all(|&s| s == 0.0));
        Stairs::SHARE.climb(-3.0, &mut steps);
        assert_eq!(steps, [0.0; 9]);
        Stairs::SHARE.climb(f32::MAX, &mut steps);
        assert_eq!(steps, [1.0; 9]);
        assert_eq!(Stairs::SHARE.names("x").last().unwrap(), "x<0.4");
    }
}
