//! From logits to a probability with a named prior, and the bands around it.

mod bands;
mod platt;
mod ranges;

pub use bands::{Bands, MODERATE, choose};
pub use platt::{Platt, fit, weights};
pub use ranges::{RangePlan, Ranges, observe_ranges};
