//! Where trained numbers come from.

use safetensors::{Dtype, SafeTensors};

use crate::ExportError;

/// Tensors by name, as f32.
pub trait WeightSource {
    /// Values in row order of the tensor `name`, whose shape must be `shape`.
    ///
    /// # Errors
    /// It is not there, or has another shape or type.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError>;
}

/// A checkpoint's `model.safetensors`.
pub struct SafetensorsWeights<'a>(SafeTensors<'a>);

impl<'a> SafetensorsWeights<'a> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// Not a safetensors file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ExportError> {
        Ok(Self(SafeTensors::deserialize(bytes)?))
    }
}

impl WeightSource for SafetensorsWeights<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        let wrong = |got: String| ExportError::Tensor {
            name: name.to_owned(),
            got,
            expected: format!("F32 {shape:?}"),
        };
        let view = self.0.tensor(name).map_err(|_| wrong("nothing".into()))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(wrong(format!("{:?} {:?}", view.dtype(), view.shape())));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        match values.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(wrong(format!("the value {v}"))),
            None => Ok(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![2], bytes).unwrap();
        safetensors::serialize([("w", view)], None).unwrap()
    }

    fn read(file: &[u8], name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let weights = SafetensorsWeights::parse(file).map_err(|error| error.to_string())?;
        weights.tensor(name, shape).map_err(|error| error.to_string())
    }

    #[test]
    fn a_tensor_comes_as_it_was_asked_for_or_not_at_all() {
        let bytes = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        let good = file(Dtype::F32, &bytes([1.5, -2.0]));
        assert_eq!(read(&good, "w", &[2]), Ok(vec![1.5, -2.0]));
        let refused = [
            (read(&good, "v", &[2]), "tensor v: got nothing"),
            (read(&good, "w", &[1, 2]), "got F32 [2], expected F32 [1, 2]"),
            (read(&file(Dtype::F16, &[0; 4]), "w", &[2]), "got F16 [2]"),
            (read(&file(Dtype::F32, &bytes([0.0, f32::NAN])), "w", &[2]), "the value NaN"),
            (read(&good[..good.len() - 1], "w", &[2]), "the checkpoint cannot be read"),
        ];
        for (got, expected) in refused {
            assert!(got.as_ref().is_err_and(|error| error.contains(expected)), "{expected}: {got:?}");
        }
    }
}
