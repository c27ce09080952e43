//! Ranges, quantisation parameters and error measures: pure numbers, no tensor library.
//!
//! The scheme is symmetric signed 8-bit (Jacob et al. 2018; what TensorRT asks for): real = scale × q
//! and no zero point. Activations have one scale per tensor, weights one per output channel. Codes of weights are
//! in -127..=127; an activation below its range saturates at -128 in ONNX, whose QuantizeLinear knows no -127.

mod contract;
mod error;
mod fallback;
mod histogram;
mod method;
mod migrate;
mod observed;
mod params;
mod range;

pub use contract::{Budget, Cost, flips};
pub use error::{max_abs_error, mean_square_error, sqnr_db};
pub use fallback::{Trial, fall_back};
pub use histogram::{BINS, Histogram};
pub use method::Method;
pub use migrate::migration;
pub use observed::Observed;
pub use params::{QuantError, QuantParams, quantise_per_channel};
pub use range::{CalibrationTable, MinMax, Range};
