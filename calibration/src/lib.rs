//! Ranges, quantisation parameters and error measures: pure numbers, no tensor library.
//!
//! The scheme is symmetric signed 8-bit (Jacob et al. 2018; what TensorRT asks for): real = scale × q
//! and no zero point. Activations have one scale per tensor, weights one per output channel. Codes of weights are
//! in -127..=127; an activation below its range saturates at -128 in ONNX, whose QuantizeLinear knows no -127.

mod error;
mod params;
mod range;

pub use error::{max_abs_error, mean_square_error, sqnr_db};
pub use params::{QuantError, QuantParams, quantise_per_channel};
pub use range::{CalibrationTable, MinMax, Range};
