//! Sets of labelled sequences: read, filtered, freed of duplicates, split and counted.

pub mod aromatic;
pub mod augment;
pub mod balance;
pub mod duplicates;
pub mod filter;
pub mod plan;
pub mod prepare;
pub mod read;
pub mod record;
pub mod report;
pub mod scaffold;
pub mod split;

pub use augment::SequenceAugmentation;
pub use balance::{Balance, BalancePlan};
pub use plan::SetPlan;
pub use prepare::prepare;
pub use record::{SequenceRecord, SequenceSet, Target};
