//! What enters each matrix product while records run.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use locus_calibration::{Method, Observed, Range};

use crate::model::Observer;

/// Every activation by its name in the calibration table.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<String, Observed>);

impl Seen {
    /// The range of each activation.
    pub fn ranges(&self, method: Method) -> BTreeMap<String, Range> {
        self.0.iter().filter_map(|(name, seen)| Some((name.clone(), method.range(seen)?))).collect()
    }

    /// Largest absolute value of each channel.
    pub fn channels(&self) -> BTreeMap<String, Vec<f32>> {
        self.0.iter().map(|(name, seen)| (name.clone(), seen.channels().to_vec())).collect()
    }

    /// Each activation.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Observed)> {
        self.0.iter().map(|(name, seen)| (name.as_str(), seen))
    }
}

impl Observer for Seen {
    fn observe(&mut self, name: &str, values: &Tensor) -> candle_core::Result<()> {
        let channels = values.dim(D::Minus1)?;
        let values = values.flatten_all()?.to_vec1::<f32>()?;
        let seen = self.0.entry(name.to_owned()).or_default();
        seen.observe(&values, channels)
            .map_err(|error| candle_core::Error::msg(format!("activation {name}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn an_activation_that_is_not_finite_gives_no_range_but_an_error_that_names_it() {
        let mut seen = Seen::default();
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        seen.observe("layer.0.input", &tensor(&[1.0, -2.0])).unwrap();
        let error = seen.observe("layer.0.input", &tensor(&[3.0, f32::NAN])).unwrap_err();
        assert!(error.to_string().contains("layer.0.input"), "{error}");
        assert_eq!(seen.ranges(Method::MinMax)["layer.0.input"], Range { min: -2.0, max: 1.0 });
        assert_eq!(seen.channels()["layer.0.input"], [1.0, 2.0]);
    }
}
