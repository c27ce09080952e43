//! Symmetric signed 8-bit quantisation.

/// Why numbers cannot be quantised.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A value that is not a number, or infinite.
    #[error("got {value}, expected a finite number")]
    NotFinite {
        /// The value.
        value: f32,
    },
    /// A range that is none.
    #[error("got a range from {min} to {max}, expected finite bounds in order")]
    Range {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// A matrix that does not divide into its channels.
    #[error("got {values} values for {channels} channels, expected a multiple")]
    Shape {
        /// Number of values.
        values: usize,
        /// Number of channels.
        channels: usize,
    },
}

/// real = scale × q.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// Real value of one step; above 0.
    pub scale: f32,
}

/// Largest code. -128 is not used here, so that negation stays exact; only a graph's own QuantizeLinear writes it.
const TOP: f32 = 127.0;

impl QuantParams {
    /// The finest scale that still covers ±`largest`.
    ///
    /// # Errors
    /// A bound that is not finite.
    pub fn covering(largest: f32) -> Result<Self, QuantError> {
        if !largest.is_finite() {
            return Err(QuantError::NotFinite { value: largest });
        }
        // An all-zero tensor still needs a scale that divides; a subnormal one would lose its digits.
        Ok(Self { scale: (largest.abs() / TOP).max(f32::MIN_POSITIVE * 1e6) })
    }

    /// Code of a value: rounded to even, saturating.
    pub fn quantise(self, value: f32) -> i8 {
        (value / self.scale).round_ties_even().clamp(-TOP, TOP) as i8
    }

    /// Value of a code.
    pub fn dequantise(self, code: i8) -> f32 {
        f32::from(code) * self.scale
    }
}

/// Codes of a matrix [rows, channels], row after row, with one scale per channel (column).
///
/// # Errors
/// A value that is not finite, or rows that are not whole.
pub fn quantise_per_channel(values: &[f32], channels: usize) -> Result<(Vec<i8>, Vec<f32>), QuantError> {
    if channels == 0 || !values.len().is_multiple_of(channels) {
        return Err(QuantError::Shape { values: values.len(), channels });
    }
    if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
        return Err(QuantError::NotFinite { value });
    }
    let mut largest = vec![0.0f32; channels];
    for row in values.chunks_exact(channels) {
        largest.iter_mut().zip(row).for_each(|(l, v)| *l = l.max(v.abs()));
    }
    let params = largest.into_iter().map(QuantParams::covering).collect::<Result<Vec<_>, _>>()?;
    let codes = values
        .chunks_exact(channels)
        .flat_map(|row| row.iter().zip(&params).map(|(&v, p)| p.quantise(v)))
        .collect();
    Ok((codes, params.into_iter().map(|p| p.scale).collect()))
}
