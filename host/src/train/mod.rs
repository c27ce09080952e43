//! Optimiser, schedule, and one training step of each kind.
//!
//! [`AdamW`] owns the moments and the step count; [`pair_step`] and [`mlm_step`] run forward, backward,
//! clipping and update, and give back the loss. A checkpoint is parameters plus [`AdamW::write`].

mod optimizer;
mod step;

pub use optimizer::{AdamW, AdamWOptions, Schedule};
pub use step::{mlm_step, pair_loss, pair_step};
