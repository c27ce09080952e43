//! Protein structures: how near two of them are after the best superposition, and which residues correspond.

mod read;
mod score;
mod search;
mod superpose;
mod tmalign;

pub use read::{Chain, Residue};
pub use score::{Similarity, d0, similarity};
pub use superpose::{Superposition, superpose};
pub use tmalign::{MAX_RESIDUES, StructuralAlignment, structural_alignment};

/// A point in ångström.
pub type Point = [f64; 3];
/// Model and reference coordinates of paired residues.
pub type Pairs = [(Point, Point)];
