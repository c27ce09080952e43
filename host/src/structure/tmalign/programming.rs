//! Dynamic programming with a cost for opening a gap only, over any score of two residues.

use super::{Map, Problem};
use crate::structure::superpose::{Superposition, squared_distance};

/// The best map of `rows` residues onto `columns`: for each column its row. Ends are free; a gap costs `open` where it
/// follows a pair.
pub(super) fn best_map(rows: usize, columns: usize, open: f64, score: impl Fn(usize, usize) -> f64) -> Map {
    let width = columns + 1;
    let mut value = vec![0.0_f64; (rows + 1) * width];
    let mut paired = vec![false; (rows + 1) * width];
    // What is left where the letter of the row, or of the column, stands alone.
    let alone = |value: &[f64], paired: &[bool], i: usize, j: usize| {
        let of = |at: usize| value[at] + if paired[at] { open } else { 0.0 };
        (of((i - 1) * width + j), of(i * width + j - 1))
    };
    for i in 1..=rows {
        for j in 1..=columns {
            let both = value[(i - 1) * width + j - 1] + score(i - 1, j - 1);
            let (row, column) = alone(&value, &paired, i, j);
            let at = i * width + j;
            paired[at] = both >= row && both >= column;
            value[at] = if paired[at] { both } else { row.max(column) };
        }
    }
    let mut map = vec![None; columns];
    let (mut i, mut j) = (rows, columns);
    while i > 0 && j > 0 {
        if paired[i * width + j] {
            map[j - 1] = Some(i - 1);
            (i, j) = (i - 1, j - 1);
        } else {
            let (row, column) = alone(&value, &paired, i, j);
            if column >= row {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
    map
}

impl Problem<'_> {
    /// The best map by nearness after a superposition.
    pub(super) fn by_place(&self, by: &Superposition, d0: f64, open: f64) -> Map {
        let moved: Vec<_> = self.x.iter().map(|&p| by.apply(p)).collect();
        let d02 = d0 * d0;
        best_map(self.x.len(), self.y.len(), open, |i, j| {
            1.0 / (1.0 + squared_distance(moved[i], self.y[j]) / d02)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_opened_where_it_pays_and_only_once() {
        let (a, b) = (b"HHHEEE", b"HHHCCEEE");
        let same = |i: usize, j: usize| if a[i] == b[j] { 1.0 } else { -1.0 };
        let map = best_map(6, 8, -1.0, same);
        let expected = [Some(0), Some(1), Some(2), None, None, Some(3), Some(4), Some(5)];
        assert_eq!(map, expected);
        // A gap in the middle that costs more than three pairs is not worth it.
        let map = best_map(6, 8, -9.0, same);
        assert!(map.windows(2).all(|w| w[0].is_none() || w[1].is_some()) || map[7].is_none(), "{map:?}");
    }
}
