//! Language models over genomes: which stretches are trained on and which are held out, the windows drawn from
//! them, the objectives, and how well a base is guessed beside models that only count.

pub mod bits;
pub mod counts;
pub mod describe;
pub mod objectives;
pub mod overlap;
pub mod regions;
mod train;
pub mod windows;

pub use objectives::{Batch, Kind, Objectives};
pub use regions::{Regions, Stretch};
pub use train::LanguageModel;
pub use windows::{StretchWindows, Windows};
