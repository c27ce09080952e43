//! Gauss-Legendre quadrature.

/// Nodes and weights of `n` points over 0 to 1 (Golub & Welsch 1969; found by Newton's method). Exact for polynomials
/// up to degree 2n - 1.
pub(super) fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (mut before, mut value) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
                }
                slope = n as f64 * (x * value - before) / (x * x - 1.0);
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_up_to_twice_the_points_are_exact() {
        for n in [2, 3, 16, 64, 256] {
            let points = gauss_legendre(n);
            for degree in [0, 1, 2, 2 * n as i32 - 1] {
                let integral: f64 = points.iter().map(|(x, w)| w * x.powi(degree)).sum();
                let expected = 1.0 / f64::from(degree + 1);
                assert!((integral - expected).abs() < 1e-13, "{n} points, degree {degree}: {integral}");
            }
            assert!(points.iter().all(|(x, w)| (0.0..1.0).contains(x) && *w > 0.0));
        }
    }
}
