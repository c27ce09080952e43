//! Figures of scores against truth.

mod binary;
mod calibration;

pub use binary::{Confusion, aupr, auroc, pr_curve, roc_curve};
pub use calibration::{Bin, Binning, brier, ece, ece_of, log_loss, mce_of, reliability, wilson};
