//! Mixed precision (Micikevicius et al. 2018): half-precision layers over f32 parameters, with a loss that is scaled where
//! small gradients would be rounded to nothing.

use candle_core::DType;
use serde::{Deserialize, Serialize};

/// In what the matrix products, attention and GELU of the layers are computed while training. Parameters, optimiser,
/// layer norms, heads and losses are FP32 in all of them; so is validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// bfloat16: the range of FP32 with 8 bits of precision.
    Bf16,
    /// IEEE half precision, with dynamic loss scaling.
    Fp16,
}

impl Precision {
    /// As tensors have it.
    pub const fn dtype(self) -> DType {
        match self {
            Self::Fp32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Fp16 => DType::F16,
        }
    }

    /// As a recipe has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        }
    }

    pub(super) fn is_fp32(&self) -> bool {
        *self == Self::Fp32
    }
}

/// What a loss is multiplied by before its backward pass: halved when a gradient is not finite, doubled after
/// [`LossScale::GROWS_AFTER`] good steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    factor: f64,
    good_steps: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: Self::FIRST, good_steps: 0 }
    }
}

impl LossScale {
    /// What training begins with.
    pub const FIRST: f64 = 65_536.0;
    /// Good steps in a row after which it is doubled.
    pub const GROWS_AFTER: u64 = 2_000;
    /// Larger ones would overflow a loss of ordinary size in f32.
    const MOST: f64 = 16_777_216.0;

    /// The factor.
    pub const fn factor(&self) -> f64 {
        self.factor
    }

    /// A step's gradients were finite.
    pub fn good(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= Self::GROWS_AFTER {
            self.factor = (self.factor * 2.0).min(Self::MOST);
            self.good_steps = 0;
        }
    }

    /// A step's gradients were not finite. False where the factor is 1 already: then it is not the scale that overflows.
    #[must_use]
    pub fn overflowed(&mut self) -> bool {
        self.good_steps = 0;
        let possible = self.factor > 1.0;
        self.factor = (self.factor / 2.0).max(1.0);
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_doubles_after_good_steps_in_a_row_and_halves_at_once() {
        let mut scale = LossScale::default();
        (0..LossScale::GROWS_AFTER - 1).for_each(|_| scale.good());
        assert_eq!(scale.factor(), LossScale::FIRST);
        scale.good();
        assert_eq!(scale.factor(), 2.0 * LossScale::FIRST);
        (0..LossScale::GROWS_AFTER - 1).for_each(|_| scale.good());
        assert!(scale.overflowed());
        assert_eq!(scale.factor(), LossScale::FIRST);
        // The good steps before an overflow do not count.
        scale.good();
        assert_eq!(scale.factor(), LossScale::FIRST);
    }

    #[test]
    fn the_scale_stays_within_bounds_and_says_when_it_is_not_to_blame() {
        let mut scale = LossScale::default();
        (0..20 * LossScale::GROWS_AFTER).for_each(|_| scale.good());
        assert_eq!(scale.factor(), LossScale::MOST);
        let halvings = (0..100).take_while(|_| scale.overflowed()).count();
        assert_eq!((halvings, scale.factor()), (24, 1.0));
    }

    #[test]
    fn it_is_read_back_as_it_was() {
        let mut scale = LossScale::default();
        scale.good();
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
