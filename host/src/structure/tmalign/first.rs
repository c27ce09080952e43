//! First guesses of which residues correspond.

use super::{Map, Problem, programming::best_map};
use crate::structure::{
    Point,
    superpose::{squared_distance, superpose},
};

/// Longest distance of neighbours in an unbroken chain, in ångström.
const UNBROKEN: f64 = 4.25;
/// Shortest fragment without a break.
const SHORTEST: usize = 4;

/// The local shape of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Coil,
    Helix,
    Strand,
    Turn,
}

/// The shape at each residue, by distances of alpha carbons two on each side.
pub(super) fn shapes(points: &[Point]) -> Vec<Shape> {
    let at = |i: usize| {
        if i < 2 || i + 2 >= points.len() {
            return Shape::Coil;
        }
        let d = |a: usize, b: usize| squared_distance(points[i + a - 2], points[i + b - 2]).sqrt();
        let like = |span: [f64; 3], room: f64| {
            let near = |a, b, expected: f64| (d(a, b) - expected).abs() < room;
            near(0, 4, span[0])
                && [(0, 3), (1, 4)].iter().all(|&(a, b)| near(a, b, span[1]))
                && [(0, 2), (1, 3), (2, 4)].iter().all(|&(a, b)| near(a, b, span[2]))
        };
        if like([6.37, 5.18, 5.45], 2.1) {
            Shape::Helix
        } else if like([13.0, 10.4, 6.1], 1.42) {
            Shape::Strand
        } else if d(0, 4) < 8.0 {
            Shape::Turn
        } else {
            Shape::Coil
        }
    };
    (0..points.len()).map(at).collect()
}

/// By secondary structure.
pub(super) fn by_shape(x: &[Shape], y: &[Shape]) -> Map {
    best_map(x.len(), y.len(), -1.0, |i, j| f64::from(u8::from(x[i] == y[j])))
}

impl Problem<'_> {
    /// The best shift of one chain along the other without a gap.
    pub(super) fn gapless(&self) -> Map {
        let least = (self.x.len().min(self.y.len()) / 2).max(5);
        self.best_shift(self.x.len(), self.y.len(), least, |i, j, map| map[j] = Some(i))
    }

    /// The best of all shifts of `rows` along `columns` that share `least` residues; `set` writes one pair.
    fn best_shift(
        &self,
        rows: usize,
        columns: usize,
        least: usize,
        set: impl Fn(usize, usize, &mut Map),
    ) -> Map {
        let mut best = (-1.0, vec![None; self.y.len()]);
        for shift in least as i64 - columns as i64..=rows as i64 - least as i64 {
            let mut map = vec![None; self.y.len()];
            for j in 0..columns {
                if let Some(i) = usize::try_from(j as i64 + shift).ok().filter(|&i| i < rows) {
                    set(i, j, &mut map);
                }
            }
            let score = self.quick(&map);
            if score >= best.0 {
                best = (score, map);
            }
        }
        best.1
    }

    fn loose(&self) -> f64 {
        (self.d0 + 1.5).max(self.least)
    }

    /// By superposing pieces of one chain on pieces of the other.
    pub(super) fn by_fragments(&self) -> Option<Map> {
        let jump = |n: usize| {
            let jump = match n {
                251.. => 45,
                201.. => 35,
                151.. => 25,
                _ => 15,
            };
            jump.min(n / 3).max(1)
        };
        let shortest = self.x.len().min(self.y.len());
        let mut best: Option<(f64, Map)> = None;
        for length in [20.min(shortest / 3), 100.min(shortest / 2)] {
            for i in (0..=self.x.len() - length).step_by(jump(self.x.len())) {
                for j in (0..=self.y.len() - length).step_by(jump(self.y.len())) {
                    let piece: Vec<_> = (0..length).map(|k| (self.x[i + k], self.y[j + k])).collect();
                    let map = self.by_place(&superpose(&piece), self.loose(), 0.0);
                    let score = self.quick(&map);
                    if score > best.as_ref().map_or(0.0, |b| b.0) {
                        best = Some((score, map));
                    }
                }
            }
        }
        best.map(|(_, map)| map)
    }

    /// By nearness after superposing what the best map so far pairs, and secondary structure.
    pub(super) fn by_shape_and_place(&self, sx: &[Shape], sy: &[Shape], so_far: &Map) -> Map {
        let by = superpose(&self.points(so_far));
        let moved: Vec<Point> = self.x.iter().map(|&p| by.apply(p)).collect();
        let d02 = self.loose().powi(2);
        best_map(self.x.len(), self.y.len(), -1.0, |i, j| {
            let near = 1.0 / (1.0 + squared_distance(moved[i], self.y[j]) / d02);
            if sx[i] == sy[j] { near + 0.5 } else { near }
        })
    }

    /// By shifting the longest unbroken piece of one chain along the other.
    pub(super) fn unbroken(&self) -> Map {
        let (px, py) = (longest_piece(self.x), longest_piece(self.y));
        let of_x = px.len() < py.len() || (px.len() == py.len() && self.x.len() <= self.y.len());
        let shortest = self.x.len().min(self.y.len());
        let mut piece: Vec<usize> = if of_x { px.collect() } else { py.collect() };
        if piece.len() == shortest {
            // All of a chain was shifted before: its middle is another guess.
            let (from, to) = ((shortest as f64 * 0.1) as usize, (shortest as f64 * 0.89) as usize);
            piece = piece[from..=to].to_vec();
        }
        let other = if of_x { self.y.len() } else { self.x.len() };
        let least = ((piece.len().min(other) as f64 / 2.5) as usize).max(SHORTEST - 1);
        if of_x {
            self.best_shift(piece.len(), self.y.len(), least, |i, j, map| map[j] = Some(piece[i]))
        } else {
            self.best_shift(self.x.len(), piece.len(), least, |i, j, map| map[piece[j]] = Some(i))
        }
    }
}

/// The longest run of residues whose neighbours are near; the limit grows until there is one of some length.
fn longest_piece(points: &[Point]) -> std::ops::Range<usize> {
    let least = (points.len() / 3).min(SHORTEST);
    let mut limit = UNBROKEN;
    loop {
        let mut longest = 0..0;
        let mut start = 0;
        for i in 1..=points.len() {
            let breaks = i == points.len() || squared_distance(points[i - 1], points[i]).sqrt() >= limit;
            if breaks {
                if i - start > longest.len() {
                    longest = start..i;
                }
                start = i;
            }
        }
        if longest.len() >= least || limit > 1e9 {
            return longest;
        }
        limit *= 1.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helix_and_a_strand_are_told_apart() {
        let helix: Vec<Point> = (0..12)
            .map(|i| {
                let t = f64::from(i) * 100.0_f64.to_radians();
                [2.3 * t.cos(), 2.3 * t.sin(), 1.5 * f64::from(i)]
            })
            .collect();
        let found = shapes(&helix);
        assert!(found[2..10].iter().all(|s| *s == Shape::Helix) && found[0] == Shape::Coil);
        let strand: Vec<Point> =
            (0..12).map(|i| [3.3 * f64::from(i), if i % 2 == 0 { 0.0 } else { 1.8 }, 0.0]).collect();
        assert!(shapes(&strand)[2..10].iter().all(|s| *s == Shape::Strand));
    }

    #[test]
    fn the_longest_piece_ends_at_breaks() {
        let mut points: Vec<Point> = (0..20).map(|i| [3.8 * f64::from(i), 0.0, 0.0]).collect();
        points[7..].iter_mut().for_each(|p| p[1] = 50.0);
        assert_eq!(longest_piece(&points), 7..20);
        let far: Vec<Point> = (0..9).map(|i| [100.0 * f64::from(i), 0.0, 0.0]).collect();
        assert_eq!(longest_piece(&far), 0..9);
    }
}
