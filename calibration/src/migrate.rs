//! Scale migration (SmoothQuant, Xiao et al. 2023): channels of an activation that are far larger than the others are
//! divided by a factor that their weights are multiplied with. The product is the same, and both quantise better.

/// Factors under this would make a weight vanish.
const LEAST: f32 = 1e-5;

/// What each channel of an activation is divided by, and its weights multiplied with:
/// activation^`strength` / weight^(1 - `strength`), of the largest absolute values of each channel. A channel that was
/// never anything but 0, or has no weight, keeps its scale.
///
/// # Panics
/// Never: channels beyond the shorter list are left out.
pub fn migration(activations: &[f32], weights: &[f32], strength: f32) -> Vec<f32> {
    activations
        .iter()
        .zip(weights)
        .map(|(&a, &w)| {
            let factor = a.powf(strength) / w.powf(1.0 - strength);
            if a <= LEAST || w <= LEAST || !factor.is_finite() { 1.0 } else { factor.max(LEAST) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_one_half_activation_and_weight_become_equally_large() {
        let (a, w) = ([8.0f32, 1.0, 0.5], [0.5f32, 1.0, 2.0]);
        for ((s, a), w) in migration(&a, &w, 0.5).iter().zip(a).zip(w) {
            assert!((a / s - w * s).abs() < 1e-5, "{a} {w} {s}");
        }
    }

    proptest! {
        #[test]
        fn factors_are_always_such_that_one_can_divide(a in prop::collection::vec(0.0f32..1e30, 8), w in prop::collection::vec(0.0f32..1e30, 8), strength in 0.0f32..=1.0) {
            for s in migration(&a, &w, strength) {
                prop_assert!(s.is_finite() && s > 0.0);
            }
        }
    }

    #[test]
    fn a_channel_of_zeros_keeps_its_scale() {
        assert_eq!(migration(&[0.0, 2.0], &[1.0, 0.0], 0.5), [1.0, 1.0]);
    }
}
