//! Properties of quantisation.
#![allow(clippy::unwrap_used, reason = "a test")]

use locus_calibration::{
    MinMax, QuantParams, Range, max_abs_error, mean_square_error, quantise_per_channel, sqnr_db,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn inside_the_range_the_error_is_half_a_step(largest in 1e-6f32..1e6, share in -1.0f32..1.0) {
        let p = QuantParams::covering(largest).unwrap();
        let value = largest * share;
        // A little more than half, for the rounding of the division itself.
        prop_assert!((p.dequantise(p.quantise(value)) - value).abs() <= p.scale * 0.5001);
    }

    #[test]
    fn outside_the_range_codes_saturate(largest in 1e-6f32..1e6, beyond in 1.0f32..1e6) {
        let p = QuantParams::covering(largest).unwrap();
        prop_assert_eq!((p.quantise(largest * beyond), p.quantise(-largest * beyond)), (127, -127));
    }

    #[test]
    fn zero_stays_zero_and_signs_mirror(largest in 1e-6f32..1e6, value in -1e6f32..1e6) {
        let p = QuantParams::covering(largest).unwrap();
        prop_assert_eq!(p.quantise(0.0), 0);
        prop_assert_eq!(p.quantise(value), -p.quantise(-value));
    }

    #[test]
    fn a_scale_per_channel_is_never_worse(small in prop::collection::vec(-0.01f32..0.01, 16), large in prop::collection::vec(-10.0f32..10.0, 16)) {
        let matrix: Vec<f32> = small.iter().zip(&large).flat_map(|(a, b)| [*a, *b]).collect();
        let (codes, scales) = quantise_per_channel(&matrix, 2).unwrap();
        let per_channel: Vec<f32> = codes.iter().zip(scales.iter().cycle()).map(|(&c, &s)| f32::from(c) * s).collect();
        let whole = QuantParams::covering(matrix.iter().fold(0.0, |m: f32, v| m.max(v.abs()))).unwrap();
        let per_tensor: Vec<f32> = matrix.iter().map(|&v| whole.dequantise(whole.quantise(v))).collect();
        prop_assert!(sqnr_db(&matrix, &per_channel) >= sqnr_db(&matrix, &per_tensor) - 0.5);
        prop_assert!(max_abs_error(&matrix, &per_channel) <= f64::from(scales[0].max(scales[1])) * 0.5001);
    }
}

#[test]
fn what_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(MinMax::default().observe(&[0.0, bad]).is_err());
        assert!(quantise_per_channel(&[bad], 1).is_err());
        assert!(QuantParams::covering(bad).is_err());
        assert!(Range { min: 0.0, max: bad }.params().is_err());
    }
    assert!(Range { min: 1.0, max: 0.0 }.params().is_err());
    assert!(quantise_per_channel(&[1.0, 2.0, 3.0], 2).is_err());
    assert!(max_abs_error(&[f32::NAN], &[0.0]).is_infinite() && max_abs_error(&[0.0], &[]).is_infinite());
}

#[test]
fn an_all_zero_tensor_quantises_to_zeros() {
    let (codes, scales) = quantise_per_channel(&[0.0; 6], 3).unwrap();
    assert!(codes.iter().all(|&c| c == 0) && scales.iter().all(|&s| s > 0.0));
}

#[test]
fn the_range_is_that_of_everything_seen() {
    let mut m = MinMax::default();
    assert_eq!(m.range(), None);
    m.observe(&[3.0, -1.0]).unwrap();
    m.observe(&[]).unwrap();
    m.observe(&[-7.0]).unwrap();
    assert_eq!(m.range(), Some(Range { min: -7.0, max: 3.0 }));
}

#[test]
fn measures_of_unequal_lengths_are_as_bad_as_can_be() {
    for (a, b) in [(&[1.0_f32, 2.0][..], &[1.0_f32][..]), (&[1.0], &[1.0, 2.0]), (&[], &[0.0])] {
        assert!(mean_square_error(a, b).is_infinite() && max_abs_error(a, b).is_infinite());
        assert_eq!(sqnr_db(a, b), f64::NEG_INFINITY);
    }
    assert_eq!((mean_square_error(&[1.0, 3.0], &[0.0, 1.0]), mean_square_error(&[], &[])), (2.5, 0.0));
    assert!((sqnr_db(&[10.0, 10.0], &[9.0, 11.0]) - 20.0).abs() < 1e-9);
    assert!(sqnr_db(&[1.0], &[1.0]).is_infinite());
}
