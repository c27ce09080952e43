//! From a checkpoint to a graph in 8 bits: what activations are, how their ranges are chosen, and which layers stay in
//! float so that the accuracy contract holds.

mod page;
mod search;
mod seen;

pub use page::{page, write};
pub use search::{Candidate, Graph, Judge, LayerCost, Quantised, Report, Search, Step};
pub use seen::Seen;
