//! Figures of a model on a split: overall, for missense, by consequence and by gene, with intervals that
//! resample genes, beside the floors.

mod estimate;
mod floors;
mod report;

pub use estimate::{Estimate, estimate};
pub use floors::Floors;
pub use report::{Group, ModeReport, PairFigure, PairSplit, Scored, describe};
