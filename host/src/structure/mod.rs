//! Protein structures: how near two of them are after the best superposition.

mod read;
mod score;
mod superpose;

pub use read::{Chain, Residue};
pub use score::{Pairs, Similarity, d0, similarity};
pub use superpose::{Superposition, superpose};

/// A point in ångström.
pub type Point = [f64; 3];
