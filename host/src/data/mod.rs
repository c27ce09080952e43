//! Datasets: every record encoded once, by the same code that serves.

pub mod augment;
pub mod dataset;
pub mod describe;
pub mod encoding;
pub mod masking;
pub mod page;
pub mod prepare;
pub mod regions;
pub mod variants;

pub use augment::{Augmentation, BatchPlan, View, pack};
pub use dataset::{Dataset, Features, Pair, Record, Split};
pub use encoding::Encoding;
