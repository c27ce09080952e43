//! How far two sets of numbers lie apart.

/// Largest absolute difference; infinite where a difference is not a number or the lengths differ.
pub fn max_abs_error(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// Mean squared difference; 0 for nothing, infinite where the lengths differ.
pub fn mean_square_error(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.len().max(1) as f64
}

/// Signal to quantisation noise in decibels: infinite without noise, minus infinity where the lengths differ.
pub fn sqnr_db(signal: &[f32], approximation: &[f32]) -> f64 {
    let noise = mean_square_error(signal, approximation);
    let power = mean_square_error(signal, &vec![0.0; signal.len()]);
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (power / noise).log10() }
}
