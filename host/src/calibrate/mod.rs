//! From logits to a probability with a named prior, and the bands around it.

mod bands;
mod compare;
mod isotonic;
mod platt;
mod ranges;
mod strength;

pub use bands::{Bands, MODERATE, Wanted, choose};
pub(crate) use compare::BINS;
pub use compare::{CrossFit, Method, compare, cross_fitted};
pub use isotonic::{Isotonic, isotonic};
pub use platt::{Platt, fit, fit_temperature, weights};
pub use ranges::{RangePlan, observe_ranges};
pub use strength::{LocalRatio, STRENGTHS, Strength, local_ratios, strengths};
