//! Training: the loop of every stage, the optimiser, and one step of each kind.
//!
//! A stage implements [`Objective`] (batches, loss, validation) and gives it to a [`Trainer`], which owns
//! micro-batches, ranks, schedule, freezing, checkpoints, resume, the choice of the best and the early stop, all as the
//! recipe's [`TrainPlan`] says. [`AdamW`] owns the moments and the step count; [`pair_step`] and [`mlm_step`] are
//! single steps. A checkpoint is parameters plus [`AdamW::write`].

mod collective;
mod gradients;
mod loader;
mod moments;
mod objective;
mod optimizer;
mod plan;
mod precision;
mod ranks;
mod records;
mod step;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trainer;

pub use collective::{Alone, Collective, Ring};
pub use gradients::Gradients;
pub use objective::{Loss, Objective};
pub use optimizer::{AdamW, AdamWOptions, Schedule};
pub use plan::{Better, Metric, TrainPlan};
pub use precision::{LossScale, Precision};
pub use ranks::Ranks;
pub use step::{mlm_step, pair_loss, pair_step};
pub use trainer::{Trained, Trainer};
