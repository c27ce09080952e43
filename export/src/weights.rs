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
