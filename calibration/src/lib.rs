//! Ranges, quantisation parameters and error measures: pure numbers, no tensor library.
//!
//! The scheme is symmetric signed 8-bit (Jacob et al. 2018; what TensorRT asks for): real = scale × q
//! with q in -127..=127 and no zero point. Activations have one scale per tensor, weights one per output
//! channel.

mod error;
mod params;
mod range;

pub use error::{max_abs_error, mean_square_error, sqnr_db};
pub use params::{QuantError, QuantParams, quantise_per_channel};
pub use range::{CalibrationTable, MinMax, Range};
