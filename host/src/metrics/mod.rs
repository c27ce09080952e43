//! Figures of scores against truth.

mod binary;
mod calibration;
mod classes;
mod regression;

pub use binary::{Confusion, aupr, auroc, pr_curve, roc_curve};
pub use calibration::{Bin, Binning, brier, ece, ece_of, log_loss, mce_of, reliability, wilson};
pub use classes::{Average, ClassCounts, argmax, auroc_one_vs_rest};
pub use regression::{mae, mse, pearson, r_squared, spearman};
