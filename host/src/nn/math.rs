//! Elementary functions that the compiler can vectorise.

/// e^x for f32, relative error below 3e-7 (Cephes' reduction and polynomial), clamped to the finite range.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5.0e-1);
    let e = p.mul_add(r * r, r) + 1.0;
    e * f32::from_bits((((n as i32) + 127) << 23) as u32)
}

/// Error function, absolute error below 5e-7 (Abramowitz & Stegun 1964, 7.1.26).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / 0.327_591_1f32.mul_add(a, 1.0);
    let p = 1.061_405_4f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    (1.0 - p * t * exp(-a * a)).copysign(x)
}

/// x·Φ(x), the exact form of GELU (Hendrycks & Gimpel 2016).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// d/dx of [`gelu`].
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    let density = exp(-0.5 * x * x) * 0.398_942_3;
    0.5f32.mul_add(1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2), x * density)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_stay_within_their_stated_errors() {
        for i in -8000..=8000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 3e-7, "{x}");
            // erf by its Maclaurin series in f64, where that converges well.
            if x.abs() < 3.0 {
                let x = f64::from(x);
                let (mut term, mut sum) = (x, x);
                for n in 1..60 {
                    term *= -x * x / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                let want = sum * 2.0 / std::f64::consts::PI.sqrt();
                assert!((f64::from(erf(x as f32)) - want).abs() < 5e-7, "{x}");
            }
        }
        assert_eq!((exp(-1e30) > 0.0, exp(1e30).is_finite(), erf(50.0)), (true, true, 1.0));
    }

    #[test]
    fn the_slope_of_gelu_is_its_derivative() {
        for i in -60..=60 {
            let x = i as f32 / 10.0;
            let numeric = (gelu(x + 1e-2) - gelu(x - 1e-2)) / 2e-2;
            assert!((gelu_slope(x) - numeric).abs() < 1e-3, "{x}");
        }
    }
}
