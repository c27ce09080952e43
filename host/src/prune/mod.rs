//! Smaller models out of trained ones: heads and feed-forward columns that matter least are taken out, or the smallest
//! weights set to zero.

mod importance;
mod magnitude;
mod page;
mod report;
mod shrink;
#[cfg(test)]
mod tests;

pub use importance::{Importance, Kept};
pub use magnitude::{Scope, apply, masks};
pub use page::page;
pub use report::{Budgets, Figures, Kind, Report, Spread, Step};
pub use shrink::shrink;
