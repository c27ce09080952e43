//! The rotation and shift that bring one set of points nearest to another (Kabsch 1976), by the unit quaternion
//! that is the eigenvector of a symmetric 4 x 4 matrix (Horn 1987).

use super::Point;

/// Moves a point: `rotation` · p + `shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Superposition {
    /// Rows of the rotation.
    pub rotation: [Point; 3],
    /// Added after.
    pub shift: Point,
}

impl Superposition {
    /// The point moved.
    pub fn apply(&self, p: Point) -> Point {
        std::array::from_fn(|i| dot(self.rotation[i], p) + self.shift[i])
    }

    /// Root mean square distance of pairs after the move, in ångström; 0 without pairs.
    pub fn rmsd(&self, pairs: &[(Point, Point)]) -> f64 {
        let sum: f64 = pairs.iter().map(|&(a, b)| squared_distance(self.apply(a), b)).sum();
        (sum / pairs.len().max(1) as f64).sqrt()
    }
}

/// Brings the first of each pair nearest to the second. Fewer than three pairs leave rotations open, of which this
/// takes one.
pub fn superpose(pairs: &[(Point, Point)]) -> Superposition {
    let n = pairs.len().max(1) as f64;
    let mut centres = [[0.0; 3]; 2];
    for (a, b) in pairs {
        for i in 0..3 {
            centres[0][i] += a[i] / n;
            centres[1][i] += b[i] / n;
        }
    }
    // Sums of products of coordinates around the centres.
    let mut s = [[0.0; 3]; 3];
    for (a, b) in pairs {
        for (i, row) in s.iter_mut().enumerate() {
            for (j, cell) in row.iter_mut().enumerate() {
                *cell += (a[i] - centres[0][i]) * (b[j] - centres[1][j]);
            }
        }
    }
    let [w, x, y, z] = largest_eigenvector([
        [s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]],
        [s[1][2] - s[2][1], s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]],
        [s[2][0] - s[0][2], s[0][1] + s[1][0], s[1][1] - s[0][0] - s[2][2], s[1][2] + s[2][1]],
        [s[0][1] - s[1][0], s[2][0] + s[0][2], s[1][2] + s[2][1], s[2][2] - s[0][0] - s[1][1]],
    ]);
    let rotation = [
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ];
    let shift = std::array::from_fn(|i| centres[1][i] - dot(rotation[i], centres[0]));
    Superposition { rotation, shift }
}

/// Unit eigenvector of the largest eigenvalue, by Jacobi's rotations (1846).
fn largest_eigenvector(mut m: [[f64; 4]; 4]) -> [f64; 4] {
    let mut vectors = [[0.0; 4]; 4];
    (0..4).for_each(|i| vectors[i][i] = 1.0);
    for _ in 0..50 {
        let off: f64 =
            (0..4).flat_map(|i| (i + 1..4).map(move |j| (i, j))).map(|(i, j)| m[i][j] * m[i][j]).sum();
        let size: f64 = m.iter().flatten().map(|v| v * v).sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 0..3 {
            for q in p + 1..4 {
                if m[p][q] == 0.0 {
                    continue;
                }
                let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / t.hypot(1.0);
                let sine = t * cosine;
                for row in &mut m {
                    (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
                }
                let (row_p, row_q) = (m[p], m[q]);
                m[p] = std::array::from_fn(|k| cosine * row_p[k] - sine * row_q[k]);
                m[q] = std::array::from_fn(|k| sine * row_p[k] + cosine * row_q[k]);
                for row in &mut vectors {
                    (row[p], row[q]) = (cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]);
                }
            }
        }
    }
    let best = (1..4).fold(0, |best, i| if m[i][i] > m[best][best] { i } else { best });
    std::array::from_fn(|i| vectors[i][best])
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Squared distance of two points.
pub(super) fn squared_distance(a: Point, b: Point) -> f64 {
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn cloud(n: usize) -> Vec<Point> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..n).map(|_| std::array::from_fn(|_| rng.random_range(-20.0..20.0))).collect()
    }

    #[test]
    fn a_turned_and_shifted_body_is_brought_back() {
        // A third of a turn around (1, 1, 1): x → y → z → x.
        let pairs: Vec<(Point, Point)> =
            cloud(40).into_iter().map(|p| (p, [p[2] + 5.0, p[0] - 7.0, p[1] + 0.5])).collect();
        let found = superpose(&pairs);
        assert!(found.rmsd(&pairs) < 1e-9, "{found:?}");
        assert!((found.rotation[0][2] - 1.0).abs() < 1e-9 && (found.shift[1] + 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_mirror_image_is_not_turned_into_its_original() {
        let pairs: Vec<(Point, Point)> = cloud(40).into_iter().map(|p| (p, [-p[0], p[1], p[2]])).collect();
        let found = superpose(&pairs);
        let [a, b, c] = found.rotation;
        let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
        assert!((dot(a, cross) - 1.0).abs() < 1e-9 && found.rmsd(&pairs) > 1.0);
    }

    #[test]
    fn no_small_turn_or_shift_is_nearer() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let noisy = |p: Point, rng: &mut ChaCha8Rng| p.map(|v| v + rng.random_range(-3.0..3.0));
        let pairs: Vec<(Point, Point)> =
            cloud(30).into_iter().map(|p| (p, noisy([p[1], p[2], p[0]], &mut rng))).collect();
        let best = superpose(&pairs);
        for axis in 0..3 {
            for step in [-1e-3_f64, 1e-3] {
                let mut shifted = best;
                shifted.shift[axis] += step;
                assert!(shifted.rmsd(&pairs) > best.rmsd(&pairs));
                let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
                let mut turned = best;
                let centre = best
                    .apply(pairs.iter().fold([0.0; 3], |c, p| std::array::from_fn(|k| c[k] + p.0[k] / 30.0)));
                for k in 0..3 {
                    turned.rotation[i][k] =
                        step.cos() * best.rotation[i][k] - step.sin() * best.rotation[j][k];
                    turned.rotation[j][k] =
                        step.sin() * best.rotation[i][k] + step.cos() * best.rotation[j][k];
                }
                // Around the centre, so that only the turn differs.
                let moved = turned
                    .apply(pairs.iter().fold([0.0; 3], |c, p| std::array::from_fn(|k| c[k] + p.0[k] / 30.0)));
                (0..3).for_each(|k| turned.shift[k] += centre[k] - moved[k]);
                assert!(turned.rmsd(&pairs) > best.rmsd(&pairs));
            }
        }
    }

    #[test]
    fn few_points_give_a_rotation_all_the_same() {
        for n in 0..3 {
            let pairs: Vec<(Point, Point)> = cloud(n).into_iter().map(|p| (p, p)).collect();
            let found = superpose(&pairs);
            assert!(found.rotation.iter().flatten().all(|v| v.is_finite()) && found.rmsd(&pairs) < 1e-9);
        }
    }
}
