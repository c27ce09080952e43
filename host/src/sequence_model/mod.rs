//! A model of whole sequences on the sets of [`crate::sequence`]: rows and batches, the loss, logits without a
//! graph for gradients, figures, and what turns logits into answers.

mod answer;
mod batches;
pub mod counted;
mod figures;
mod floor;
mod infer;
mod objective;
mod refit;
mod truth;
mod wide;

pub use answer::fit;
pub use batches::{Epoch, pack};
pub use figures::figures;
pub use floor::{NGrams, blosum62};
pub use infer::{logits, observe};
pub(crate) use objective::scale;
pub use objective::{Labelled, Masked};
pub use refit::{Refit, pooled};
pub use truth::{Truth, predicted};
pub use wide::{Wide, WidePlan};
