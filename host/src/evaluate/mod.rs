//! Figures of a model on a split: overall, for missense, by consequence, stars and gene, with intervals that
//! resample genes, beside the floors; and what people read of them.

mod calibration;
mod card;
mod estimate;
mod floors;
mod html;
mod reads;
mod report;
mod sequence;

pub use calibration::{Calibrated, CalibrationReport, Reweighted, Shares, at_prior, calibration};
pub use card::card;
pub use estimate::{Estimate, estimate};
pub use floors::Floors;
pub use html::{Learning, page};
pub use reads::{Read, Reads};
pub use report::{Curves, Group, ModeReport, NAMES, PairFigure, PairSplit, Scored, describe};
pub use sequence::{
    ClassReport, Described, NumberReport, SequenceReport, describe_classes, describe_numbers,
    sequence_figures,
};
